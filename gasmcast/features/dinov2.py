"""DINOv2 vision transformer: frames in, patch tokens out. Oquab et al., "DINOv2" (2024).

A pre-norm ViT with a class token, LayerScale and learned position embeddings for a 37 x 37 grid of patches, resampled
(bicubic) to the grid of the frames. The networks with registers (Darcet et al., "Vision Transformers Need Registers",
2024) have tokens without a position beside the class token, and resample with antialiasing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.core.config import require
from gasmcast.features.bicubic import resample
from gasmcast.features.conversion import Rule, linear, linear_rules, norm_rules, patches, rows
from gasmcast.features.frame_patches import cut, require_patches
from gasmcast.features.hub_config import read_values, require_kind, require_values
from gasmcast.features.preprocessing import IMAGENET, Normalisation
from gasmcast.features.vit import Block
from gasmcast.layers.dense import Dense

_EPSILON = 1e-6
_HUB_DEFAULTS = {
  "hidden_size": 768,
  "num_hidden_layers": 12,
  "num_attention_heads": 12,
  "mlp_ratio": 4.0,
  "image_size": 224,
  "patch_size": 14,
  "num_register_tokens": 0,
  "num_channels": 3,
  "hidden_act": "gelu",
  "qkv_bias": True,
  "layer_norm_eps": 1e-6,
  "use_swiglu_ffn": False,
}
_HUB_NEEDED = {
  "num_channels": 3,
  "hidden_act": "gelu",
  "qkv_bias": True,
  "layer_norm_eps": _EPSILON,
  "use_swiglu_ffn": False,  # True for the giant alone
}


@dataclasses.dataclass(frozen=True)
class DINOv2Config:
  """The size of the network; the defaults are ViT-B/14 without registers.

  Attributes:
    width, depth, heads, mlp_width: of the transformer.
    patch: side of a patch in pixels.
    registers: register tokens beside the class token.
    antialias: whether the position embeddings are averaged where their grid shrinks.
    position_grid: side of the grid of patches that they are stored for.
    image_size: side of the square frames that `preprocessing.prepare` makes.
    layer_scale: initial LayerScale, for training from scratch.
  """

  normalisation: ClassVar[Normalisation] = IMAGENET
  margin: ClassVar[bool] = True
  clip: ClassVar[int] = 1

  width: int = 768
  depth: int = 12
  heads: int = 12
  mlp_width: int = 3072
  patch: int = 14
  registers: int = 0
  antialias: bool = False
  position_grid: int = 37
  image_size: int = 224
  layer_scale: float = 1.0

  def __post_init__(self):
    for name in ("width", "depth", "heads", "mlp_width", "patch", "position_grid", "image_size"):
      require(getattr(self, name) >= 1, f"semantic.{name} = {getattr(self, name)}: it must be at least 1.")
    require(self.registers >= 0, f"semantic.registers = {self.registers}: it must be at least 0.")
    require(
      self.width % self.heads == 0,
      f"semantic.width = {self.width} is not a multiple of heads = {self.heads}; change one of them.",
    )
    require(
      self.image_size % self.patch == 0,
      f"semantic.image_size = {self.image_size} is not a multiple of the patch size {self.patch}.",
    )

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of patches."""
    return (self.image_size // self.patch, self.image_size // self.patch)

  def check_frames(self, time: int, height: int, width: int) -> None:
    """Raises DataError unless the frames divide into patches."""
    require_patches(height, width, self.patch)

  def with_hub_config(self, values: Mapping[str, Any]) -> "DINOv2Config":
    """The sizes that a config.json of the Hugging Face Hub gives.

    Its image_size is that of the position embeddings; ours stays, or shrinks to a multiple of the patch size.

    Raises:
      WeightsError: a file of another network, or of a variant that is not built here.
    """
    kind = require_kind(values, "dinov2", "dinov2_with_registers")
    registers = kind == "dinov2_with_registers"
    # transformers has other defaults for the networks with registers
    hub = read_values(values, _HUB_DEFAULTS | ({"patch_size": 16, "num_register_tokens": 4} if registers else {}))
    require_values(kind, hub, _HUB_NEEDED)
    patch = hub["patch_size"]
    return dataclasses.replace(
      self,
      width=hub["hidden_size"],
      depth=hub["num_hidden_layers"],
      heads=hub["num_attention_heads"],
      mlp_width=int(hub["hidden_size"] * hub["mlp_ratio"]),
      patch=patch,
      registers=hub["num_register_tokens"] if registers else 0,
      antialias=registers,
      position_grid=hub["image_size"] // max(1, patch),
      image_size=max(1, self.image_size // max(1, patch)) * patch,
    )


class DINOv2(nn.Module):
  """Normalised frames [B, T, H, W, 3] -> {"tokens" [B, T, N, D], "cls" [B, T, D], "registers" [B, T, R, D]}.

  All after the final norm; the patches are in row-major order. H and W are multiples of the patch size.
  """

  config: DINOv2Config = DINOv2Config()
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, frames: Float[Array, "B T H W 3"], train: bool = False) -> dict[str, Array]:
    config, (batch, time, height, width, _) = self.config, frames.shape
    config.check_frames(time, height, width)
    x = cut(frames.astype(self.dtype), config.patch)
    x = Dense(config.width, dtype=self.dtype, name="patch_embedding")(x).astype(jnp.float32)
    first, positions = self._positions(height // config.patch, width // config.patch)
    token = nn.initializers.normal(0.02)
    prefix = [self.param("cls_token", token, (1, config.width)) + first]
    if config.registers:
      prefix.append(self.param("register_tokens", token, (config.registers, config.width)))
    prefix = jnp.concatenate(prefix)
    x = jnp.concatenate([jnp.broadcast_to(prefix, (batch * time, *prefix.shape)), x + positions], 1)
    for i in range(config.depth):
      block = Block(
        config.heads,
        config.mlp_width,
        _EPSILON,
        layer_scale=config.layer_scale,
        dtype=self.dtype,
        name=f"block_{i}",
      )
      x = block(x)
    x = nn.LayerNorm(_EPSILON, dtype=jnp.float32, name="norm")(x).reshape(batch, time, -1, config.width)
    patch = 1 + config.registers
    return {"tokens": x[:, :, patch:], "cls": x[:, :, 0], "registers": x[:, :, 1:patch]}

  def _positions(self, rows: int, columns: int) -> tuple[Float[Array, "1 D"], Float[Array, "N D"]]:
    """Position embeddings of the class token and of the patches."""
    side, width = self.config.position_grid, self.config.width
    stored = self.param("position_embeddings", nn.initializers.normal(0.02), (1 + side * side, width))
    grid = resample(stored[1:].reshape(side, side, width), rows, columns, self.config.antialias)
    return stored[:1], grid.reshape(rows * columns, width)


def _hub_layout() -> tuple[Rule, ...]:
  """Names of the files on the Hugging Face Hub."""
  layer, block = r"encoder\.layer\.(\d+)\.", r"params/block_\1/"
  rules = [
    Rule(r"embeddings\.mask_token"),  # used in pretraining only
    Rule(r"embeddings\.(cls_token|register_tokens|position_embeddings)", r"params/\1", rows),
    *linear_rules(r"embeddings\.patch_embeddings\.projection", "params/patch_embedding", patches),
    *norm_rules(r"layernorm", "params/norm"),
    Rule(layer + r"attention\.attention\.(query|key|value)\.bias", block + r"attention/\2_bias"),
    *linear_rules(layer + r"attention\.output\.dense", block + "attention/out"),
    Rule(layer + r"layer_scale([12])\.lambda1", block + r"scale\2"),
    *norm_rules(layer + r"norm([12])", block + r"norm\2"),
  ]
  for third, name in enumerate(("query", "key", "value")):
    target = f"{block}attention/qkv_kernel[{third}/3]"
    rules.append(Rule(layer + rf"attention\.attention\.{name}\.weight", target, linear))
  return (*rules, *_mlp_rules(layer, block))


def _original_layout() -> tuple[Rule, ...]:
  """Names of the authors' own files (github.com/facebookresearch/dinov2)."""
  layer, block = r"blocks\.(\d+)\.", r"params/block_\1/"
  return (
    Rule(r"mask_token"),  # used in pretraining only
    Rule(r"(cls_token|register_tokens)", r"params/\1", rows),
    Rule(r"pos_embed", "params/position_embeddings", rows),
    *linear_rules(r"patch_embed\.proj", "params/patch_embedding", patches),
    *norm_rules(r"norm", "params/norm"),
    Rule(layer + r"attn\.qkv\.weight", block + "attention/qkv_kernel", linear),
    Rule(
      layer + r"attn\.qkv\.bias", tuple(f"{block}attention/{name}" for name in ("query_bias", "key_bias", "value_bias"))
    ),
    *linear_rules(layer + r"attn\.proj", block + "attention/out"),
    Rule(layer + r"ls([12])\.gamma", block + r"scale\2"),
    *norm_rules(layer + r"norm([12])", block + r"norm\2"),
    *_mlp_rules(layer, block),
  )


def _mlp_rules(layer: str, block: str) -> tuple[Rule, ...]:
  return (
    *linear_rules(layer + r"mlp\.fc1", block + "mlp/up"),
    *linear_rules(layer + r"mlp\.fc2", block + "mlp/down"),
  )


LAYOUTS = (_hub_layout(), _original_layout())
