import jax
import jax.numpy as jnp
import numpy as np

from gasmcast.layers.layer_scale import LayerScale


def test_multiplies_by_its_initial_value_and_learns_each_channel():
  x = jnp.asarray([[1.0, 2.0]])
  y, variables = LayerScale(0.1).init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(y, [[0.1, 0.2]], rtol=1e-6)
  gradient = jax.grad(lambda v: LayerScale(0.1).apply(v, x).sum())(variables)
  np.testing.assert_array_equal(gradient["params"]["scale"], [1, 2])


def test_keeps_the_compute_dtype():
  y, _ = jax.eval_shape(LayerScale(0.1).init_with_output, jax.random.key(0), jnp.ones((1, 2), jnp.bfloat16))
  assert y.dtype == jnp.bfloat16


def test_the_gradient_of_the_scale_is_summed_in_float32():
  """5,000 addends of bfloat16, whose 8 bits would leave out what is small beside the sum."""
  x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (5000, 3)), jnp.bfloat16)
  variables = LayerScale(0.1).init(jax.random.key(0), x)
  gradient = jax.grad(lambda v: LayerScale(0.1).apply(v, x).sum(dtype=jnp.float32))(variables)
  expected = np.asarray(x, np.float64).sum(axis=0)
  np.testing.assert_allclose(gradient["params"]["scale"], expected, rtol=1e-5)
