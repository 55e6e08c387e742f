"""R3D-18 and smaller networks of its kind: frames in, motion segments out.

3-D residual network of Tran et al., "A Closer Look at Spatiotemporal Convolutions" (CVPR 2018), as published in
torchvision. From 16 frames the native network gives 2 time steps. The other modes give one segment for every second
frame:

- "atrous": the temporal strides of stages 3 and 4 become dilations (Chen et al., DeepLab, applied to time). Every
  stride-th segment then equals a native output exactly.
- "undilated": those strides are dropped without dilation. Not the pretrained function; for ablation.
- "windowed": every segment is the native network on its own 8-frame window (3 frames before its first frame to 4
  after, reflected at the ends), pooled to one step.
- "native": the published network.
- "grid": "atrous", named for who reads its "grid": every cell of the last stage.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.core.config import require
from gasmcast.core.errors import WeightsError
from gasmcast.features.conversion import Rule, batch_norm_rules, convolution, linear_rules
from gasmcast.features.preprocessing import KINETICS, Normalisation
from gasmcast.layers.convolution import Conv3D

Mode = Literal["atrous", "windowed", "native", "undilated", "grid"]
_WINDOW = range(-3, 5)  # frames of a window around the first frame of its segment


@dataclasses.dataclass(frozen=True)
class R3DConfig:
  """The size of the network; the defaults are R3D-18.

  Attributes:
    widths: channels of the four stages; the stem has the first.
    blocks: residual blocks of each stage.
    mode: how segments are made, see the module's text.
    norm: "batch" as published; "group" for training from scratch on small batches.
    image_size: side of the square frames.
    stem_stride: spatial stride of the stem.
    differences: appends each frame's change from the frame before as three more input channels.
    classes: of the classifier on the pooled features, in mode "native" alone; 0 for none.
  """

  normalisation: ClassVar[Normalisation] = KINETICS
  margin: ClassVar[bool] = True
  clip: ClassVar[int] = 16

  widths: tuple[int, ...] = (64, 128, 256, 512)
  blocks: tuple[int, ...] = (2, 2, 2, 2)
  mode: Mode = "atrous"
  norm: Literal["batch", "group"] = "batch"
  image_size: int = 112
  stem_stride: int = 2
  differences: bool = False
  classes: int = 0

  def __post_init__(self):
    require(
      len(self.widths) == len(self.blocks) == 4,
      f"motion.widths has {len(self.widths)} and motion.blocks {len(self.blocks)} entries: the network has 4 stages.",
    )
    require(
      self.norm == "batch" or all(width % 8 == 0 for width in self.widths),
      f"motion.widths = {self.widths}: group norm takes groups of 8 channels; use multiples of 8.",
    )

  def check_frames(self, time: int, height: int, width: int) -> None:
    """Any clip will do: the convolutions pad what is missing."""

  def with_hub_config(self, values: Mapping[str, Any]) -> "R3DConfig":
    """Nobody publishes this network with a config.json."""
    raise WeightsError(f"config.json is of a {values.get('model_type')!r}, not of an R3D network; name its backbone.")


class _Norm(nn.Module):
  kind: str
  train: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array) -> Array:
    if self.kind == "batch":
      norm = nn.BatchNorm(not self.train, momentum=0.9, epsilon=1e-5, dtype=jnp.float32, name="batch")
    else:
      norm = nn.GroupNorm(num_groups=None, group_size=8, epsilon=1e-5, dtype=jnp.float32, name="group")
    return norm(x).astype(self.dtype)


class _Block(nn.Module):
  """Two 3x3x3 convolutions around a shortcut (`BasicBlock` of torchvision's video ResNets)."""

  features: int
  strides: tuple[int, int, int]
  dilations: tuple[int, int]
  norm: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    first, second = self.dilations
    conv = lambda strides, dilation, name: Conv3D(
      self.features, (3, 3, 3), strides, (dilation, 1, 1), dilation, self.dtype, name=name
    )
    norm = lambda name: _Norm(self.norm, train, self.dtype, name=name)
    y = nn.relu(norm("norm1")(conv(self.strides, first, "conv1")(x)))
    y = norm("norm2")(conv((1, 1, 1), second, "conv2")(y))
    if self.strides != (1, 1, 1) or x.shape[-1] != self.features:
      x = Conv3D(self.features, (1, 1, 1), self.strides, (0, 0, 0), dtype=self.dtype, name="shortcut")(x)
      x = norm("shortcut_norm")(x)
    return nn.relu(x + y)


def _stage_plan(mode: Mode) -> list[tuple[int, int, int]]:
  """Of each stage: temporal stride, dilation of its first convolution, dilation of the rest."""
  if mode in ("native", "windowed"):
    return [(1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1)]
  if mode == "undilated":
    return [(1, 1, 1), (2, 1, 1), (1, 1, 1), (1, 1, 1)]
  return [(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)]


class R3D(nn.Module):
  """Normalised frames [B, T, H, W, 3] -> {"segments" [B, S, D], "grid" [B, S, h, w, D], "pooled" [B, D]},
  and "logits" [B, classes] with a classifier.

  Batch norm uses its running statistics unless `train` is set.
  """

  config: R3DConfig = R3DConfig()
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, frames: Float[Array, "B T H W 3"], train: bool = False) -> dict[str, Array]:
    config, batch = self.config, frames.shape[0]
    if config.differences:
      change = jnp.diff(frames, axis=1, prepend=frames[:, :1])
      frames = jnp.concatenate([frames, change], -1)
    if config.mode == "windowed":
      frames = _windows(frames)
    x = self._stem(frames, train)
    for stage, (stride, first, rest) in enumerate(_stage_plan(config.mode)):
      for block in range(config.blocks[stage]):
        space = 2 if stage > 0 and block == 0 else 1
        strides = (stride if block == 0 else 1, space, space)
        dilations = (first if block == 0 else rest, rest)
        name = f"layer{stage + 1}_{block}"
        x = _Block(config.widths[stage], strides, dilations, config.norm, self.dtype, name=name)(x, train)
    if config.mode == "windowed":
      x = x.mean(1).reshape(batch, -1, *x.shape[2:])
    x = x.astype(jnp.float32)
    segments = x.mean((2, 3))
    features = {"segments": segments, "grid": x, "pooled": segments.mean(1)}
    if config.classes and config.mode == "native":
      features["logits"] = nn.Dense(config.classes, name="logits")(features["pooled"])
    return features

  def _stem(self, frames: Array, train: bool) -> Array:
    strides = (1, self.config.stem_stride, self.config.stem_stride)
    x = Conv3D(self.config.widths[0], (3, 7, 7), strides, (1, 3, 3), dtype=self.dtype, name="stem")(frames)
    return nn.relu(_Norm(self.config.norm, train, self.dtype, name="stem_norm")(x))


