import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.fusion.bcast import BCastLayer, repeat_tokens, time_window
from gasmcast.fusion.config import FusionConfig
from tests.layers.variables import drawn_variables

CONFIG = FusionConfig(heads=2, bottleneck=4, bcast_ffn_ratio=2.0, zero_init=False)
SEMANTIC = np.random.default_rng(0).normal(size=(2, 4, 3, 6)).astype(np.float32)  # [B, T, N, D]
MOTION = np.random.default_rng(1).normal(size=(2, 4, 1, 5)).astype(np.float32)
MOTION_GRID = np.random.default_rng(2).normal(size=(2, 4, 2, 5)).astype(np.float32)


def run(config, motion=MOTION):
  layer = BCastLayer(config, window=1)
  variables = drawn_variables(layer, SEMANTIC, motion)
  return jax.jit(lambda v: layer.apply(v, SEMANTIC, motion, capture=True))(variables), variables


CODES = ("time_embedding", "space_embedding", "motion_space_embedding")
BIASES = ("motion_to_semantic_bias", "semantic_to_motion_bias")


@pytest.fixture(scope="module")
def initial():
  """Initial parameters of a layer with large tables of codes and biases."""
  layer = BCastLayer(FusionConfig(heads=8, bottleneck=64, bias_std=0.5), window=1)
  names = ("semantic_up", "motion_up", *CODES, *BIASES)

  def init(key):
    params = layer.init(key, jnp.ones((1, 40, 50, 6)), jnp.ones((1, 40, 30, 5)))["params"]
    return {name: params[name] for name in names}

  return jax.jit(init)(jax.random.key(0))


def test_window_by_hand():
  assert time_window(4, 1).astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]


def test_pairs_of_times_become_pairs_of_tokens():
  pairs = jnp.asarray([[1, 2], [3, 4]])
  assert repeat_tokens(pairs, 2, 1).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]
  assert repeat_tokens(pairs, 1, 2).tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]


@pytest.mark.parametrize("motion", [MOTION, MOTION_GRID], ids=["vector", "grid"])
def test_weights_are_distributions_inside_the_window(motion):
  (semantic, changed, weights), _ = run(CONFIG, motion)
  assert (semantic.shape, changed.shape) == (SEMANTIC.shape, motion.shape)
  frames, segments = np.repeat(np.arange(4), 3), np.repeat(np.arange(4), motion.shape[2])
  for name, query, key in (("motion_to_semantic", frames, segments), ("semantic_to_motion", segments, frames)):
    near = np.abs(query[:, None] - key[None]) <= 1
    assert weights[name].shape == (2, 2, *near.shape)
    np.testing.assert_allclose(weights[name].sum(-1), np.ones((2, 2, len(query))), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(weights[name])[..., ~near], 0)
    assert np.asarray(weights[name])[..., near].min() > 0


def test_both_directions_read_the_same_state():
  """What one direction alone gives is what it gives beside the other: neither sees the other's result."""
  (semantic, motion, _), variables = run(CONFIG)
  for direction, expected in (("motion_to_semantic", semantic), ("semantic_to_motion", motion)):
    layer = BCastLayer(dataclasses.replace(CONFIG, direction=direction), 1)
    alone = jax.jit(lambda v, layer=layer: layer.apply(v, SEMANTIC, MOTION))(variables)
    changed, kept = (0, 1) if direction == "motion_to_semantic" else (1, 0)
    np.testing.assert_allclose(alone[changed], expected, atol=1e-5)
    np.testing.assert_array_equal(alone[kept], (SEMANTIC, MOTION)[kept])


def test_one_direction_has_no_parameters_of_the_other():
  layer = BCastLayer(dataclasses.replace(CONFIG, direction="motion_to_semantic"), 1)
  params = jax.eval_shape(layer.init, jax.random.key(0), SEMANTIC, MOTION)["params"]
  assert {"semantic_up", "motion_down", "motion_to_semantic"} <= set(params)
  assert not {"motion_up", "motion_ffn", "semantic_to_motion", "semantic_to_motion_bias"} & set(params)


def test_up_projections_start_at_zero(initial):
  for stream in ("semantic", "motion"):
    assert not any(leaf.any() for leaf in jax.tree.leaves(initial[f"{stream}_up"]))


@pytest.mark.parametrize("name", CODES)
def test_codes_start_as_large_as_the_tokens_they_are_added_to(initial, name):
  assert float(initial[name].std()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("name", BIASES)
def test_biases_start_with_the_deviation_asked_for(initial, name):
  assert initial[name].shape == (8, 79)
  assert float(initial[name].std()) == pytest.approx(0.5, rel=0.1)


def test_shapes_of_the_codes():
  def shapes(motion, **changes):
    layer = BCastLayer(dataclasses.replace(CONFIG, **changes), 1)
    params = jax.eval_shape(layer.init, jax.random.key(0), SEMANTIC, motion)["params"]
    return {name: leaf.shape for name, leaf in params.items() if name.endswith(("embedding", "_bias"))}

  vector = {"time_embedding": (4, 4), "space_embedding": (3, 4)}
  assert shapes(MOTION, relative_bias="none") == vector
  assert shapes(MOTION_GRID, relative_bias="none") == vector | {"motion_space_embedding": (2, 4)}
  absolute = shapes(MOTION, relative_bias="absolute", time_embedding=False, space_embedding=False)
  assert absolute == {"motion_to_semantic_bias": (2, 4), "semantic_to_motion_bias": (2, 4)}
