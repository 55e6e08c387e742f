"""3-D convolution over [B, T, H, W, C], in the formulation that is fast on the platform at hand.

XLA's CPU backend runs a 3-D convolution several times slower than the same arithmetic as 2-D convolutions, and its
gradient up to 160 times slower. So on a CPU the temporal taps are unrolled: folded into the channels where those are
few, summed otherwise, where a tap that would read padding alone is left out. Wide frames are convolved along their
width by Winograd's F(4, 3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016): half the
products, for a rounding error of about 3e-6. Frames that come out smaller than the kernel, where the 2-D convolution
takes ten times as long, become one matrix product. On an accelerator the plain 3-D convolution is right. This
file alone makes that choice; all formulations are equal up to float rounding.
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

Formulation = Literal["direct", "folded_taps", "summed_taps", "winograd", "unfolded"]
DepthwiseFormulation = Literal["grouped", "summed_taps"]
Pair = tuple[int, int]
Triple = tuple[int, int, int]

_FOLD_UP_TO = 24  # input channels up to which the taps are folded into the channels
_FOLD_STRIDED_UP_TO = 64  # the same where frames are strided
_WINOGRAD_FROM = 28  # width of the frames from which its transforms pay

# F(4, 3) at the points 0, 1, -1, 2, -2 and infinity: outputs = _OUT @ ((_KERNEL @ taps) * (_IN @ inputs)).
_TILE = 4
_IN = np.array(
  [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
  ]
)
_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float32) / 24
_OUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def formulation_for(
  platform: str, channels: int, frame: tuple[int, int], kernel: tuple[int, int], stride: int
) -> Formulation:
  """The fast formulation on a platform ("cpu", "gpu", "tpu").

  Args:
    channels: of the input.
    frame: height and width of the output.
    kernel: height and width of the kernel.
    stride: along the width.
  """
  if platform != "cpu":
    return "direct"
  if kernel != (1, 1) and (frame[0] < kernel[0] or frame[1] < kernel[1]):
    return "unfolded"
  if channels <= (_FOLD_UP_TO if stride == 1 else _FOLD_STRIDED_UP_TO):
    return "folded_taps"
  return "winograd" if kernel[1] == 3 and stride == 1 and frame[1] >= _WINOGRAD_FROM else "summed_taps"


def depthwise_formulation_for(platform: str) -> DepthwiseFormulation:
  """The fast formulation of `layers.depthwise`: XLA's CPU backend runs grouped convolutions 10 to 70 times slower."""
  return "summed_taps" if platform == "cpu" else "grouped"


def convolve(
  x: Float[Array, "B T H W I"],
  kernel: Float[Array, "kt kh kw I O"],
  strides: Triple,
  padding: Triple,
  time_dilation: int = 1,
  formulation: Formulation | None = None,
) -> Float[Array, "B t h w O"]:
  """Cross-correlation with symmetric zero padding, in the type of `x`.

  A CPU has no fast 2-D convolution of bfloat16, so there the sums are float32 throughout.
  """
  frame = tuple(_length(x.shape[axis], kernel.shape[axis - 1], strides[axis - 1], padding[axis - 1]) for axis in (2, 3))
  chosen = formulation_for(jax.default_backend(), x.shape[-1], frame, kernel.shape[1:3], strides[2])
  formulation = formulation or chosen
  if formulation == "direct":
    return _direct(x, kernel.astype(x.dtype), strides, padding, time_dilation)
  if formulation == "unfolded":
    return _unfolded(x, kernel.astype(x.dtype), strides, padding, time_dilation)
  by_name = {"folded_taps": _folded_taps, "summed_taps": _summed_taps, "winograd": _winograd}
  y = by_name[formulation](x.astype(jnp.float32), kernel.astype(jnp.float32), strides, padding, time_dilation)
  return y.astype(x.dtype)


def _direct(x: Array, kernel: Array, strides: Triple, padding: Triple, time_dilation: int) -> Array:
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    [(p, p) for p in padding],
    rhs_dilation=(time_dilation, 1, 1),
    dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
  )


def _unfolded(x: Array, kernel: Array, strides: Triple, padding: Triple, time_dilation: int) -> Array:
  taps = _taps(x, 1, kernel.shape[0], strides[0], padding[0], time_dilation)
  for axis in (2, 3):
    size, stride, pad = kernel.shape[axis - 1], strides[axis - 1], padding[axis - 1]
    taps = [tap for outer in taps for tap in _taps(outer, axis, size, stride, pad)]
  return jnp.concatenate(taps, -1) @ kernel.reshape(-1, kernel.shape[-1])


def _folded_taps(x: Array, kernel: Array, strides: Triple, padding: Triple, time_dilation: int) -> Array:
  taps = _taps(x, 1, kernel.shape[0], strides[0], padding[0], time_dilation)
  folded = kernel.transpose(1, 2, 0, 3, 4).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
  return _convolve_frames(jnp.concatenate(taps, -1), folded, strides, padding)


