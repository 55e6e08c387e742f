import dataclasses

import jax
import numpy as np

from gasmcast.core.rules import flatten
from gasmcast.fusion.config import FusionConfig
from gasmcast.fusion.vanilla import VanillaLayer
from tests.layers.variables import drawn_variables

PLAIN = FusionConfig(heads=1, relative_bias="none", time_embedding=False, space_embedding=False, zero_init=False)
SEMANTIC = np.random.default_rng(0).normal(size=(1, 2, 3, 4)).astype(np.float32)  # [B, T, N, D]
MOTION = np.random.default_rng(1).normal(size=(1, 2, 1, 6)).astype(np.float32)


def make(config):
  return VanillaLayer(config, 1, grid=(1, 3))


def norm(x):
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def test_by_hand():
  """The textbook formula in numpy: queries at the width of their stream, keys and values from the other."""
  layer = make(PLAIN)
  variables = drawn_variables(layer, SEMANTIC, MOTION)
  params = flatten(variables["params"])
  result = jax.jit(layer.apply)(variables, SEMANTIC, MOTION)[0]

  def linear(x, name):
    return x @ np.asarray(params[f"motion_to_semantic/{name}/kernel"]) + params[f"motion_to_semantic/{name}/bias"]

  s = norm(SEMANTIC.reshape(6, 4)) * params["semantic_norm/scale"] + params["semantic_norm/bias"]
  m = norm(MOTION.reshape(2, 6)) * params["motion_norm/scale"] + params["motion_norm/bias"]
  logits = linear(s, "query") @ linear(m, "key").T / np.sqrt(4)
  weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  expected = SEMANTIC.reshape(6, 4) + linear(weights @ linear(m, "value"), "out")
  np.testing.assert_allclose(result.reshape(6, 4), expected, atol=1e-5)


def test_parameters_by_hand():
  """Per direction: query and output D x D, key and value E x D, with biases; two norms."""
  params = flatten(jax.eval_shape(make(PLAIN).init, jax.random.key(0), SEMANTIC, MOTION)["params"])
  to_semantic = 2 * (4 * 4 + 4) + 2 * (6 * 4 + 4)
  to_motion = 2 * (6 * 6 + 6) + 2 * (4 * 6 + 6)
  assert sum(leaf.size for leaf in params.values()) == to_semantic + to_motion + 2 * 4 + 2 * 6


def test_codes_are_of_each_stream_and_a_single_token_has_no_place():
  config = dataclasses.replace(PLAIN, time_embedding=True, space_embedding=True, relative_bias="signed")
  params = jax.eval_shape(make(config).init, jax.random.key(0), SEMANTIC, MOTION)["params"]
  shapes = {name: leaf.shape for name, leaf in params.items() if name.endswith(("embedding", "_bias"))}
  assert shapes == {
    "semantic_time_embedding": (2, 4),
    "motion_time_embedding": (2, 6),
    "semantic_space_embedding": (3, 4),
    "motion_to_semantic_bias": (1, 3),
    "semantic_to_motion_bias": (1, 3),
  }


def test_with_zero_init_the_streams_are_independent_at_the_start():
  layer = make(dataclasses.replace(PLAIN, zero_init=True))
  variables = jax.jit(layer.init)(jax.random.key(0), SEMANTIC, MOTION)
  semantic, motion, weights = jax.jit(layer.apply)(variables, SEMANTIC, MOTION)
  np.testing.assert_array_equal(semantic, SEMANTIC)
  np.testing.assert_array_equal(motion, MOTION)
  assert weights == {}
