"""The transformer block that DINOv3, DINOv2 and V-JEPA 2 share, in the formulation that is fast everywhere.

Pre-norm attention with queries, keys and values from one product, and an MLP, each optionally scaled by channel
(LayerScale). Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021).
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.layers.attention import attend, merge_heads
from gasmcast.layers.contract import contract
from gasmcast.layers.dense import Dense

Rotate = Callable[[Float[Array, "B K N E"]], Float[Array, "B K N E"]]


class Attention(nn.Module):
  """Self-attention [B, N, D] -> [B, N, D]; `rotate` turns queries and keys by position."""

  heads: int
  key_bias: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Float[Array, "B N D"], rotate: Rotate | None) -> Float[Array, "B N D"]:
    batch, tokens, width = x.shape
    kernel = self.param("qkv_kernel", nn.initializers.xavier_uniform(), (width, 3 * width))
    query_bias = self.param("query_bias", nn.initializers.zeros, (width,))
    key_bias = self.param("key_bias", nn.initializers.zeros, (width,)) if self.key_bias else jnp.zeros_like(query_bias)
    value_bias = self.param("value_bias", nn.initializers.zeros, (width,))
    qkv = contract("bnd,de->bne", x, kernel.astype(self.dtype)) + jnp.concatenate([query_bias, key_bias, value_bias])
    query, key, value = qkv.reshape(batch, tokens, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
    if rotate is not None:
      query, key = rotate(query), rotate(key)
    y, _ = attend(query.astype(self.dtype), key.astype(self.dtype), value.astype(self.dtype))
    return Dense(width, dtype=self.dtype, name="out")(merge_heads(y))


class MLP(nn.Module):
  """down(gelu(up(x))), or down(silu(gate(x)) * up(x)): [..., D] -> [..., D]."""

  width: int
  gated: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    up = Dense(self.width, dtype=self.dtype, name="up")(x)
    if self.gated:
      hidden = nn.silu(Dense(self.width, dtype=self.dtype, name="gate")(x)) * up
    else:
      hidden = nn.gelu(up, approximate=False)
    return Dense(x.shape[-1], dtype=self.dtype, name="down")(hidden)


class Block(nn.Module):
  """x + scale1 * attention(norm(x)), then x + scale2 * mlp(norm(x)), on a float32 residual stream.

  Attributes:
    heads: K.
    mlp_width: of the hidden layer.
    epsilon: of both LayerNorms.
    key_bias: whether keys have a bias.
    gated_mlp: the gated MLP in place of the plain one.
    layer_scale: initial LayerScale; None for a block without.
    dtype: of the products; norms, softmax and the residual stream are float32.
  """

  heads: int
  mlp_width: int
  epsilon: float
  key_bias: bool = True
  gated_mlp: bool = False
  layer_scale: float | None = None
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "B N D"], rotate: Rotate | None = None) -> Float[Array, "B N D"]:
    norm = lambda name: nn.LayerNorm(self.epsilon, dtype=jnp.float32, name=name)
    y = Attention(self.heads, self.key_bias, self.dtype, name="attention")(norm("norm1")(x).astype(self.dtype), rotate)
    x = x + self._scale("scale1", y)
    y = MLP(self.mlp_width, self.gated_mlp, self.dtype, name="mlp")(norm("norm2")(x).astype(self.dtype))
    return x + self._scale("scale2", y)

  def _scale(self, name: str, y: Array) -> Array:
    if self.layer_scale is None:
      return y
    return y * self.param(name, nn.initializers.constant(self.layer_scale), (y.shape[-1],))
