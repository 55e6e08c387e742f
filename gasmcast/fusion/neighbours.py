"""Who attends to whom in a graph: content-independent neighbours, and the nearest by similarity of frozen features."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gasmcast.core import rng
from gasmcast.fusion.config import Neighbours, RelativeBias, StreamGraph
from gasmcast.fusion.metadata import lattice, offset_index


class Neighbourhood(NamedTuple):
  """The neighbours of each of N nodes, the node itself included, in one of two forms.

  Dense: for all pairs of nodes, [..., N, N]; `index` is None.
  Gathered: for each node and M others, [..., N, M], named by `index`; where nodes differ in degree, `mask` tells
  which entries are real.

  Attributes:
    mask: whether the pair are neighbours.
    similarity: their cosine.
    offset: the position of their offset in the table of biases (see `metadata.offset_index`); None without biases.
    index: the second node of each gathered pair.
  """

  mask: Bool[Array, "..."]
  similarity: Float[Array, "..."]
  offset: Int[Array, "..."] | None
  index: Int[Array, "..."] | None = None


def cosine(x: Float[Array, "*batch N D"]) -> Float[Array, "*batch N N"]:
  """Cosine between the nodes of each graph, centred on the graph's mean, float32, without a gradient.

  A node at the mean is alike to none: its cosines are 0.
  """
  x = jax.lax.stop_gradient(x).astype(jnp.float32)
  x = x - x.mean(-2, keepdims=True)
  scale = jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1), 1e-12))
  product = jnp.einsum("...id,...jd->...ij", x, x)  # scaled afterwards: N * N numbers, and XLA on a CPU is 3x faster
  return product * scale[..., :, None] * scale[..., None, :]


def nearest(
  similarity: Float[Array, "*batch N N"], count: int, exclude: Bool[np.ndarray, "N N"]
) -> tuple[Int[Array, "*batch N M"], Bool[Array, "*batch N M"]]:
  """The `count` most similar nodes of each node among those not excluded, and whether there were so many."""
  candidates = jnp.where(exclude, -jnp.inf, similarity)
  values, index = jax.lax.top_k(candidates, min(count, similarity.shape[-1]))
  return index, jnp.isfinite(values)


def random_graph(degrees: Int[np.ndarray, "N"], seed: int = 0) -> Bool[np.ndarray, "N N"]:
  """A fixed directed graph in which node i sees itself and `degrees[i] - 1` others, drawn without repetition."""
  nodes = len(degrees)
  generator = rng.generator(seed, "random graph", nodes)
  mask = np.eye(nodes, dtype=bool)
  for i, degree in enumerate(degrees):
    others = np.delete(np.arange(nodes), i)
    mask[i, generator.choice(others, degree - 1, replace=False)] = True
  return mask


def fixed_neighbours(kind: Neighbours, graph: StreamGraph) -> tuple[Bool[np.ndarray, "N N"], int]:
  """The content-independent part of the graph, and how many neighbours by similarity are to be added."""
  nodes, count = lattice(*graph.sides), graph.nearest
  structural = nodes.within(graph.radius)
  match kind:
    case "structural":
      return structural, 0
    case "similarity":
      return np.eye(nodes.size, dtype=bool), count
    case "both":
      return structural, count
    case "complete":
      return np.ones((nodes.size, nodes.size), bool), 0
    case "random":
      return random_graph(np.minimum(structural.sum(1) + count, nodes.size)), 0
  raise ValueError(f"{kind!r} names no graph")


def most_neighbours(kind: Neighbours, graph: StreamGraph) -> int:
  """The entries M that each node gets in the gathered form."""
  fixed, count = fixed_neighbours(kind, graph)
  return int(fixed.sum(1).max()) + min(count, graph.size)


def neighbourhood(
  x: Float[Array, "*batch N D"], graph: StreamGraph, kind: Neighbours, bias: RelativeBias, gathered: bool
) -> Neighbourhood:
  """The neighbours in each `[N, D]` of frozen features.

  Args:
    x: features whose similarity counts; no gradient flows into them.
    graph: on which nodes; neighbours by similarity are chosen among those that are not structural neighbours.
    kind: see `FusionConfig.graph_neighbours`, except "none".
    bias: the kind of offsets that are wanted.
    gathered: which form is wanted.
  """
  fixed, count = fixed_neighbours(kind, graph)
  similarity = cosine(x)
  index, found = nearest(similarity, count, fixed)
  offset = None if bias == "none" else jnp.asarray(offset_index(lattice(*graph.sides), bias))
  if not gathered:
    near = jnp.put_along_axis(jnp.zeros(similarity.shape, bool), index, found, axis=-1, inplace=False)
    return Neighbourhood(near | fixed, similarity, offset)
  first, real = _pad(fixed)
  index = jnp.concatenate([jnp.broadcast_to(first, (*x.shape[:-1], first.shape[-1])), index], -1)
  mask = jnp.concatenate([jnp.broadcast_to(real, (*x.shape[:-1], real.shape[-1])), found], -1)
  offset = None if offset is None else offset[np.arange(graph.size)[:, None], index]
  return Neighbourhood(mask, jnp.take_along_axis(similarity, index, -1), offset, index)


def _pad(fixed: Bool[np.ndarray, "N N"]) -> tuple[Int[np.ndarray, "N M"], Bool[np.ndarray, "N M"]]:
  """The neighbours of each node in ascending order, filled up with others to the greatest degree; which are real."""
  order = np.argsort(~fixed, axis=1, kind="stable")[:, : fixed.sum(1).max()]
  return order, np.take_along_axis(fixed, order, axis=1)
