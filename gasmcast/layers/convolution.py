"""3-D convolution over [B, T, H, W, C], in the formulation that is fast on the platform at hand.

XLA's CPU backend runs a 3-D convolution several times slower than the same arithmetic as 2-D convolutions, and its
gradient up to 160 times slower. So on a CPU the temporal taps are unrolled: folded into the channels where there are
few of them, summed otherwise. Its 2-D convolution in turn takes ten times as long where the frame that comes out is
smaller than the kernel; there all taps are unrolled into one matrix product. On an accelerator the plain 3-D
convolution is right. `convolve` alone makes this choice; all formulations are equal up to float rounding.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

Formulation = Literal["direct", "summed_taps", "folded_taps", "unfolded"]
Triple = tuple[int, int, int]

_FOLD_UP_TO = 24  # input channels up to which folding the taps into the channels beats summing over them


def formulation_for(platform: str, channels: int, frame: tuple[int, int], kernel: tuple[int, int]) -> Formulation:
  """The fast formulation on a platform ("cpu", "gpu", "tpu").

  Args:
    channels: of the input.
    frame: height and width of the output.
    kernel: height and width of the kernel.
  """
  if platform != "cpu":
    return "direct"
  if frame[0] < kernel[0] or frame[1] < kernel[1]:
    return "unfolded"
  return "folded_taps" if channels <= _FOLD_UP_TO else "summed_taps"


def convolve(
  x: Float[Array, "B T H W I"],
  kernel: Float[Array, "kt kh kw I O"],
  strides: Triple,
  padding: Triple,
  time_dilation: int = 1,
  formulation: Formulation | None = None,
) -> Float[Array, "B t h w O"]:
  """Cross-correlation with symmetric zero padding, in the type of `x`."""
  frame = tuple(_length(x.shape[axis], kernel.shape[axis - 1], strides[axis - 1], padding[axis - 1]) for axis in (2, 3))
  formulation = formulation or formulation_for(jax.default_backend(), x.shape[-1], frame, kernel.shape[1:3])
  kernel = kernel.astype(x.dtype)
  if formulation == "direct":
    return lax.conv_general_dilated(
      x,
      kernel,
      strides,
      [(p, p) for p in padding],
      rhs_dilation=(time_dilation, 1, 1),
      dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
  taps = _taps(x, 1, kernel.shape[0], strides[0], padding[0], time_dilation)
  if formulation == "unfolded":
    for axis in (2, 3):
      taps = [
        tap
        for outer in taps
        for tap in _taps(outer, axis, kernel.shape[axis - 1], strides[axis - 1], padding[axis - 1])
      ]
    return jnp.concatenate(taps, -1) @ kernel.reshape(-1, kernel.shape[-1])
  if formulation == "folded_taps":
    folded = kernel.transpose(1, 2, 0, 3, 4).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
    return _convolve_frames(jnp.concatenate(taps, -1), folded, strides, padding)
  return sum(_convolve_frames(tap, kernel[i], strides, padding) for i, tap in enumerate(taps))


def _length(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
  """Of the output along an axis of length `size`."""
  return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _taps(x: Array, axis: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> list[Array]:
  """What each of the kernel's taps along `axis` reads: as many arrays, of the output's length on that axis."""
  length = _length(x.shape[axis], kernel, stride, padding, dilation)
  widths = [(0, 0)] * x.ndim
  widths[axis] = (padding, padding)
  x = jnp.pad(x, widths)
  starts = [dilation * tap for tap in range(kernel)]
  return [lax.slice_in_dim(x, start, start + (length - 1) * stride + 1, stride, axis=axis) for start in starts]


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
