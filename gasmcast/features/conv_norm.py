"""What the 2-D convolution networks share: a convolution with its batch norm, and the rules for its published names."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from gasmcast.features.conversion import Rule, batch_norm_rules, convolution
from gasmcast.layers.depthwise import convolve_depthwise


class ConvNorm(nn.Module):
  """A 2-D convolution without bias and the batch norm after it, [B, H, W, I] -> [B, h, w, O].

  Parameters "kernel" [kh, kw, I, O] (depthwise [kh, kw, 1, O]), "norm/scale" and "norm/bias" [O]; batch statistics
  "norm/mean" and "norm/var" [O], which move a tenth of the way to those of the batch in training.

  Attributes:
    features: output channels O.
    kernel_size: side of the kernel.
    stride: along height and width.
    padding: zeros on each side, or "SAME" as TensorFlow pads (one more below and right than above and left where the
      sum is odd).
    depthwise: each channel has its own kernel and sees no other; O is I then.
    epsilon: added to the variance.
    dtype: of the convolution and of the result; parameters and norm are float32.
  """

  features: int
  kernel_size: int = 1
  stride: int = 1
  padding: int | str = 0
  depthwise: bool = False
  epsilon: float = 1e-5
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "B H W I"], batch_statistics: bool = False) -> Float[Array, "B h w O"]:
    """The normalised convolution, by the statistics of the batch or by the running ones."""
    x, inputs, gain = x.astype(self.dtype), x.shape[-1], 2.0
    if self.depthwise:
      inputs, gain = 1, gain * self.features  # Linen takes all channels for the fan-out of each: it is the kernel alone
    initialize = nn.initializers.variance_scaling(gain, "fan_out", "truncated_normal")
    kernel = self.param("kernel", initialize, (self.kernel_size, self.kernel_size, inputs, self.features))
    padding = self.padding if isinstance(self.padding, str) else [(self.padding, self.padding)] * 2
    if self.depthwise:
      x = convolve_depthwise(x, kernel, self.stride, padding)
    else:
      strides, order = (self.stride, self.stride), ("NHWC", "HWIO", "NHWC")
      x = lax.conv_general_dilated(x, kernel.astype(self.dtype), strides, padding, dimension_numbers=order)
    norm = nn.BatchNorm(not batch_statistics, momentum=0.9, epsilon=self.epsilon, dtype=jnp.float32, name="norm")
    return norm(x).astype(self.dtype)


def conv_norm_rules(conv: str, norm: str, path: str) -> Sequence[Rule]:
  r"""Rules for the `ConvNorm` at `path` (with \1 for the groups of the patterns) from the torch names of its parts."""
  return (
    Rule(conv + r"\.weight", f"params/{path}/kernel", convolution),
    *batch_norm_rules(norm, f"{path}/norm"),
  )
