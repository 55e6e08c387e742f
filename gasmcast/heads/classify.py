"""From one vector a clip to a score for each class."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.layers.dense import Dense


class Classifier(nn.Module):
  """LayerNorm "output_norm", dropout, Linear "head": [B, D] -> logits [B, C], all in float32.

  Attributes:
    classes: C.
    dropout: rate, in training, from the random stream "dropout".
  """

  classes: int
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, "B D"], train: bool = False) -> Float[Array, "B C"]:
    x = nn.LayerNorm(dtype=jnp.float32, name="output_norm")(x)
    x = nn.Dropout(self.dropout, name="drop")(x, deterministic=not train)
    return Dense(self.classes, name="head")(x)
