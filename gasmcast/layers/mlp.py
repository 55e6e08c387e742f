"""The feed-forward part of a transformer block."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.layers.dense import Dense


class MLP(nn.Module):
  """Linear, exact GELU (not its tanh approximation), Linear: [..., D] -> [..., hidden_width] -> [..., D]."""

  hidden_width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    y = Dense(self.hidden_width, dtype=self.dtype, name="hidden")(x)
    return Dense(x.shape[-1], dtype=self.dtype, name="out")(nn.gelu(y, approximate=False))
