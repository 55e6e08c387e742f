import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.fusion.bcast import BCastLayer
from gasmcast.fusion.config import FusionConfig
from gasmcast.fusion.exchange import place_index, place_table_size, repeat_tokens, time_window
from gasmcast.fusion.vanilla import VanillaLayer
from tests.layers.variables import drawn_variables

CONFIG = FusionConfig(heads=2, bottleneck=4, bcast_ffn_ratio=0.0, zero_init=False)
SEMANTIC = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float32)  # [B, T, N, D], a grid of 2 x 2
MOTION = np.random.default_rng(1).normal(size=(2, 3, 4, 8)).astype(np.float32)
LAYERS = pytest.mark.parametrize("layer", [BCastLayer, VanillaLayer])


def test_window_by_hand():
  assert time_window(4, 1).astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]


def test_pairs_of_times_become_pairs_of_tokens():
  pairs = jnp.asarray([[1, 2], [3, 4]])
  assert repeat_tokens(pairs, 2, 1).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]
  assert repeat_tokens(pairs, 1, 2).tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]


def test_offsets_on_one_line_by_hand():
  """Three points against three: 0 to 4 for offsets -2 to 2, shifted by the side 3."""
  assert place_index((1, 3), (1, 3), "signed")[0].tolist() == [7 * 1 + 3, 7 * 1 + 2, 7 * 1 + 1]
  assert (place_index((1, 3), (1, 3), "signed") - 7 - 3).tolist() == [[0, -1, -2], [1, 0, -1], [2, 1, 0]]
  assert place_index((1, 3), (1, 3), "absolute").tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]


def test_offsets_of_a_coarse_grid_are_told_in_steps_of_the_fine_one():
  """Centres of 4 points at 1, 3, 5, 7 eighths, of 2 at 2 and 6: in quarters -0.5, -2.5, 0.5, -1.5, ..., halves up."""
  assert (place_index((1, 4), (1, 2), "signed") - 9 - 4).tolist() == [[0, -2], [1, -1], [2, 0], [3, 1]]
  assert place_index((1, 4), (1, 2), "absolute").tolist() == [[1, 3], [1, 2], [2, 1], [3, 1]]


@pytest.mark.parametrize("kind", ["signed", "absolute"])
@pytest.mark.parametrize(("queries", "keys"), [((14, 14), (7, 7)), ((2, 3), (5, 4)), ((16, 16), (14, 14))])
def test_every_offset_has_a_place_in_the_table(queries, keys, kind):
  index = place_index(queries, keys, kind)
  assert index.shape == (queries[0] * queries[1], keys[0] * keys[1])
  assert index.min() >= 0 and index.max() < place_table_size(queries, keys, kind)


def test_equal_grids_share_an_entry_exactly_for_equal_offsets():
  points = np.stack(np.divmod(np.arange(12), 4), -1)
  offsets = [tuple(row) for row in (points[:, None] - points[None]).reshape(-1, 2).tolist()]
  entries = place_index((3, 4), (3, 4), "signed").ravel().tolist()
  assert len(set(zip(offsets, entries, strict=True))) == len(set(offsets)) == len(set(entries))


def weights_of(layer, **changes):
  net = layer(dataclasses.replace(CONFIG, **changes), 2, grid=(2, 2), motion_grid=(2, 2))
  variables = drawn_variables(net, SEMANTIC, MOTION)
  return net, variables, jax.jit(lambda v: net.apply(v, SEMANTIC, MOTION, capture=True))(variables)[2]


@LAYERS
def test_a_term_of_place_moves_attention_to_that_place(layer):
  """Where the term of offset (0, 0) is large and the others are nought, a patch sees the cell above it alone."""
  net, variables, _ = weights_of(layer)
  params = variables["params"]
  for name in ("motion_to_semantic", "semantic_to_motion"):
    params[f"{name}_bias"] = jnp.zeros_like(params[f"{name}_bias"])
    same = int(place_index((2, 2), (2, 2), "signed")[0, 0])
    params[f"{name}_place_bias"] = jnp.zeros((2, 25)).at[:, same].set(100.0)
  weights = jax.jit(lambda v: net.apply(v, SEMANTIC, MOTION, capture=True))(variables)[2]
  for array in weights.values():
    by_place = np.asarray(array).reshape(2, 2, 3, 4, 3, 4).sum(4).mean(2)  # over the times of keys and of queries
    np.testing.assert_allclose(by_place, np.broadcast_to(np.eye(4), by_place.shape), atol=1e-5)


@LAYERS
def test_weights_are_distributions(layer):
  _, _, weights = weights_of(layer)
  for array in weights.values():
    assert array.shape == (2, 2, 12, 12)
    np.testing.assert_allclose(array.sum(-1), np.ones((2, 2, 12)), atol=1e-6)


@LAYERS
def test_one_direction_changes_one_stream(layer):
  for direction, kept in (("motion_to_semantic", 1), ("semantic_to_motion", 0)):
    net = layer(dataclasses.replace(CONFIG, direction=direction), 1, grid=(2, 2), motion_grid=(2, 2))
    variables = drawn_variables(net, SEMANTIC, MOTION)
    result = jax.jit(net.apply)(variables, SEMANTIC, MOTION)
    np.testing.assert_array_equal(result[kept], (SEMANTIC, MOTION)[kept])
    assert np.abs(result[1 - kept] - (SEMANTIC, MOTION)[1 - kept]).max() > 0.1
