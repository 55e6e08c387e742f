"""EfficientNet-Lite0: frames in, one vector a frame and a coarse grid of tokens out. 4.65 million parameters.

Tan and Le, "EfficientNet" (ICML 2019), in the Lite variant of TensorFlow's model garden (2020) for small devices: no
squeeze-and-excitation, ReLU6 for swish, stem and head of one width in all sizes. Convolutions are padded as TensorFlow
does ("SAME"). The dropout and the stochastic depth of its training are left out: what is trained on top has its own.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.core.config import require
from gasmcast.core.errors import WeightsError
from gasmcast.features.conv_norm import ConvNorm, conv_norm_rules
from gasmcast.features.conversion import Rule, linear_rules
from gasmcast.features.preprocessing import IMAGENET, Normalisation

_KERNELS = (3, 3, 5, 3, 5, 5, 3)  # of the depthwise convolutions of each stage
_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage
_EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)  # of the channels inside a block
_STRIDE = 32  # of the stem and all stages
_EPSILON = 1e-3


@dataclasses.dataclass(frozen=True)
class EfficientNetLiteConfig:
  """The size of the network; the defaults are EfficientNet-Lite0.

  Attributes:
    widths: output channels of the seven stages.
    blocks: of each stage.
    stem, head: channels of the first and of the last convolution.
    image_size: side of the square frames.
    classes: of the classifier on the pooled features; 0 for none.
  """

  normalisation: ClassVar[Normalisation] = IMAGENET
  margin: ClassVar[bool] = True
  clip: ClassVar[int] = 1

  widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
  blocks: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
  stem: int = 32
  head: int = 1280
  image_size: int = 224
  classes: int = 0

  def __post_init__(self):
    sizes = (*self.widths, *self.blocks, self.stem, self.head, self.image_size)
    require(min(sizes) >= 1, f"semantic has the sizes {sizes}: all must be at least 1.")
    require(self.classes >= 0, f"semantic.classes = {self.classes} is negative; use 0 for no classifier.")
    require(
      len(self.widths) == len(self.blocks) == len(_KERNELS),
      f"semantic.widths has {len(self.widths)} and semantic.blocks {len(self.blocks)} entries: the network has "
      f"{len(_KERNELS)} stages.",
    )

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of tokens: every halving rounds up."""
    return (-(-self.image_size // _STRIDE),) * 2

  def check_frames(self, time: int, height: int, width: int) -> None:
    """Frames of any number and size will do."""

  def with_hub_config(self, values: Mapping[str, Any]) -> "EfficientNetLiteConfig":
    """No config.json of the Hugging Face Hub is of this network."""
    raise WeightsError(
      f"config.json is of a {values.get('model_type')!r}, not of an EfficientNet-Lite0; name its backbone."
    )


class _Block(nn.Module):
  """1x1 to more channels, depthwise, 1x1 to fewer, around a shortcut where the shape stays, [B, H, W, I] ->
  [B, h, w, width] (Sandler et al., "MobileNetV2", CVPR 2018)."""

  width: int
  kernel: int
  stride: int
  expansion: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, batch_statistics: bool) -> Array:
    y, inner = x, x.shape[-1] * self.expansion
    part = lambda features, name, **sizes: ConvNorm(
      features, padding="SAME", epsilon=_EPSILON, dtype=self.dtype, name=name, **sizes
    )
    if self.expansion > 1:
      y = nn.relu6(part(inner, "expand")(y, batch_statistics))
    depthwise = part(inner, "depthwise", kernel_size=self.kernel, stride=self.stride, depthwise=True)
    y = part(self.width, "project")(nn.relu6(depthwise(y, batch_statistics)), batch_statistics)
    return x + y if x.shape == y.shape else y


class EfficientNetLite(nn.Module):
  """Normalised frames [B, T, H, W, 3] -> {"tokens" [B, T, h*w, D], "pooled" [B, T, D]}, and "logits" [B, T, classes]
  with a classifier.

  The tokens are the cells after the head convolution (D = 1280) in row-major order, h = ceil(H / 32) rows of
  w = ceil(W / 32); "pooled" is their mean. Batch norm uses its running statistics unless `train` is set.
  """

  config: EfficientNetLiteConfig = EfficientNetLiteConfig()
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, frames: Float[Array, "B T H W 3"], train: bool = False) -> dict[str, Array]:
    config, (batch, time) = self.config, frames.shape[:2]
    stem = ConvNorm(config.stem, 3, 2, "SAME", epsilon=_EPSILON, dtype=self.dtype, name="stem")
    x = nn.relu6(stem(frames.reshape(-1, *frames.shape[2:]), train))
    stages = zip(config.widths, config.blocks, _KERNELS, _STRIDES, _EXPANSIONS, strict=True)
    plan = [
      (width, kernel, stride if i == 0 else 1, expansion)
      for width, blocks, kernel, stride, expansion in stages
      for i in range(blocks)
    ]
    for i, block in enumerate(plan):
      x = _Block(*block, self.dtype, name=f"block_{i}")(x, train)
    x = nn.relu6(ConvNorm(config.head, epsilon=_EPSILON, dtype=self.dtype, name="head")(x, train))
    tokens = x.astype(jnp.float32).reshape(batch, time, -1, config.head)
    features = {"tokens": tokens, "pooled": tokens.mean(2)}
    if config.classes:
      features["logits"] = nn.Dense(config.classes, name="logits")(features["pooled"])
    return features


def _torch_layout() -> tuple[Rule, ...]:
  """Names of the PyTorch port."""
  block, ours = r"_blocks\.(\d+)\._", r"block_\1/"
  rules = [
    *conv_norm_rules("_conv_stem", "_bn0", "stem"),
    *conv_norm_rules("_conv_head", "_bn1", "head"),
    *linear_rules(r"_fc", "params/logits", optional=True),
  ]
  for i, name in enumerate(("expand", "depthwise", "project")):
    rules += conv_norm_rules(f"{block}{name}_conv", f"{block}bn{i}", ours + name)
  return tuple(rules)


LAYOUTS = (_torch_layout(),)
