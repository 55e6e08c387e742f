"""ResNet-50 and its smaller and larger kin: frames in, one vector a frame and a coarse grid of tokens out.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), as published in torchvision and timm: the 3x3
convolution of a bottleneck has the stride, not the 1x1 before it ("version 1.5").
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.core.config import parse, require
from gasmcast.core.errors import ConfigError, WeightsError
from gasmcast.core.rules import Rules
from gasmcast.features.conv_norm import ConvNorm, conv_norm_rules
from gasmcast.features.conversion import Rule, linear_rules
from gasmcast.features.hub_config import read_values, require_kind, require_values
from gasmcast.features.preprocessing import IMAGENET, Normalisation

_STAGES = 4
_STRIDE = 32  # of the stem, the pooling and the stages after the first: 2 each
_REDUCTION = 4  # of the channels inside a bottleneck
_HUB_VALUES = {  # what the network computes, in the words of config.json
  "num_channels": 3,
  "hidden_act": "relu",
  "downsample_in_first_stage": False,
  "downsample_in_bottleneck": False,
}


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
  """The size of the network; the defaults are ResNet-50.

  Attributes:
    stem: channels of the stem.
    widths: output channels of the stages; a bottleneck has a quarter of them inside.
    blocks: residual blocks of each stage.
    block: "bottleneck": 1x1, 3x3, 1x1; "basic": 3x3, 3x3, as in ResNet-18 and -34.
    frozen_stages: n > 0 keeps the stem and the first n stages as they are while the rest trains: their norms use the
      running statistics and no gradient passes into them. `freezing_rules` keeps their parameters out of the optimiser.
    frozen_norm: all norms use the running statistics in training too; their scale and bias are trained.
    image_size: side of the square frames.
    classes: of the classifier on the pooled features; 0 for none.
  """

  normalisation: ClassVar[Normalisation] = IMAGENET
  margin: ClassVar[bool] = True
  clip: ClassVar[int] = 1

  stem: int = 64
  widths: tuple[int, ...] = (256, 512, 1024, 2048)
  blocks: tuple[int, ...] = (3, 4, 6, 3)
  block: Literal["bottleneck", "basic"] = "bottleneck"
  frozen_stages: int = 0
  frozen_norm: bool = False
  image_size: int = 224
  classes: int = 0

  def __post_init__(self):
    sizes = (self.stem, *self.widths, *self.blocks, self.image_size)
    require(min(sizes) >= 1, f"semantic has the sizes {sizes}: all must be at least 1.")
    require(self.classes >= 0, f"semantic.classes = {self.classes} is negative; use 0 for no classifier.")
    require(
      len(self.widths) == len(self.blocks) == _STAGES,
      f"semantic.widths has {len(self.widths)} and semantic.blocks {len(self.blocks)} entries: the network has "
      f"{_STAGES} stages.",
    )
    require(
      self.block == "basic" or all(width % _REDUCTION == 0 for width in self.widths),
      f"semantic.widths = {self.widths}: a bottleneck has a quarter of its width inside; use multiples of 4.",
    )
    require(
      0 <= self.frozen_stages <= _STAGES,
      f"semantic.frozen_stages = {self.frozen_stages}: the network has {_STAGES} stages; use 0 to {_STAGES}.",
    )

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of tokens: every halving rounds up."""
    return (-(-self.image_size // _STRIDE),) * 2

  def check_frames(self, time: int, height: int, width: int) -> None:
    """Frames of any number and size will do."""

  def with_hub_config(self, values: Mapping[str, Any]) -> "ResNetConfig":
    """The sizes that a config.json of the Hugging Face Hub gives.

    Raises:
      WeightsError: it is of another network, or of a ResNet that is not built here.
    """
    kind = require_kind(values, "resnet")
    sizes = {"embedding_size": 64, "layer_type": "bottleneck"}
    read = read_values(values, _HUB_VALUES | sizes)
    require_values(kind, read, _HUB_VALUES)
    widths, blocks = values.get("hidden_sizes", [256, 512, 1024, 2048]), values.get("depths", [3, 4, 6, 3])
    fields = {"stem": read["embedding_size"], "block": read["layer_type"], "widths": widths, "blocks": blocks}
    try:
      return parse(type(self), {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | fields)
    except ConfigError as error:
      raise WeightsError(f"config.json is damaged, or of a ResNet that is not built here: {error}") from error

  def freezing_rules(self, prefix: str = "") -> Rules:
    """(pattern, False) for the parameters of the frozen stages; they stand before the rules for the rest.

    Args:
      prefix: of the network's parameters, for example "semantic/".
    """
    stages = "".join(f"|layer{stage + 1}_" for stage in range(self.frozen_stages))
    return ((f"^{prefix}(stem/{stages})", False),) if self.frozen_stages else ()


class _Block(nn.Module):
  """Convolutions around a shortcut, [B, H, W, I] -> [B, h, w, width]."""

  width: int
  stride: int
  kind: Literal["bottleneck", "basic"]
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, batch_statistics: bool) -> Array:
    if self.kind == "bottleneck":
      inner = self.width // _REDUCTION
      plan = ((inner, 1, 1), (inner, 3, self.stride), (self.width, 1, 1))
    else:
      plan = ((self.width, 3, self.stride), (self.width, 3, 1))
    y = x
    for i, (features, kernel, stride) in enumerate(plan, 1):
      conv = ConvNorm(features, kernel, stride, kernel // 2, dtype=self.dtype, name=f"conv{i}")
      y = conv(nn.relu(y) if i > 1 else y, batch_statistics)
    if self.stride != 1 or x.shape[-1] != self.width:
      x = ConvNorm(self.width, 1, self.stride, dtype=self.dtype, name="shortcut")(x, batch_statistics)
    return nn.relu(x + y)


class ResNet(nn.Module):
  """Normalised frames [B, T, H, W, 3] -> {"tokens" [B, T, h*w, D], "pooled" [B, T, D]}, and "logits" [B, T, classes]
  with a classifier.

  The tokens are the cells of the last stage in row-major order, h = ceil(H / 32) rows of w = ceil(W / 32);
  "pooled" is their mean. Batch norm uses its running statistics unless `train` is set, and in the frozen parts always.
  """

  config: ResNetConfig = ResNetConfig()
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, frames: Float[Array, "B T H W 3"], train: bool = False) -> dict[str, Array]:
    config, (batch, time) = self.config, frames.shape[:2]
    moving = lambda stage: train and not config.frozen_norm and stage >= config.frozen_stages
    stem = ConvNorm(config.stem, 7, 2, 3, dtype=self.dtype, name="stem")
    x = nn.relu(stem(frames.reshape(-1, *frames.shape[2:]), moving(0)))  # frozen as soon as the first stage is
    x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    for stage, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
      for i in range(blocks):
        stride = 2 if stage > 0 and i == 0 else 1
        x = _Block(width, stride, config.block, self.dtype, name=f"layer{stage + 1}_{i}")(x, moving(stage))
      if train and stage + 1 == config.frozen_stages:
        x = jax.lax.stop_gradient(x)
    tokens = x.astype(jnp.float32).reshape(batch, time, -1, x.shape[-1])
    features = {"tokens": tokens, "pooled": tokens.mean(2)}
    if config.classes:
      features["logits"] = nn.Dense(config.classes, name="logits")(features["pooled"])
    return features


def _torchvision_layout() -> tuple[Rule, ...]:
  """Names of torchvision and timm."""
  block, ours = r"layer(\d)\.(\d+)\.", r"layer\1_\2/"
  return (
    *conv_norm_rules("conv1", "bn1", "stem"),
    *conv_norm_rules(block + r"conv(\d)", block + r"bn(\d)", ours + r"conv\3"),
    *conv_norm_rules(block + r"downsample\.0", block + r"downsample\.1", ours + "shortcut"),
    *linear_rules(r"fc", "params/logits", optional=True),
  )


def _hub_layout() -> tuple[Rule, ...]:
  """Names of the files on the Hugging Face Hub, which count stages and convolutions from 0; "resnet." is before the
  names where a classifier is in the file."""
  both = lambda name: (name + r"\.convolution", name + r"\.normalization")
  rules = [
    *conv_norm_rules(*both(r"(?:resnet\.)?embedder\.embedder"), "stem"),
    *linear_rules(r"classifier\.1", "params/logits", optional=True),
  ]
  for stage in range(_STAGES):
    block, ours = rf"(?:resnet\.)?encoder\.stages\.{stage}\.layers\.(\d+)\.", rf"layer{stage + 1}_\1/"
    rules += conv_norm_rules(*both(block + "shortcut"), ours + "shortcut")
    for i in range(3):
      rules += conv_norm_rules(*both(block + rf"layer\.{i}"), f"{ours}conv{i + 1}")
  return tuple(rules)


LAYOUTS = (_torchvision_layout(), _hub_layout())
