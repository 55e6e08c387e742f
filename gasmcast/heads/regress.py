"""From one vector a clip to numbers: traits, scores, ratings."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.layers.dense import Dense


class Regressor(nn.Module):
  """Linear "hidden", ReLU, Linear "out": [B, D] -> [B, outputs] in float32, not squashed into any range.

  Attributes:
    outputs: how many numbers.
    hidden: width between the two.
    dtype: of the computation of the first one.
  """

  outputs: int
  hidden: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B C"]:
    x = nn.relu(Dense(self.hidden, dtype=self.dtype, name="hidden")(x))
    return Dense(self.outputs, name="out")(x)
