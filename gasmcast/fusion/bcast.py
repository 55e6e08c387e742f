"""Bottleneck cross-attention (B-CAST): frames and motion segments look at each other at a narrow width.

After Lee et al., "CAST: Cross-Attention in Space and Time for Video Action Recognition" (2023), here in both directions
in parallel from the same state. With s [B, T, N, D] the semantic tokens and m [B, T, M, D'] the motion tokens:

    s~ = LN(down LN(s)) + time + space            m~ = LN(down LN(m)) + time
    z_s = attend(queries s~, sources m~)          z_m = attend(queries m~, sources s~)         |t - s| <= window
    s <- s + up GELU(z_s)                         m <- m + up GELU(z_m)
"""

from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.fusion.exchange import Exchange
from gasmcast.layers.dense import Dense
from gasmcast.layers.drop_path import DropPath
from gasmcast.layers.mlp import MLP


class BCastLayer(Exchange):
  """One exchange between the streams. Motion of one vector a segment has M = 1."""

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
    states = {"semantic": semantic, "motion": motion}
    narrow, weights = self._embed({stream: self._narrow(stream, x) for stream, x in states.items()}), {}
    for name, stream, source in self.directions():
      z, weights[name] = self.attend(name, narrow[stream], narrow[source], capture)
      states[stream] = states[stream] + self._widen(stream, z, states[stream].shape[-1], train)
    return states["semantic"], states["motion"], weights if capture else {}

  def _narrow(self, stream: str, x: Array) -> Array:
    y = Dense(self.config.bottleneck, dtype=self.dtype, name=f"{stream}_down")(self.norm(f"{stream}_norm", x))
    return self.norm(f"{stream}_down_norm", y)

  def _embed(self, narrow: dict[str, Array]) -> dict[str, Array]:
    """Adds the codes of time, shared by both streams, and of place (motion has one only as a grid)."""
    config, s, m = self.config, narrow["semantic"], narrow["motion"]
    (_, time, patches, width), cells = s.shape, m.shape[2]
    if config.time_embedding:
      code = self.code("time_embedding", time, width)[:, None]
      s, m = s + code, m + code
    if config.space_embedding:
      s = s + self.code("space_embedding", patches, width)
      if cells > 1:
        m = m + self.code("motion_space_embedding", cells, width)
    return {"semantic": s, "motion": m}

  def _widen(self, stream: str, z: Array, width: int, train: bool) -> Array:
    config = self.config
    if config.bcast_ffn_ratio:
      hidden = int(config.bottleneck * config.bcast_ffn_ratio)
      z = z + MLP(hidden, self.dtype, name=f"{stream}_ffn")(self.norm(f"{stream}_ffn_norm", z))
    initial = nn.initializers.zeros if config.zero_init else nn.initializers.lecun_normal()
    y = Dense(width, dtype=self.dtype, kernel_init=initial, name=f"{stream}_up")(nn.gelu(z, approximate=False))
    return DropPath(config.drop_path, name=f"{stream}_drop")(y, train)
