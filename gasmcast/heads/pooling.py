"""From the tokens of a clip to one vector."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.layers.attention import masked_softmax, split_heads
from gasmcast.layers.contract import contract
from gasmcast.layers.dense import Dense


def mean_pool(x: Float[Array, "B T N D"]) -> Float[Array, "B D"]:
  """The mean over time and tokens, in float32."""
  return x.astype(jnp.float32).mean((1, 2))


def frame_means(x: Float[Array, "B T N D"]) -> Float[Array, "B T D"]:
  """The mean over the tokens of each frame, in float32."""
  return x.astype(jnp.float32).mean(2)


class RecurrentPooling(nn.Module):
  """The last state of an LSTM over the frames (Hochreiter and Schmidhuber 1997): [B, T, D] -> [B, width], float32.

  Attributes:
    width: of the state.
    dtype: of the computation.
  """

  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B E"]:
    x = nn.LayerNorm(dtype=jnp.float32, name="norm")(x)
    # Without a loop: frames are few, and XLA counts the body of a loop once, however often it runs.
    lstm = nn.RNN(nn.OptimizedLSTMCell(self.width, dtype=self.dtype), unroll=x.shape[1], name="lstm")
    states = lstm(x.astype(self.dtype))
    return states[:, -1].astype(jnp.float32)


class AttentivePooling(nn.Module):
  """Each of `heads` learned queries chooses tokens by their keys and sums its own group of their channels.

  Attributes:
    heads: K, queries and groups of channels; divides the width of the tokens and `key_width`.
    key_width: of the keys, all heads together.
    time_bias: a learned logit for each head and time, without which the order of frames is invisible here.
    bias_std: initial standard deviation of that logit.
    dtype: of the computation.
  """

  heads: int
  key_width: int
  time_bias: bool = True
  bias_std: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "B T N D"]) -> tuple[Float[Array, "B D"], Float[Array, "B K T*N"]]:
    """The float32 vector, and the weights over the tokens in the order of time, then place."""
    batch, time, tokens, width = x.shape
    keys = Dense(self.key_width, dtype=self.dtype, name="key")(nn.LayerNorm(dtype=jnp.float32, name="norm")(x))
    keys = split_heads(keys.reshape(batch, time * tokens, -1), self.heads)
    query = self.param("query", nn.initializers.normal(0.02), (self.heads, keys.shape[-1]))
    logits = contract("bkne,ke->bkn", keys, query.astype(self.dtype)) * keys.shape[-1] ** -0.5
    if self.time_bias:
      bias = self.param("time_bias", nn.initializers.normal(self.bias_std), (self.heads, time))
      logits = logits + jnp.repeat(bias, tokens, axis=1)
    weights = masked_softmax(logits, None)
    values = split_heads(x.reshape(batch, time * tokens, width), self.heads)
    return contract("bkn,bkne->bke", weights.astype(x.dtype), values).reshape(batch, width), weights
