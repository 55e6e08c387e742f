"""A linear layer with float32 parameters that multiplies in the compute dtype and sums in float32."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.layers.contract import contract


class Dense(nn.Module):
  """[..., D] -> [..., width] in `dtype`. Parameters "kernel" [D, width] and "bias" [width].

  `flax.linen.Dense` rounds to bfloat16 before it adds the bias, and is slower on a CPU for letting the product be
  bfloat16.
  """

  width: int
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch E"]:
    kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.width))
    y = contract("...d,de->...e", x.astype(self.dtype), kernel.astype(self.dtype))
    if self.use_bias:
      y = y + self.param("bias", nn.initializers.zeros, (self.width,))
    return y.astype(self.dtype)
