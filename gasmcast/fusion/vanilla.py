"""Vanilla cross-attention: the baseline that B-CAST is measured against, at the full width of each stream.

With s [B, T, N, D] the semantic tokens and m [B, T, M, D'] the motion tokens, in both directions from the same state
(Vaswani et al. 2017, section 3.2; as the co-attention of Lu et al., "ViLBERT", 2019, without its feed-forward parts):

    s' = LN(s) + time + space                     m' = LN(m) + time
    s <- s + attend(queries s', sources m')       m <- m + attend(queries m', sources s')
"""

from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.fusion.exchange import Exchange
from gasmcast.layers.drop_path import DropPath


class VanillaLayer(Exchange):
  """One exchange between the streams. The bottleneck and the feed-forward parts of B-CAST do not exist here."""

  @nn.compact
  def __call__(
    self,
    semantic: Float[Array, "B T N D"],
    motion: Float[Array, "B T M E"],
    train: bool = False,
    capture: bool = False,
  ) -> tuple[Float[Array, "B T N D"], Float[Array, "B T M E"], dict[str, Array]]:
    """As `BCastLayer`."""
    states = {"semantic": semantic, "motion": motion}
    read = {stream: self._embed(stream, self.norm(f"{stream}_norm", x)) for stream, x in states.items()}
    initial = nn.initializers.zeros if self.config.zero_init else nn.initializers.lecun_normal()
    weights = {}
    for name, stream, source in self.directions():
      z, weights[name] = self.attend(name, read[stream], read[source], capture, out_kernel_init=initial)
      states[stream] = states[stream] + DropPath(self.config.drop_path, name=f"{stream}_drop")(z, train)
    return states["semantic"], states["motion"], weights if capture else {}

  def _embed(self, stream: str, x: Float[Array, "B T N D"]) -> Float[Array, "B T N D"]:
    """Adds the codes of time and, of more than one token a frame, of place; each stream has its own, being as wide."""
    _, time, tokens, width = x.shape
    if self.config.time_embedding:
      x = x + self.code(f"{stream}_time_embedding", time, width)[:, None]
    if self.config.space_embedding and tokens > 1:
      x = x + self.code(f"{stream}_space_embedding", tokens, width)
    return x
