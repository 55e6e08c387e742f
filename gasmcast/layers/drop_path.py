"""Stochastic depth. Huang et al., "Deep Networks with Stochastic Depth" (2016)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class DropPath(nn.Module):
  """In training, zeroes the whole residual branch of an example with probability `rate` and scales the others.

  Draws from the random stream "dropout", once for each element of the leading axis B.
  """

  rate: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, "B *rest"], train: bool) -> Float[Array, "B *rest"]:
    if not train or self.rate == 0.0:
      return x
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.rate, shape)
    return jnp.where(keep, x / (1.0 - self.rate), jnp.zeros_like(x))
