"""DINOv3 vision transformer: frames in, patch tokens out. Siméoni et al., "DINOv3" (2025).

A pre-norm ViT with a class token, register tokens, LayerScale, no bias on the keys, and rotary position codes on the
patches: each patch centre's (row, column), on the scale -1..1 of its own side, turns pairs of query and key
channels by 2*pi*coordinate / 100^(4i/head width).
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.core.config import require
from gasmcast.features.preprocessing import IMAGENET, Normalisation
from gasmcast.layers.attention import attend

_EPSILON = 1e-5
_ROPE_BASE = 100.0


@dataclasses.dataclass(frozen=True)
class DINOv3Config:
  """The size of the network; the defaults are ViT-B/16.

  Attributes:
    width, depth, heads, mlp_width: of the transformer.
    patch: side of a patch in pixels.
    registers: register tokens beside the class token.
    gated_mlp: down(silu(gate(x)) * up(x)), of the sizes S+ and H+, in place of the plain MLP.
    image_size: side of the square frames that `preprocessing.prepare` makes.
    layer_scale: initial LayerScale, for training from scratch.
  """

  width: int = 768
  depth: int = 12
  heads: int = 12
  mlp_width: int = 3072
  patch: int = 16
  registers: int = 4
  gated_mlp: bool = False
  image_size: int = 224
  layer_scale: float = 1.0

  def __post_init__(self):
    require(
      self.width % self.heads == 0 and (self.width // self.heads) % 4 == 0,
      f"semantic.width = {self.width} and heads = {self.heads}: a head's width must be a multiple of 4 "
      "(rotary codes for rows and columns); change one of them.",
    )
    require(
      self.image_size % self.patch == 0,
      f"semantic.image_size = {self.image_size} is not a multiple of the patch size {self.patch}.",
    )

  @property
  def normalisation(self) -> Normalisation:
    return IMAGENET

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of patches."""
    return (self.image_size // self.patch, self.image_size // self.patch)


def rope_angles(rows: int, columns: int, head_width: int) -> np.ndarray:
  """Angles of the rotary codes, float32 [rows * columns, head_width], the second half repeating the first."""
  frequencies = 1 / _ROPE_BASE ** np.arange(0, 1, 4 / head_width, dtype=np.float32)
  y = (np.arange(rows, dtype=np.float32) + 0.5) / rows * 2 - 1
  x = (np.arange(columns, dtype=np.float32) + 0.5) / columns * 2 - 1
  centres = np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2, 1)
  angles = (2 * np.pi * centres * frequencies).reshape(rows * columns, -1)
  return np.tile(angles, (1, 2)).astype(np.float32)


def rotate(x: Float[Array, "B K N E"], angles: np.ndarray) -> Float[Array, "B K N E"]:
  """Turns the channel pairs (i, i + E/2) of the last tokens by `angles`; the tokens before them stay."""
  prefix = x.shape[-2] - angles.shape[0]
  full = np.concatenate([np.zeros((prefix, angles.shape[1]), np.float32), angles])
  first, second = jnp.split(x, 2, axis=-1)
  turned = jnp.concatenate([-second, first], -1)
  return x * np.cos(full).astype(x.dtype) + turned * np.sin(full).astype(x.dtype)


class _Attention(nn.Module):
  heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, angles: np.ndarray) -> Array:
    batch, tokens, width = x.shape
    kernel = self.param("qkv_kernel", nn.initializers.xavier_uniform(), (width, 3 * width))
    query_bias = self.param("query_bias", nn.initializers.zeros, (width,))
    value_bias = self.param("value_bias", nn.initializers.zeros, (width,))
    bias = jnp.concatenate([query_bias, jnp.zeros_like(query_bias), value_bias])
    qkv = x @ kernel.astype(self.dtype) + bias.astype(self.dtype)
    qkv = qkv.reshape(batch, tokens, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
    y, _ = attend(rotate(qkv[0], angles), rotate(qkv[1], angles), qkv[2])
    y = y.astype(self.dtype).transpose(0, 2, 1, 3).reshape(batch, tokens, width)
    return nn.Dense(width, dtype=self.dtype, name="out")(y)


class _Mlp(nn.Module):
  width: int
  gated: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array) -> Array:
    up = nn.Dense(self.width, dtype=self.dtype, name="up")(x)
    if self.gated:
      hidden = nn.silu(nn.Dense(self.width, dtype=self.dtype, name="gate")(x)) * up
    else:
      hidden = nn.gelu(up, approximate=False)
    return nn.Dense(x.shape[-1], dtype=self.dtype, name="down")(hidden)


class _Block(nn.Module):
  config: DINOv3Config
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, angles: np.ndarray) -> Array:
    config = self.config
    scale = lambda name: self.param(name, nn.initializers.constant(config.layer_scale), (config.width,))
    norm = lambda name: nn.LayerNorm(_EPSILON, dtype=jnp.float32, name=name)
    y = _Attention(config.heads, self.dtype, name="attention")(norm("norm1")(x).astype(self.dtype), angles)
    x = x + scale("scale1") * y
    y = _Mlp(config.mlp_width, config.gated_mlp, self.dtype, name="mlp")(norm("norm2")(x).astype(self.dtype))
    return x + scale("scale2") * y


class DINOv3(nn.Module):
  """Normalised frames [B, T, H, W, 3] -> {"tokens" [B, T, N, D], "cls" [B, T, D], "registers" [B, T, R, D]}.

  All after the final norm; the patches are in row-major order. H and W are multiples of the patch size.
  """

  config: DINOv3Config = DINOv3Config()
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, frames: Float[Array, "B T H W 3"], train: bool = False) -> dict[str, Array]:
    config, (batch, time, height, width, _) = self.config, frames.shape
    rows, columns = height // config.patch, width // config.patch
    require(
      (rows * config.patch, columns * config.patch) == (height, width),
      f"frames of {height} x {width} pixels do not divide into patches of {config.patch}; resize or crop them.",
    )
    patches = frames.reshape(batch * time, rows, config.patch, columns, config.patch, 3)
    patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(batch * time, rows * columns, -1)
    x = nn.Dense(config.width, dtype=self.dtype, name="patch_embedding")(patches).astype(jnp.float32)
    prefix = jnp.concatenate(
      [
        self.param("cls_token", nn.initializers.normal(0.02), (1, config.width)),
        self.param("register_tokens", nn.initializers.normal(0.02), (config.registers, config.width)),
      ]
    )
    x = jnp.concatenate([jnp.broadcast_to(prefix, (batch * time, *prefix.shape)), x], 1)
    angles = rope_angles(rows, columns, config.width // config.heads)
    for i in range(config.depth):
      x = _Block(config, self.dtype, name=f"block_{i}")(x, angles)
    x = nn.LayerNorm(_EPSILON, dtype=jnp.float32, name="norm")(x).reshape(batch, time, -1, config.width)
    first = 1 + config.registers
    return {"tokens": x[:, :, first:], "cls": x[:, :, 0], "registers": x[:, :, 1:first]}
