"""DINOv3: exact size, token layout, and what its rotary codes may and may not change."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.features.dinov3 import DINOv3, DINOv3Config, rope_angles, rotate

TINY = DINOv3Config(width=16, depth=2, heads=2, mlp_width=32, patch=4, image_size=16)


def _frames(height=16, width=16):
  return jnp.float32(np.random.default_rng(0).standard_normal((2, 3, height, width, 3)))


@pytest.mark.parametrize(
  ("sizes", "parameters"),
  [
    ({}, 85_660_416 - 768),
    ({"width": 384, "heads": 6, "mlp_width": 1536}, 21_596_544 - 384),
    ({"width": 384, "heads": 6, "mlp_width": 1536, "gated_mlp": True}, 28_692_864 - 384),
    ({"width": 1024, "depth": 24, "heads": 16, "mlp_width": 4096}, 303_129_600 - 1024),
  ],
  ids=["B", "S", "S+", "L"],
)
def test_published_sizes(sizes, parameters):
  """The published counts hold a mask token of one width that inference does not use."""
  clip = jax.ShapeDtypeStruct((1, 1, 224, 224, 3), jnp.float32)
  variables = jax.eval_shape(DINOv3(DINOv3Config(**sizes)).init, jax.random.key(0), clip)
  assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == parameters


def test_tokens_are_class_registers_and_patches_of_each_frame():
  frames = _frames(16, 24)
  net = DINOv3(TINY)
  variables = net.init(jax.random.key(0), frames)
  outputs = jax.jit(net.apply)(variables, frames)
  assert outputs["tokens"].shape == (2, 3, 24, 16)
  assert outputs["cls"].shape == (2, 3, 16)
  assert outputs["registers"].shape == (2, 3, 4, 16)
  for leaf in outputs.values():  # after a LayerNorm with unit scale
    np.testing.assert_allclose(leaf.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(leaf.std(-1), 1, atol=1e-2)


def test_frames_are_independent_of_each_other():
  frames = _frames()
  net = DINOv3(TINY)
  variables = net.init(jax.random.key(0), frames)
  apply = jax.jit(net.apply)
  changed = apply(variables, frames.at[:, 1].set(0.0))["tokens"]
  np.testing.assert_allclose(changed[:, ::2], apply(variables, frames)["tokens"][:, ::2], atol=1e-6)


def test_angles_by_hand():
  """A 1 x 2 grid: row centre 0, column centres -1/2 and 1/2; frequencies 1 and 1/10 for heads of width 8."""
  angles = rope_angles(1, 2, 8)
  expected = [0, 0, -math.pi, -math.pi / 10]
  np.testing.assert_allclose(angles[0], expected * 2, atol=1e-6)
  np.testing.assert_allclose(angles[1], [-a for a in expected] * 2, atol=1e-6)


def test_rotation_keeps_lengths_and_the_prefix():
  x = jnp.float32(np.random.default_rng(0).standard_normal((1, 2, 7, 8)))
  angles = rope_angles(2, 2, 8)
  turned = rotate(x, angles)
  np.testing.assert_array_equal(turned[:, :, :3], x[:, :, :3])
  np.testing.assert_allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)
  c, s = np.cos(angles[0, 0]), np.sin(angles[0, 0])
  np.testing.assert_allclose(turned[0, 0, 3, 0], x[0, 0, 3, 0] * c - x[0, 0, 3, 4] * s, rtol=1e-4, atol=1e-6)


def test_products_of_rotated_vectors_depend_on_the_offset_alone():
  q, k = (jnp.float32(np.random.default_rng(seed).standard_normal((1, 1, 1, 16))) for seed in (0, 1))
  grid = (5, 5)
  angles = rope_angles(*grid, 16)
  rotated = lambda x: rotate(jnp.repeat(x, 25, axis=2), angles)[0, 0].reshape(*grid, 16)
  q, k = rotated(q), rotated(k)
  np.testing.assert_allclose(q[0, 0] @ k[1, 2], q[3, 2] @ k[4, 4], rtol=1e-4)
  assert abs(float(q[0, 0] @ k[1, 2] - q[1, 2] @ k[0, 0])) > 1e-3  # and the offset is signed


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"width": 12, "heads": 2}, "a head's width must be a multiple of 4"),
    ({"image_size": 20, "patch": 16}, "image_size = 20 is not a multiple of the patch size 16"),
  ],
)
def test_impossible_sizes_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    DINOv3Config(**fields)


def test_frames_that_do_not_divide_into_patches_are_refused():
  with pytest.raises(DataError, match="18 x 16 pixels do not divide into patches of 4"):
    DINOv3(TINY).init(jax.random.key(0), _frames(18, 16))