def _summed_taps(x: Array, kernel: Array, strides: Triple, padding: Triple, time_dilation: int) -> Array:
  convolve_tap = lambda frames, tap: _convolve_frames(frames, kernel[tap], strides, padding)
  return _add_up([x] * kernel.shape[0], strides[0], padding[0], time_dilation, convolve_tap)


def _winograd(x: Array, kernel: Array, strides: Triple, padding: Triple, time_dilation: int) -> Array:
  """F(4, 3) along the width. At each of its points one 2-D convolution of every frame with all temporal taps at once;
  each tap's share of the channels that come out then counts for the frame it belongs to."""
  width, taps, features = x.shape[3] + 2 * padding[2] - 2, kernel.shape[0], kernel.shape[-1]
  tiles = -(-width // _TILE)
  x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (padding[2], _TILE * tiles + 2 - x.shape[3] - padding[2]), (0, 0)))
  columns = [x[:, :, :, j : j + _TILE * (tiles - 1) + 1 : _TILE] for j in range(_TILE + 2)]
  kernels = jnp.einsum("pw,thwio->phito", _KERNEL, kernel)
  kernels = kernels.reshape(*kernels.shape[:2], 1, kernels.shape[2], taps * features)
  products = []
  for factors, at_point in zip(_IN, kernels, strict=True):
    shares = _convolve_frames(_combine(factors, columns), at_point, strides, (0, padding[1], 0), _convolve_2d_by_eigen)
    parts = [shares[..., tap * features : (tap + 1) * features] for tap in range(taps)]
    products.append(_add_up(parts, strides[0], padding[0], time_dilation))
  y = jnp.stack([_combine(factors, products) for factors in _OUT], 4)
  return y.reshape(*y.shape[:3], -1, features)[:, :, :, :width]


def _combine(factors: np.ndarray, arrays: list[Array]) -> Array:
  """The sum of the arrays times their factors."""
  terms = [float(factor) * array for factor, array in zip(factors, arrays, strict=True) if factor]
  return sum(terms[1:], terms[0])


def _add_up(
  parts: list[Array],
  stride: int,
  padding: int,
  dilation: int,
  finish: Callable[[Array, int], Array] = lambda frames, tap: frames,
) -> Array:
  """The sum over the taps of what each reads of its part [B, T, ...], after `finish`; padding adds nothing."""
  size, total = parts[0].shape[1], 0
  length = _length(size, len(parts), stride, padding, dilation)
  for tap, part in enumerate(parts):
    offset = tap * dilation - padding
    first, last = max(0, -(offset // stride)), min(length - 1, (size - 1 - offset) // stride)
    if first <= last:
      start = first * stride + offset
      frames = lax.slice_in_dim(part, start, start + (last - first) * stride + 1, stride, axis=1)
      y = finish(frames, tap)
      total = total + jnp.pad(y, [(0, 0), (first, length - 1 - last)] + [(0, 0)] * (y.ndim - 2))
  return total


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


def _convolve_2d(x: Array, kernel: Array, strides: Pair, padding: Pair, below: int = 0) -> Array:
  """[B, H, W, I] -> [B, h, w, O]; `below` adds rows of padding at the bottom."""
  widths = [(padding[0], padding[0] + below), (padding[1], padding[1])]
  return lax.conv_general_dilated(x, kernel, strides, widths, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _convolve_frames(
  x: Array, kernel: Array, strides: Triple, padding: Triple, convolve_2d: Callable[..., Array] = _convolve_2d
) -> Array:
  """A 2-D convolution of every frame on its own."""
  y = convolve_2d(x.reshape(-1, *x.shape[2:]), kernel, strides[1:], padding[1:])
  return y.reshape(*x.shape[:2], *y.shape[1:])


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _convolve_2d_by_eigen(x: Array, kernel: Array, strides: Pair, padding: Pair) -> Array:
  """`_convolve_2d`, in half to two thirds of the time where few channels go in.

  XLA gives a convolution with symmetric padding to YNNPACK and any other to Eigen. So a row is added below, and what it
  gives is cut off. For the kernel's gradient that detour takes ten times as long, so the derivative goes without it.
  """
  height = _length(x.shape[1], kernel.shape[0], strides[0], padding[0])
  return _convolve_2d(x, kernel, strides, padding, below=strides[0])[:, :height]


@_convolve_2d_by_eigen.defjvp
def _convolve_2d_derivative(
  strides: Pair, padding: Pair, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
  (x, kernel), (dx, dkernel) = primals, tangents
  y = _convolve_2d_by_eigen(x, kernel, strides, padding)
  return y, _convolve_2d(dx, kernel, strides, padding) + _convolve_2d(x, dkernel, strides, padding)


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
