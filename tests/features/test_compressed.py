"""Stored features become float32 inside jit, as numpy would make them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.features.compressed import expand
from gasmcast.store.compression import Variant, compress, decompress, name_parts


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 16), (2, 3, 16)])
def test_features_come_back_as_numpy_gives_them(precision, shape):
  x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  x[0, 0] *= 1e-6  # a scale at its lower limit
  parts = compress(x, Variant(precision=precision))
  found = jax.jit(lambda batch: expand(batch, "motion"))(name_parts("motion", parts))
  assert found.dtype == jnp.float32
  np.testing.assert_array_equal(found, decompress(parts))


def test_each_stream_has_scales_of_its_own():
  semantic = name_parts("semantic", compress(np.full((1, 2, 4), 127, np.float32), Variant(precision="int8")))
  motion = name_parts("motion", compress(np.full((1, 2, 4), 254, np.float32), Variant(precision="int8")))
  batch = semantic | motion
  assert (expand(batch, "semantic") == 127).all() and (expand(batch, "motion") == 254).all()


def test_what_is_missing_or_of_another_type_is_named():
  with pytest.raises(ConfigError, match="the batch holds no features 'motion' but frames, ok; use a store that"):
    expand({"ok": np.ones(1), "frames": np.ones(1)}, "motion")
  with pytest.raises(ConfigError, match="features 'motion' are int8 and the batch holds no 'motion_scale'; extract"):
    expand({"motion": np.zeros((1, 2, 3), np.int8)}, "motion")
  with pytest.raises(ConfigError, match="features 'motion' are of type int32; float32, bfloat16, int8 are understood"):
    expand({"motion": np.zeros((1, 2, 3), np.int32)}, "motion")
