"""Time in sequences of vectors: fixed sinusoidal codes, and a transformer over frames with learned positions.

The transformer is that of Vaswani et al., "Attention Is All You Need" (2017), section 3.1, with GELU in place of ReLU.
"""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.core.config import require
from gasmcast.layers.attention import MultiHeadAttention
from gasmcast.layers.drop_path import DropPath
from gasmcast.layers.mlp import MLP

_LONGEST = 10_000.0  # of the wavelengths, over 2 pi, as published


def sinusoidal_codes(time: int, width: int) -> Float[np.ndarray, "T D"]:
  """sin(t / 10000^(2i/D)) in channel 2i and its cosine in channel 2i + 1, float32; without parameters.

  Vaswani et al. 2017, section 3.5.

  Raises:
    ConfigError: the width is odd, so a sine would have no cosine.
  """
  require(width % 2 == 0, f"sinusoidal codes of width {width}: sines and cosines come in pairs; use an even width.")
  rates = _LONGEST ** (-np.arange(0, width, 2) / width)
  angles = np.arange(time)[:, None] * rates
  return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(time, width).astype(np.float32)


class EncoderLayer(nn.Module):
  """Self-attention and a feed-forward part, each a residual branch with the norm after the sum ("post-norm").

      x <- LN(x + attention(x))        x <- LN(x + FFN(x))

  Attributes:
    heads: K, divides the width of x.
    hidden: width inside the feed-forward part.
    dropout: rate on the output of each branch, in training, from the random stream "dropout".
    drop_path: probability of dropping a branch of a clip in training.
    dtype: of the computation; norms are float32.
  """

  heads: int
  hidden: int
  dropout: float = 0.0
  drop_path: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T D"], train: bool = False, capture: bool = False
  ) -> tuple[Float[Array, "B T D"], Float[Array, "B K T T"] | None]:
    """The frames after the layer in float32, and with `capture` the attention weights."""
    width = x.shape[-1]
    y, weights = MultiHeadAttention(self.heads, width, width, self.dtype, name="attention")(x, x, capture=capture)
    x = self._add("attention", x, y, train)
    x = self._add("ffn", x, MLP(self.hidden, self.dtype, name="ffn")(x), train)
    return x, weights

  def _add(self, branch: str, x: Array, y: Array, train: bool) -> Array:
    y = nn.Dropout(self.dropout, name=f"{branch}_dropout")(y, deterministic=not train)
    y = DropPath(self.drop_path, name=f"{branch}_drop")(y, train)
    return nn.LayerNorm(dtype=jnp.float32, name=f"{branch}_norm")(x + y)


class TemporalTransformer(nn.Module):
  """Frames with learned positions, then encoder layers: every frame sees every other one.

  Post-norm needs no norm at the end: what comes out is normalised by the last layer. With pre-norm the sum of all
  branches would come out as it is, of any size, unless a further norm (2 D parameters) follows.

  Attributes:
    layers: how many.
    heads, hidden, dropout, drop_path, dtype: of each, see `EncoderLayer`.
    position_std: initial standard deviation of the positions.
  """

  layers: int
  heads: int
  hidden: int
  dropout: float = 0.0
  drop_path: float = 0.0
  dtype: jnp.dtype = jnp.float32
  position_std: float = 0.02

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T D"], train: bool = False, capture: bool = False
  ) -> tuple[Float[Array, "B T D"], dict[str, Array]]:
    """The frames in float32, and with `capture` the weights "layer_0", ... [B, K, T, T].

    Raises:
      ConfigError: the heads do not divide the width.
    """
    time, width = x.shape[1:]
    require(
      width % self.heads == 0,
      f"heads = {self.heads} does not divide the width {width} of the frames; choose a divisor of it.",
    )
    x = x + self.param("positions", nn.initializers.normal(self.position_std), (time, width))
    weights = {}
    for i in range(self.layers):
      name = f"layer_{i}"
      layer = EncoderLayer(self.heads, self.hidden, self.dropout, self.drop_path, self.dtype, name=name)
      x, weights[name] = layer(x, train, capture)
    return x, weights if capture else {}
