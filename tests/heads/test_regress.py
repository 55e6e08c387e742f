import math

import jax
import jax.numpy as jnp
import numpy as np

from gasmcast.core.rules import flatten
from gasmcast.heads.regress import Regressor
from tests.layers.variables import drawn_variables

X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


def test_the_published_size():
  params = jax.eval_shape(Regressor(5, 64).init, jax.random.key(0), jnp.ones((1, 128)))["params"]
  sizes = {name: math.prod(leaf.shape) for name, leaf in flatten(params).items()}
  assert sizes["hidden/kernel"] + sizes["hidden/bias"] == 128 * 64 + 64 == 8_256
  assert sizes["out/kernel"] + sizes["out/bias"] == 64 * 5 + 5 == 325
  assert len(sizes) == 4


def test_linear_relu_linear_without_squashing():
  regressor = Regressor(3, 5)
  variables = drawn_variables(regressor, X)
  p = jax.tree.map(np.asarray, variables["params"])
  hidden = np.maximum(X @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0)
  expected = hidden @ p["out"]["kernel"] + p["out"]["bias"]
  np.testing.assert_allclose(jax.jit(regressor.apply)(variables, X), expected, atol=1e-5)
  far = jax.jit(regressor.apply)(variables, 1e3 * X)
  turned = {"params": {**variables["params"], "out": jax.tree.map(jnp.negative, variables["params"]["out"])}}
  np.testing.assert_array_equal(jax.jit(regressor.apply)(turned, 1e3 * X), -far)
  assert far.max() > 10


def test_numbers_are_float32_whatever_comes_in():
  numbers, _ = jax.eval_shape(Regressor(3, 5, jnp.bfloat16).init_with_output, jax.random.key(0), X.astype(jnp.bfloat16))
  assert numbers.dtype == jnp.float32
