"""Bottleneck cross-attention (B-CAST): frames and motion segments look at each other at a narrow width.

After Lee et al., "CAST: Cross-Attention in Space and Time for Video Action Recognition" (2023), here in both directions
in parallel from the same state. With s [B, T, N, D] the semantic tokens and m [B, T, M, D'] the motion tokens:

    s~ = LN(down LN(s)) + time + space            m~ = LN(down LN(m)) + time
    z_s = attend(queries s~, sources m~)          z_m = attend(queries m~, sources s~)         |t - s| <= window
    s <- s + up GELU(z_s)                         m <- m + up GELU(z_m)
"""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gasmcast.fusion.config import FusionConfig
from gasmcast.fusion.metadata import lattice, offset_index, table_size
from gasmcast.layers.attention import MultiHeadAttention
from gasmcast.layers.dense import Dense
from gasmcast.layers.drop_path import DropPath
from gasmcast.layers.mlp import MLP


def repeat_tokens(x: Array, queries: int, keys: int) -> Array:
  """From pairs of times [..., T, S] to pairs of tokens [..., T * queries, S * keys]."""
  return jnp.repeat(jnp.repeat(x, queries, axis=-2), keys, axis=-1)


def time_window(time: int, window: int) -> Bool[np.ndarray, "T T"]:
  """Pairs of query time and key time that are at most `window` apart."""
  return lattice(time).within((window,))


class BCastLayer(nn.Module):
  """One exchange between the streams. Motion of one vector a segment has M = 1.

  Attributes:
    config: the fields of the B-CAST layers count here.
    window: how many segments a token sees before and after its own.
    dtype: of the computation.
  """

  config: FusionConfig
  window: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    semantic: Float[Array, "B T N D"],
    motion: Float[Array, "B T M E"],
    train: bool = False,
    capture: bool = False,
  ) -> tuple[Float[Array, "B T N D"], Float[Array, "B T M E"], dict[str, Array]]:
    """Both streams after the exchange; with `capture` the weights "motion_to_semantic" [B, K, T*N, T*M] and
    "semantic_to_motion" [B, K, T*M, T*N]."""
    s, m = self._narrow("semantic", semantic), self._narrow("motion", motion)
    s, m = self._embed(s, m)
    weights = {}
    for name, queries, sources in (("motion_to_semantic", s, m), ("semantic_to_motion", m, s)):
      if self.config.direction not in ("both", name):
        continue
      z, weights[name] = self._attend(name, queries, sources, capture)
      stream = name.rsplit("_", 1)[-1]
      if stream == "semantic":
        semantic = semantic + self._widen(stream, z, semantic.shape[-1], train)
      else:
        motion = motion + self._widen(stream, z, motion.shape[-1], train)
    return semantic, motion, weights if capture else {}

  def _norm(self, name: str, x: Array) -> Array:
    return nn.LayerNorm(dtype=jnp.float32, name=name)(x)

  def _narrow(self, stream: str, x: Array) -> Array:
    y = Dense(self.config.bottleneck, dtype=self.dtype, name=f"{stream}_down")(self._norm(f"{stream}_norm", x))
    return self._norm(f"{stream}_down_norm", y)

  def _embed(self, s: Array, m: Array) -> tuple[Array, Array]:
    """Adds the codes of time, shared by both streams, and of place (motion has one only as a grid)."""
    config, (_, time, patches, width), cells = self.config, s.shape, m.shape[2]
    normal = nn.initializers.normal(config.embedding_std)
    if config.time_embedding:
      code = self.param("time_embedding", normal, (time, width))[:, None]
      s, m = s + code, m + code
    if config.space_embedding:
      s = s + self.param("space_embedding", normal, (patches, width))
      if cells > 1:
        m = m + self.param("motion_space_embedding", normal, (cells, width))
    return s, m

  def _attend(self, name: str, queries: Array, sources: Array, capture: bool) -> tuple[Array, Array | None]:
    config, (batch, time, count, width), keys = self.config, queries.shape, sources.shape[2]
    mask = repeat_tokens(time_window(time, self.window), count, keys)
    bias = None
    if config.relative_bias != "none":
      size = table_size((time,), config.relative_bias)
      table = self.param(f"{name}_bias", nn.initializers.normal(config.bias_std), (config.heads, size))
      bias = repeat_tokens(table[:, offset_index(lattice(time), config.relative_bias)], count, keys)
    attention = MultiHeadAttention(config.heads, width, width, self.dtype, name=name)
    flat = (batch, -1, width)
    z, weights = attention(queries.reshape(flat), sources.reshape(flat), bias, mask, capture)
    return z.reshape(queries.shape), weights

  def _widen(self, stream: str, z: Array, width: int, train: bool) -> Array:
    config = self.config
    if config.bcast_ffn_ratio:
      hidden = int(config.bottleneck * config.bcast_ffn_ratio)
      z = z + MLP(hidden, self.dtype, name=f"{stream}_ffn")(self._norm(f"{stream}_ffn_norm", z))
    initial = nn.initializers.zeros if config.zero_init else nn.initializers.lecun_normal()
    y = Dense(width, dtype=self.dtype, kernel_init=initial, name=f"{stream}_up")(nn.gelu(z, approximate=False))
    return DropPath(config.drop_path, name=f"{stream}_drop")(y, train)