def _windows(frames: Array) -> Array:
  """[B, T, H, W, C] -> [B * ceil(T/2), 8, H, W, C]: one window of 8 frames for every second frame."""
  batch, time = frames.shape[:2]
  index = np.arange(0, time, 2)[:, None] + np.array(_WINDOW)
  index = np.abs(index)
  index = np.where(index >= time, 2 * (time - 1) - index, index)
  windows = frames[:, index]
  return windows.reshape(batch * index.shape[0], len(_WINDOW), *frames.shape[2:])


def _torchvision_layout() -> tuple[Rule, ...]:
  """Names of torchvision's r3d_18, whose blocks are conv1.0, conv1.1 (norm), conv2.0, conv2.1."""
  block, ours = r"layer(\d)\.(\d+)\.", r"layer\1_\2/"
  norms = {
    r"stem\.1": "stem_norm",
    block + r"conv([12])\.1": ours + r"norm\3",
    block + r"downsample\.1": ours + "shortcut_norm",
  }
  rules = [
    Rule(r"stem\.0\.weight", "params/stem/kernel", convolution),
    Rule(block + r"conv([12])\.0\.weight", f"params/{ours}conv" + r"\3/kernel", convolution),
    Rule(block + r"downsample\.0\.weight", f"params/{ours}shortcut/kernel", convolution),
    *linear_rules(r"fc", "params/logits", optional=True),
  ]
  for name, path in norms.items():
    rules += batch_norm_rules(name, f"{path}/batch")
  return tuple(rules)


LAYOUTS = (_torchvision_layout(),)
