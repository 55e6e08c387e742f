import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.fusion.config import FusionConfig, StreamGraph
from gasmcast.fusion.graph import BottleneckGraphBlock, GraphBlock
from gasmcast.fusion.neighbours import Neighbourhood, neighbourhood
from gasmcast.layers.attention import MultiHeadAttention
from tests.layers.variables import drawn_variables

CONFIG = FusionConfig(heads=2, bottleneck=4)
GRAPH = StreamGraph(blocks=1, sides=(3, 3), radius=(1, 1), nearest=2)
X = np.random.default_rng(0).normal(size=(2, 2, 9, 8)).astype(np.float32)  # [B, T, N, D]


def neighbours_of(config, x=X):
  gathered = config.graph_score == "gatv2"
  return neighbourhood(jnp.asarray(x), GRAPH, config.graph_neighbours, config.relative_bias, gathered)


def make(config, neighbours):
  """A block, compiled, and parameters for it."""
  block = GraphBlock(config, GRAPH.sides)
  params = drawn_variables(block, X, neighbours)["params"]
  return jax.jit(lambda p, x, n: block.apply({"params": p}, x, n, capture=True)), params


def dense_mask(neighbours):
  if neighbours.index is None:
    return np.asarray(neighbours.mask)
  mask = np.zeros((*neighbours.mask.shape[:-1], neighbours.mask.shape[-2]), bool)
  for place in np.argwhere(np.asarray(neighbours.mask)):
    mask[(*place[:-1], np.asarray(neighbours.index)[tuple(place)])] = True
  return mask


CASES = [("structural", "dot"), ("both", "dot"), ("random", "dot"), ("both", "gatv2")]


@pytest.mark.parametrize(("kind", "score"), CASES)
def test_weights_are_a_distribution_over_the_neighbours(kind, score):
  config = dataclasses.replace(CONFIG, graph_neighbours=kind, graph_score=score)
  neighbours = neighbours_of(config)
  apply, params = make(config, neighbours)
  _, weights = apply(params, X, neighbours)
  assert weights.shape == (2, 2, 2, 9, 9)  # [B, T, K, N, N]
  np.testing.assert_allclose(weights.sum(-1), np.ones((2, 2, 2, 9)), atol=1e-6)
  edges = np.broadcast_to(dense_mask(neighbours)[:, :, None], weights.shape)
  np.testing.assert_array_equal(np.asarray(weights)[~edges], 0)
  assert np.asarray(weights)[edges].min() > 0


def test_complete_graph_without_bias_is_multi_head_attention():
  config = dataclasses.replace(
    CONFIG, graph_neighbours="complete", graph_ffn_ratio=0.0, layer_scale=0.0, relative_bias="none"
  )
  neighbours = neighbours_of(config)
  apply, params = make(config, neighbours)
  params |= {
    "similarity_scale": jnp.zeros(2),
    "norm": {"scale": jnp.ones(8), "bias": jnp.zeros(8)},
  }
  y, _ = apply(params, X, neighbours)
  normed = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-6)
  attention = MultiHeadAttention(2, 8, 8)
  expected = jax.jit(lambda p, x: attention.apply({"params": p}, x, x)[0])(params["attention"], normed)
  np.testing.assert_allclose(y, X + expected, atol=1e-5)


@pytest.mark.parametrize("score", ["dot", "gatv2"])
def test_without_the_term_of_similarity_it_is_the_block_whose_scale_is_zero(score):
  config = dataclasses.replace(CONFIG, graph_score=score)
  neighbours = neighbours_of(config)
  apply, params = make(config, neighbours)
  plain, without = make(dataclasses.replace(config, similarity_bias=False), neighbours)
  assert set(params) - set(without) == {"similarity_scale"}
  expected, weights = apply(params | {"similarity_scale": jnp.zeros(2)}, X, neighbours)
  del params["similarity_scale"]
  found, plain_weights = plain(params, X, neighbours)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  np.testing.assert_allclose(plain_weights, weights, atol=1e-6)


@pytest.mark.parametrize("score", ["dot", "gatv2"])
def test_permuting_nodes_and_metadata_permutes_the_result(score):
  config = dataclasses.replace(CONFIG, graph_score=score)
  neighbours = neighbours_of(config)
  apply, params = make(config, neighbours)
  order = np.random.default_rng(1).permutation(9)
  if score == "dot":  # every field is [..., N, N]
    fields = [x[..., order, :][..., order] for x in neighbours[:3]]
    permuted = Neighbourhood(*fields)
  else:  # every field is [..., N, M]; `index` names nodes, which have moved to the places of `order`
    *fields, index = (x[..., order, :] for x in neighbours)
    permuted = Neighbourhood(*fields, jnp.asarray(np.argsort(order))[index])
  y, _ = apply(params, X, neighbours)
  moved, _ = apply(params, X[..., order, :], permuted)
  np.testing.assert_allclose(moved, np.asarray(y)[..., order, :], atol=1e-5)
  unmoved, _ = apply(params, X[..., order, :], neighbours)
  assert np.abs(unmoved - y[..., order, :]).max() > 1e-2  # metadata matter


