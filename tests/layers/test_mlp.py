import math

import jax
import jax.numpy as jnp
import numpy as np

from gasmcast.layers.mlp import MLP


def test_gelu_is_the_exact_one():
  """GELU(x) = x Phi(x); its tanh approximation differs by 2e-4 near x = 2."""
  one = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
  x = 2.2
  y = MLP(1).apply({"params": {"hidden": one, "out": one}}, jnp.asarray([[x]]))
  np.testing.assert_allclose(y, [[x * 0.5 * (1 + math.erf(x / math.sqrt(2)))]], rtol=1e-6)


def test_widths():
  y, variables = jax.eval_shape(MLP(7).init_with_output, jax.random.key(0), jnp.ones((2, 3)))
  assert y.shape == (2, 3)
  assert variables["params"]["hidden"]["kernel"].shape == (3, 7)
