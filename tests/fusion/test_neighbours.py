import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.fusion.config import StreamGraph
from gasmcast.fusion.metadata import lattice
from gasmcast.fusion.neighbours import cosine, most_neighbours, nearest, neighbourhood, random_graph

GRID = StreamGraph(blocks=1, sides=(3, 3), radius=(1, 1), nearest=2)
SEGMENTS = StreamGraph(blocks=1, sides=(5,), radius=(1,), nearest=2)
X = np.random.default_rng(0).normal(size=(2, 9, 4)).astype(np.float32)


def mask(kind, graph=GRID, x=X):
  return np.asarray(neighbourhood(x, graph, kind, "signed", gathered=False).mask)


def test_cosine_is_centred():
  """Four points of a line, two on each side of their mean: 1 on one side, -1 across."""
  side = np.asarray([-1, -1, 1, 1])
  x = 7 + np.asarray([[-2.0, 0], [-1, 0], [1, 0], [2, 0]])
  np.testing.assert_allclose(cosine(jnp.asarray(x)), np.outer(side, side), atol=1e-6)


def test_cosine_of_equal_nodes_is_finite():
  np.testing.assert_array_equal(cosine(jnp.ones((3, 2))), np.zeros((3, 3)))


def test_no_gradient_flows_into_the_features():
  gradient = jax.grad(lambda x: neighbourhood(x, GRID, "both", "none", False).similarity.sum())(jnp.asarray(X))
  np.testing.assert_array_equal(gradient, np.zeros_like(X))


def test_nearest_by_hand():
  similarity = jnp.asarray([[1.0, 0.9, 0.1], [0.9, 1, 0.5], [0.1, 0.5, 1]])
  index, found = nearest(similarity, 1, np.eye(3, dtype=bool))
  np.testing.assert_array_equal(index[:, 0], [1, 0, 1])
  assert found.all()


def test_nearest_says_where_there_are_too_few():
  """Of five segments with |s - s'| <= 1 excluded, the outer ones have three others and the inner ones two."""
  _, found = nearest(jnp.zeros((5, 5)), 3, lattice(5).within((1,)))
  np.testing.assert_array_equal(found.sum(1), [3, 2, 2, 2, 3])


def test_structural_neighbours_are_a_square():
  for one in mask("structural"):
    np.testing.assert_array_equal(one, lattice(3, 3).chebyshev <= 1)


def test_both_adds_the_nearest_outside_the_square():
  structural = lattice(3, 3).within((1, 1))
  extra = mask("both") & ~structural
  np.testing.assert_array_equal(mask("both") & structural, np.broadcast_to(structural, (2, 9, 9)))
  outside = 9 - structural.sum(1)
  np.testing.assert_array_equal(extra.sum(-1), np.broadcast_to(np.minimum(2, outside), (2, 9)))
  similarity = np.where(structural, -2, np.asarray(cosine(jnp.asarray(X))))
  best = np.sort(similarity, -1)[..., -2:].min(-1, keepdims=True)
  np.testing.assert_array_equal(extra, (similarity >= best) & ~structural)


def test_similarity_alone_counts_the_nearest_and_the_node_itself():
  found = mask("similarity")
  np.testing.assert_array_equal(found.sum(-1), np.full((2, 9), 3))
  assert found[:, np.arange(9), np.arange(9)].all()


def test_random_graph_has_the_degrees_of_both():
  np.testing.assert_array_equal(mask("random").sum(-1), mask("both").sum(-1))
  np.testing.assert_array_equal(mask("random")[0], mask("random")[1])  # content plays no part
  np.testing.assert_array_equal(random_graph(np.full(6, 3)), random_graph(np.full(6, 3)))
  assert random_graph(np.full(6, 3)).diagonal().all()


def test_complete_graph():
  assert mask("complete").all()


@pytest.mark.parametrize("kind", ["structural", "similarity", "both", "random"])
@pytest.mark.parametrize("graph", [GRID, SEGMENTS])
def test_gathered_form_names_the_same_pairs(kind, graph):
  x = X[:, : graph.size]
  dense, gathered = (
    jax.tree.map(np.asarray, neighbourhood(x, graph, kind, "signed", gathered=form)) for form in (False, True)
  )
  assert gathered.index.shape[-1] == most_neighbours(kind, graph)
  seen = np.zeros(dense.mask.shape, int)
  for place in np.argwhere(gathered.mask):
    batch, i, j = place[0], place[1], gathered.index[tuple(place)]
    seen[batch, i, j] += 1
    assert gathered.similarity[tuple(place)] == dense.similarity[batch, i, j]
    assert gathered.offset[tuple(place)] == dense.offset[i, j]
  np.testing.assert_array_equal(seen, dense.mask)  # each neighbour once


def test_a_patch_of_a_frame_has_at_most_seventeen_neighbours():
  assert most_neighbours("both", StreamGraph(1, (14, 14), (1, 1), 8)) == 17
