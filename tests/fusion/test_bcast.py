import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.fusion.bcast import BCastLayer
from gasmcast.fusion.config import FusionConfig
from tests.layers.variables import drawn_variables

CONFIG = FusionConfig(heads=2, bottleneck=4, bcast_ffn_ratio=2.0, zero_init=False)
SEMANTIC = np.random.default_rng(0).normal(size=(2, 4, 3, 6)).astype(np.float32)  # [B, T, N, D]
MOTION = np.random.default_rng(1).normal(size=(2, 4, 1, 5)).astype(np.float32)
MOTION_GRID = np.random.default_rng(2).normal(size=(2, 4, 2, 5)).astype(np.float32)


def make(config, motion=MOTION):
  return BCastLayer(config, 1, grid=(1, 3), motion_grid=(1, motion.shape[2]))


def run(config, motion=MOTION):
  layer = make(config, motion)
  variables = drawn_variables(layer, SEMANTIC, motion)
  return jax.jit(lambda v: layer.apply(v, SEMANTIC, motion, capture=True))(variables), variables


CODES = ("time_embedding", "space_embedding", "motion_space_embedding")
BIASES = {f"{name}{kind}_bias" for name in ("motion_to_semantic", "semantic_to_motion") for kind in ("", "_place")}


@pytest.fixture(scope="module")
def initial():
  """Initial parameters of a layer with large tables of codes and biases."""
  layer = BCastLayer(FusionConfig(heads=8, bottleneck=64, bias_std=0.5), 1, grid=(5, 10), motion_grid=(5, 6))
  names = ("semantic_up", "motion_up", *CODES, *BIASES)

  def init(key):
    params = layer.init(key, jnp.ones((1, 40, 50, 6)), jnp.ones((1, 40, 30, 5)))["params"]
    return {name: params[name] for name in names}

  return jax.jit(init)(jax.random.key(0))


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
    layer = make(dataclasses.replace(CONFIG, direction=direction))
    alone = jax.jit(lambda v, layer=layer: layer.apply(v, SEMANTIC, MOTION))(variables)
    changed, kept = (0, 1) if direction == "motion_to_semantic" else (1, 0)
    np.testing.assert_allclose(alone[changed], expected, atol=1e-5)
    np.testing.assert_array_equal(alone[kept], (SEMANTIC, MOTION)[kept])


def test_one_direction_has_no_parameters_of_the_other():
  layer = make(dataclasses.replace(CONFIG, direction="motion_to_semantic"))
  params = jax.eval_shape(layer.init, jax.random.key(0), SEMANTIC, MOTION)["params"]
  assert {"semantic_up", "motion_down", "motion_to_semantic"} <= set(params)
  assert not {"motion_up", "motion_ffn", "semantic_to_motion", "semantic_to_motion_bias"} & set(params)


def test_up_projections_start_at_zero(initial):
  for stream in ("semantic", "motion"):
    assert not any(leaf.any() for leaf in jax.tree.leaves(initial[f"{stream}_up"]))


@pytest.mark.parametrize("name", CODES)
def test_codes_start_as_large_as_the_tokens_they_are_added_to(initial, name):
  assert float(initial[name].std()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("name", sorted(BIASES))
def test_biases_start_with_the_deviation_asked_for(initial, name):
  assert initial[name].shape == (8, 11 * 21 if "place" in name else 79)
  assert float(initial[name].std()) == pytest.approx(0.5, rel=0.1)


def test_shapes_of_the_codes():
  def shapes(motion, **changes):
    layer = make(dataclasses.replace(CONFIG, **changes), motion)
    params = jax.eval_shape(layer.init, jax.random.key(0), SEMANTIC, motion)["params"]
    return {name: leaf.shape for name, leaf in params.items() if name.endswith(("embedding", "_bias"))}

  vector = {"time_embedding": (4, 4), "space_embedding": (3, 4)}
  assert shapes(MOTION, relative_bias="none") == vector
  assert shapes(MOTION_GRID, relative_bias="none") == vector | {"motion_space_embedding": (2, 4)}
  absolute = shapes(MOTION, relative_bias="absolute", time_embedding=False, space_embedding=False)
  assert absolute == {"motion_to_semantic_bias": (2, 4), "semantic_to_motion_bias": (2, 4)}
  placed = shapes(MOTION_GRID, time_embedding=False, space_embedding=False)
  assert placed == {name: (2, 3 * 7 if "place" in name else 7) for name in BIASES}
  assert set(shapes(MOTION_GRID, place_bias=False)) & BIASES == set(absolute)
