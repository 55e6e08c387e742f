"""Attention: pure functions on arrays in the layout [..., K, T, D], and the one multi-head module made of them.

Vaswani et al., "Attention Is All You Need" (2017), equation 1, with an additive bias and a boolean mask on the logits.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gasmcast.core.config import require
from gasmcast.layers.contract import contract
from gasmcast.layers.dense import Dense


def split_heads(x: Float[Array, "*batch T D"], heads: int) -> Float[Array, "*batch K T E"]:
  """Cuts the last axis into `heads` equal parts: [..., T, K * E] -> [..., K, T, E]."""
  return jnp.swapaxes(x.reshape(*x.shape[:-1], heads, -1), -3, -2)


def merge_heads(x: Float[Array, "*batch K T E"]) -> Float[Array, "*batch T D"]:
  """The inverse of `split_heads`: [..., K, T, E] -> [..., T, K * E]."""
  x = jnp.swapaxes(x, -3, -2)
  return x.reshape(*x.shape[:-2], -1)


def masked_softmax(logits: Float[Array, "*batch S"], mask: Bool[Array, "..."] | None) -> Float[Array, "*batch S"]:
  """Softmax over the last axis in float32, exactly 0 where the mask (which broadcasts) is False.

  A row needs at least one True; a row without any comes out uniform.
  """
  logits = logits.astype(jnp.float32)
  if mask is not None:
    logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
  return jax.nn.softmax(logits, axis=-1)


def attend(
  query: Float[Array, "*batch K Q E"],
  key: Float[Array, "*batch K S E"],
  value: Float[Array, "*batch K S F"],
  bias: Float[Array, "..."] | None = None,
  mask: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "*batch K Q F"], Float[Array, "*batch K Q S"]]:
  """softmax(query key^T / sqrt(E) + bias) value, and the weights.

  Args:
    query, key, value: of one dtype.
    bias: added to the logits; broadcasts against [..., K, Q, S].
    mask: where False the weight is exactly 0; broadcasts likewise.

  Returns:
    The output in the dtype of `value`, and the float32 weights, whose rows over S sum to 1.
  """
  logits = contract("...qe,...se->...qs", query, key) * query.shape[-1] ** -0.5
  if bias is not None:
    logits = logits + bias
  weights = masked_softmax(logits, mask)
  return contract("...qs,...sf->...qf", weights.astype(value.dtype), value).astype(value.dtype), weights


class MultiHeadAttention(nn.Module):
  """Projections to `heads` queries, keys and values, `attend`, and an output projection.

  Attributes:
    heads: number of heads; divides `width`.
    width: of queries, keys and values, all heads together.
    out_width: of the output.
    dtype: of the computation.
    query_bias, key_bias, value_bias: whether the projection has a bias. A key bias adds the same number to all
      logits of a row, so softmax makes its gradient zero: it is there to load weights that have one.
    kernel_init, out_kernel_init: of the three input kernels and of the output kernel.
  """

  heads: int
  width: int
  out_width: int
  dtype: jnp.dtype = jnp.float32
  query_bias: bool = True
  key_bias: bool = True
  value_bias: bool = True
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  out_kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(
    self,
    queries: Float[Array, "*batch Q D"],
    sources: Float[Array, "*batch S E"],
    bias: Float[Array, "..."] | None = None,
    mask: Bool[Array, "..."] | None = None,
    capture: bool = False,
  ) -> tuple[Float[Array, "*batch Q F"], Float[Array, "*batch K Q S"] | None]:
    """`sources` give keys and values; pass `queries` again for self-attention. The weights come with `capture`.

    Raises:
      ConfigError: the heads do not divide the width.
    """
    require(
      self.width % self.heads == 0,
      f"attention of width {self.width} can't be cut into {self.heads} equal heads; choose a divisor of the width.",
    )

    def project(name: str, x: Array, use_bias: bool) -> Array:
      return split_heads(Dense(self.width, use_bias, self.dtype, self.kernel_init, name=name)(x), self.heads)

    query = project("query", queries, self.query_bias)
    key = project("key", sources, self.key_bias)
    value = project("value", sources, self.value_bias)
    z, weights = attend(query, key, value, bias, mask)
    out = Dense(self.out_width, dtype=self.dtype, kernel_init=self.out_kernel_init, name="out")(merge_heads(z))
    return out, weights if capture else None
