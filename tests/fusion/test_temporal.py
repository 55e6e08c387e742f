"""Codes of time by hand, and the transformer over frames: its size, its formula, and that it knows the order."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.core.rules import flatten
from gasmcast.fusion.temporal import EncoderLayer, TemporalTransformer, sinusoidal_codes
from tests.layers.variables import drawn_variables

X = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)  # [B, T, D]
TINY = {"layers": 2, "heads": 2, "hidden": 12}


def norm(x, p):
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def dense(x, p):
  return x @ p["kernel"] + p["bias"]


def gelu(x):
  return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def attend(x, sources, p, heads):
  """Multi-head attention in NumPy, with its output projection."""
  parts = [dense(y, p[name]) for name, y in (("query", x), ("key", sources), ("value", sources))]
  query, key, value = (y.reshape(*y.shape[:2], heads, -1).transpose(0, 2, 1, 3) for y in parts)
  e = np.exp(query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1]))
  z = (e / e.sum(-1, keepdims=True)) @ value
  return dense(z.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1), p["out"])


def count(module, *inputs):
  params = flatten(jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"])
  return sum(math.prod(leaf.shape) for leaf in params.values())


class TestCodes:
  def test_two_moments_by_hand(self):
    expected = [[0, 1, 0, 1], [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]]
    np.testing.assert_allclose(sinusoidal_codes(2, 4), expected, atol=1e-7)

  def test_every_moment_has_its_own(self):
    codes = sinusoidal_codes(200, 128)
    assert codes.dtype == np.float32 and codes.shape == (200, 128)
    distances = np.linalg.norm(codes[:, None] - codes[None], axis=-1) + np.eye(200)
    assert distances.min() > 0.5

  def test_an_odd_width_is_refused(self):
    with pytest.raises(ConfigError, match="codes of width 5: sines and cosines come in pairs; use an even width"):
      sinusoidal_codes(2, 5)


def test_the_published_size():
  """Q, K, V, O of 2048; 2048 -> 8192 -> 2048; two norms. Twice, and 8 positions; no norm at the end."""
  x = jax.ShapeDtypeStruct((1, 8, 2048), jnp.float32)
  layer = 4 * (2048 * 2048 + 2048) + (2048 * 8192 + 8192 + 8192 * 2048 + 2048) + 2 * 2 * 2048
  assert count(EncoderLayer(8, 8192), x) == layer == 50_358_272
  assert count(TemporalTransformer(2, 8, 8192), x) == 2 * layer + 8 * 2048 == 100_716_544 + 16_384


def test_the_formula():
  transformer = TemporalTransformer(**TINY)
  variables = drawn_variables(transformer, X)
  p = jax.tree.map(np.asarray, variables["params"])
  x = X + p["positions"]
  for layer in (p["layer_0"], p["layer_1"]):
    x = norm(x + attend(x, x, layer["attention"], 2), layer["attention_norm"])
    x = norm(x + dense(gelu(dense(x, layer["ffn"]["hidden"])), layer["ffn"]["out"]), layer["ffn_norm"])
  np.testing.assert_allclose(jax.jit(transformer.apply)(variables, X)[0], x, atol=2e-5)


def test_what_comes_out_is_normalised_whatever_comes_in():
  """Why no further norm is needed."""
  transformer = TemporalTransformer(**TINY)
  variables = drawn_variables(transformer, X)
  variables["params"]["layer_1"]["ffn_norm"] = {"scale": jnp.ones(8), "bias": jnp.zeros(8)}
  out = np.asarray(jax.jit(transformer.apply)(variables, 100 * X)[0])
  np.testing.assert_allclose(out.mean(-1), 0, atol=1e-5)
  np.testing.assert_allclose(out.std(-1), 1, atol=1e-3)


def test_the_order_of_frames_matters_by_the_positions_alone():
  transformer = TemporalTransformer(**TINY)
  variables, apply = drawn_variables(transformer, X), jax.jit(transformer.apply)
  turned = np.asarray(apply(variables, X[:, ::-1])[0])[:, ::-1]
  assert np.abs(turned - apply(variables, X)[0]).max() > 0.1
  variables["params"]["positions"] = jnp.zeros((3, 8))
  turned = np.asarray(apply(variables, X[:, ::-1])[0])[:, ::-1]
  np.testing.assert_allclose(turned, apply(variables, X)[0], atol=1e-5)


@pytest.mark.parametrize("rate", ["dropout", "drop_path"])
def test_dropout_and_drop_path_act_in_training_only(rate):
  transformer, plain = TemporalTransformer(**TINY, **{rate: 0.5}), TemporalTransformer(**TINY)
  variables = drawn_variables(transformer, X)
  run = jax.jit(lambda key: transformer.apply(variables, X, True, rngs={"dropout": key})[0])
  assert np.abs(run(jax.random.key(0)) - run(jax.random.key(1))).max() > 1e-3
  assert str(jax.make_jaxpr(transformer.apply)(variables, X)) == str(jax.make_jaxpr(plain.apply)(variables, X))


def test_weights_come_on_request():
  transformer = TemporalTransformer(**TINY)
  variables = drawn_variables(transformer, X)
  assert transformer.apply(variables, X)[1] == {}
  _, weights = jax.jit(lambda v: transformer.apply(v, X, capture=True))(variables)
  assert {name: leaf.shape for name, leaf in weights.items()} == {"layer_0": (2, 2, 3, 3), "layer_1": (2, 2, 3, 3)}
  np.testing.assert_allclose(weights["layer_1"].sum(-1), 1, atol=1e-6)


def test_the_norms_are_float32_in_bfloat16():
  out = jax.eval_shape(TemporalTransformer(**TINY, dtype=jnp.bfloat16).init_with_output, jax.random.key(0), X)[0][0]
  assert out.dtype == jnp.float32


def test_heads_that_do_not_divide_are_refused():
  with pytest.raises(ConfigError, match="heads = 3 does not divide the width 8 of the frames; choose a divisor"):
    jax.eval_shape(TemporalTransformer(2, 3, 12).init, jax.random.key(0), X)
