"""3-D convolution over [B, T, H, W, C], in the formulation that is fast on the platform at hand.

XLA's CPU backend runs a 3-D convolution several times slower than the same arithmetic as 2-D convolutions, and its
gradient up to 160 times slower. So on a CPU the temporal taps are unrolled: folded into the channels where there are
few of them, summed otherwise. On an accelerator the plain 3-D convolution is right. `convolve` alone makes this choice; all
formulations are equal up to float rounding.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

Formulation = Literal["direct", "summed_taps", "folded_taps"]
Triple = tuple[int, int, int]

_FOLD_UP_TO = 24  # input channels up to which folding the taps into the channels beats summing over them


def formulation_for(platform: str, input_channels: int) -> Formulation:
  """The fast formulation on a platform ("cpu", "gpu", "tpu")."""
  if platform != "cpu":
    return "direct"
  return "folded_taps" if input_channels <= _FOLD_UP_TO else "summed_taps"


def convolve(
  x: Float[Array, "B T H W I"],
  kernel: Float[Array, "kt kh kw I O"],
  strides: Triple,
  padding: Triple,
  time_dilation: int = 1,
  formulation: Formulation | None = None,
) -> Float[Array, "B t h w O"]:
  """Cross-correlation with symmetric zero padding, accumulated in float32 and returned in the type of `x`."""
  formulation = formulation or formulation_for(jax.default_backend(), x.shape[-1])
  kernel = kernel.astype(x.dtype)
  if formulation == "direct":
    y = lax.conv_general_dilated(
      x,
      kernel,
      strides,
      [(p, p) for p in padding],
      rhs_dilation=(time_dilation, 1, 1),
      dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
    return y
  taps = _time_taps(x, kernel.shape[0], strides[0], padding[0], time_dilation)
  if formulation == "folded_taps":
    folded = kernel.transpose(1, 2, 0, 3, 4).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
    return _convolve_frames(jnp.concatenate(taps, -1), folded, strides, padding)
  return sum(_convolve_frames(tap, kernel[i], strides, padding) for i, tap in enumerate(taps))


def _time_taps(x: Array, size: int, stride: int, padding: int, dilation: int) -> list[Array]:
  """What each temporal tap of the kernel reads: `size` arrays [B, t, H, W, I]."""
  steps = (x.shape[1] + 2 * padding - dilation * (size - 1) - 1) // stride + 1
  x = jnp.pad(x, ((0, 0), (padding, padding), (0, 0), (0, 0), (0, 0)))
  starts = [dilation * tap for tap in range(size)]
  return [lax.slice_in_dim(x, start, start + (steps - 1) * stride + 1, stride, axis=1) for start in starts]


def _convolve_frames(x: Array, kernel: Array, strides: Triple, padding: Triple) -> Array:
  """A 2-D convolution of every frame on its own."""
  batch, time = x.shape[:2]
  y = lax.conv_general_dilated(
    x.reshape(batch * time, *x.shape[2:]),
    kernel,
    strides[1:],
    [(p, p) for p in padding[1:]],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return y.reshape(batch, time, *y.shape[1:])


class Conv3D(nn.Module):
  """`convolve` with its kernel; no bias (a norm follows).

  Attributes:
    features: output channels.
    kernel_size, strides, padding: along time, height, width.
    time_dilation: distance of the temporal taps in frames.
    dtype: of the arithmetic; parameters are float32.
  """

  features: int
  kernel_size: Triple = (3, 3, 3)
  strides: Triple = (1, 1, 1)
  padding: Triple = (1, 1, 1)
  time_dilation: int = 1
  dtype: jnp.dtype = jnp.float32
  kernel_init: Callable = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")

  @nn.compact
  def __call__(self, x: Float[Array, "B T H W I"]) -> Float[Array, "B t h w O"]:
    kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
    return convolve(x.astype(self.dtype), kernel, self.strides, self.padding, self.time_dilation)
