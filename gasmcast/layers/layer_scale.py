"""LayerScale. Touvron et al., "Going Deeper with Image Transformers" (2021), section 2.1."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class LayerScale(nn.Module):
  """Multiplies each channel of a residual branch by a learned number that starts at `initial`: [..., D] -> [..., D]."""

  initial: float

  @nn.compact
  def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    scale = self.param("scale", nn.initializers.constant(self.initial), (x.shape[-1],))
    y = x.astype(jnp.float32) * scale  # in float32, so that the gradient of `scale` is summed in it
    return y.astype(x.dtype)
