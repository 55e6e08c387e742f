import jax
import numpy as np

from gasmcast.heads.join import Join
from tests.layers.variables import drawn_variables

A = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)  # [B, D]
B = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
VECTORS = {"semantic": A, "motion": B}


def apply(join, vectors=VECTORS):
  variables = drawn_variables(join, vectors)
  joined = jax.jit(lambda v: join.apply(v, vectors))(variables)  # as an argument of jit a dict would be sorted
  return np.asarray(joined), variables["params"]


def project(x, norm, linear):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  return (x * norm["scale"] + norm["bias"]) @ linear["kernel"] + linear["bias"]


def test_concatenation_has_no_parameters():
  joined = Join("concat")
  assert not jax.eval_shape(joined.init, jax.random.key(0), VECTORS)
  np.testing.assert_array_equal(joined.apply({}, VECTORS), np.concatenate([A, B], -1))


def test_a_product_by_hand():
  joined, params = apply(Join("product", 5))
  factors = [project(VECTORS[name], params[f"{name}_norm"], params[name]) for name in VECTORS]
  np.testing.assert_allclose(joined, factors[0] * factors[1], atol=1e-5)


def test_a_hidden_layer_by_hand():
  joined, params = apply(Join("mlp", 5))
  hidden = project(np.concatenate([A, B], -1), params["hidden_norm"], params["hidden"])
  np.testing.assert_allclose(joined, jax.nn.gelu(hidden, approximate=False), atol=1e-5)


def test_one_stream_alone_is_joined_with_nothing():
  joined, params = apply(Join("product", 5), {"motion": B})
  np.testing.assert_allclose(joined, project(B, params["motion_norm"], params["motion"]), atol=1e-5)


def test_frames_are_joined_each():
  frames = {name: np.stack([x, 2 * x, x + 1], 1) for name, x in VECTORS.items()}  # [B, T, D]
  together, params = apply(Join("product", 5), frames)
  variables = {"params": params}
  each = np.stack([Join("product", 5).apply(variables, {n: x[:, t] for n, x in frames.items()}) for t in range(3)], 1)
  np.testing.assert_allclose(together, each, atol=1e-5)
