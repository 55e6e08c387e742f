import jax
import jax.numpy as jnp
import numpy as np

from gasmcast.layers.dense import Dense


def test_is_x_times_kernel_plus_bias():
  params = {"kernel": jnp.asarray([[1.0, 2.0], [3.0, 4.0]]), "bias": jnp.asarray([10.0, 20.0])}
  y = Dense(2).apply({"params": params}, jnp.asarray([[1.0, 1.0]]))
  np.testing.assert_array_equal(y, [[14, 26]])


def test_parameters_are_float32_and_the_result_is_in_the_compute_dtype():
  layer = Dense(5, dtype=jnp.bfloat16)
  y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), jnp.ones((2, 3)))
  assert (y.shape, y.dtype) == ((2, 5), jnp.bfloat16)
  assert {name: (leaf.shape, leaf.dtype) for name, leaf in variables["params"].items()} == {
    "kernel": ((3, 5), jnp.float32),
    "bias": ((5,), jnp.float32),
  }


def test_without_bias():
  variables = jax.eval_shape(Dense(5, use_bias=False).init, jax.random.key(0), jnp.ones((2, 3)))
  assert set(variables["params"]) == {"kernel"}