def test_frames_do_not_see_each_other():
  apply, params = make(CONFIG, neighbours_of(CONFIG))
  other = X.copy()
  other[:, 1] += np.random.default_rng(2).normal(size=other[:, 1].shape)
  before, after = (apply(params, x, neighbours_of(CONFIG, x))[0] for x in (X, other))
  np.testing.assert_array_equal(before[:, 0], after[:, 0])
  assert np.abs(before[:, 1] - after[:, 1]).min(axis=(1, 2)).max() > 0


def test_gathered_gatv2_is_the_dense_formula():
  """Brody et al. (2022), equation 7, over all N * N pairs with a mask."""
  config = dataclasses.replace(CONFIG, graph_score="gatv2", graph_ffn_ratio=0.0, layer_scale=0.0)
  neighbours = neighbours_of(config)
  apply, params = make(config, neighbours)
  dense = neighbours_of(dataclasses.replace(config, graph_score="dot"))
  p = jax.tree.map(np.asarray, params)
  h = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-6)
  h = h * p["norm"]["scale"] + p["norm"]["bias"]
  q, k, v = (
    (h @ p["attention"][name]["kernel"] + p["attention"][name]["bias"]).reshape(2, 2, 9, 2, 4)
    for name in ("query", "key", "value")
  )
  pairs = q[:, :, :, None] + k[:, :, None]  # [B, T, N, N, K, E]
  scores = np.einsum("btijke,ke->btkij", np.where(pairs > 0, pairs, 0.2 * pairs), p["attention"]["score"])
  scores += p["offset_bias"][:, dense.offset]
  scores += p["similarity_scale"][:, None, None] * np.asarray(dense.similarity)[:, :, None]
  scores = np.where(np.asarray(dense.mask)[:, :, None], scores, -np.inf)
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  z = np.einsum("btkij,btjke->btike", weights, v).reshape(2, 2, 9, 8)
  expected = X + z @ p["attention"]["out"]["kernel"] + p["attention"]["out"]["bias"]
  y, captured = apply(params, X, neighbours)
  np.testing.assert_allclose(captured, weights, atol=1e-5)
  np.testing.assert_allclose(y, expected, atol=1e-4)


def test_gatv2_never_forms_all_pairs_of_vectors():
  """196 nodes with 17 neighbours: the largest array of the trace holds 196 * 17 * D numbers, not 196 * 196 * D."""
  config = dataclasses.replace(CONFIG, graph_score="gatv2")
  graph, width = StreamGraph(1, (14, 14), (1, 1), 8), 64

  def apply(x):
    neighbours = neighbourhood(x, graph, "both", "signed", gathered=True)
    return GraphBlock(config, graph.sides).init_with_output(jax.random.key(0), x, neighbours)[0][0]

  sizes = [v.aval.size for equation in jax.make_jaxpr(apply)(jnp.ones((1, 196, width))).eqns for v in equation.outvars]
  assert max(sizes) == 196 * 17 * width


def test_bottleneck_works_at_its_own_width_and_starts_without_effect():
  neighbours = neighbours_of(CONFIG)
  block = BottleneckGraphBlock(CONFIG, GRAPH.sides)
  variables = drawn_variables(block, X, neighbours)
  params = variables["params"]
  assert set(params) == {"down_norm", "down", "block", "up"}
  assert params["block"]["attention"]["query"]["kernel"].shape == (4, 4)
  apply = jax.jit(lambda v: block.apply(v, X, neighbours, capture=True))
  y, weights = apply(variables)
  assert weights.shape == (2, 2, 2, 9, 9)
  assert np.abs(y - X).max() > 1e-2
  initial = jax.jit(lambda: block.init(jax.random.key(0), X, neighbours)["params"]["up"])()
  np.testing.assert_array_equal(apply({"params": params | {"up": initial}})[0], X)


def test_absolute_and_no_bias_have_smaller_tables():
  sizes = {}
  for kind in ("signed", "absolute", "none"):
    config = dataclasses.replace(CONFIG, relative_bias=kind)
    params = jax.eval_shape(GraphBlock(config, (3, 3)).init, jax.random.key(0), X, neighbours_of(config))["params"]
    sizes[kind] = params["offset_bias"].shape if "offset_bias" in params else None
  assert sizes == {"signed": (2, 25), "absolute": (2, 9), "none": None}
