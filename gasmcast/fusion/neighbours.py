"""Who attends to whom in a graph: content-independent neighbours, and the nearest by similarity of frozen features."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gasmcast.core import rng
from gasmcast.fusion.config import Neighbours, StreamGraph
from gasmcast.fusion.metadata import lattice


class Neighbourhood(NamedTuple):
  """The neighbours of each of N nodes, the node itself included, in one of two forms.

  Dense: `mask` bool [..., N, N] and `index` None; `similarity` float32 [..., N, N].
  Gathered: `index` int [..., N, M] names the neighbours, `mask` bool [..., N, M] tells which entries are real
  (nodes differ in degree), `similarity` is [..., N, M].
  """

  mask: Bool[Array, "..."]
  similarity: Float[Array, "..."]
  index: Int[Array, "..."] | None = None


def cosine(x: Float[Array, "*batch N D"]) -> Float[Array, "*batch N N"]:
  """Cosine between the nodes of each graph, centred on the graph's mean, float32, without a gradient."""
  x = jax.lax.stop_gradient(x).astype(jnp.float32)
  x = x - x.mean(-2, keepdims=True)
  x = x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)
  return jnp.einsum("...id,...jd->...ij", x, x)


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


def neighbourhood(x: Float[Array, "*batch N D"], kind: Neighbours, graph: StreamGraph, gathered: bool) -> Neighbourhood:
  """The neighbours in each `[N, D]` of frozen features.

  Args:
    x: features whose similarity counts; no gradient flows into them.
    kind: see `FusionConfig.graph_neighbours`, except "none".
    graph: on which nodes; neighbours by similarity are chosen among those that are not structural neighbours.
    gathered: which form is wanted.
  """
  fixed, count = fixed_neighbours(kind, graph)
  similarity = cosine(x)
  index, found = nearest(similarity, count, fixed)
  if gathered:
    return _gather(fixed, index, found, similarity)
  near = jnp.put_along_axis(jnp.zeros(similarity.shape, bool), index, found, axis=-1, inplace=False)
  return Neighbourhood(near | fixed, similarity)


def _gather(fixed: Bool[np.ndarray, "N N"], index: Array, found: Array, similarity: Array) -> Neighbourhood:
  most = fixed.sum(1).max()
  order = np.argsort(~fixed, axis=1, kind="stable")[:, :most]  # neighbours first, in ascending order
  real = np.take_along_axis(fixed, order, axis=1)
  leading = similarity.shape[:-1]
  index = jnp.concatenate([jnp.broadcast_to(order, (*leading, most)), index], -1)
  mask = jnp.concatenate([jnp.broadcast_to(real, (*leading, most)), found], -1)
  return Neighbourhood(mask, jnp.take_along_axis(similarity, index, -1), index)
