"""Attentive 2x2 merge: four patches become one, weighted by a learned score."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.layers.attention import masked_softmax
from gasmcast.layers.contract import contract
from gasmcast.layers.dense import Dense


def children(x: Float[Array, "B T N D"], grid: tuple[int, int]) -> Float[Array, "B T M 4 D"]:
  """The tokens of a grid with even sides by 2x2 squares, squares and their four members in row-major order."""
  (batch, time, _, width), (rows, columns) = x.shape, grid
  x = x.reshape(batch, time, rows // 2, 2, columns // 2, 2, width)
  return x.transpose(0, 1, 2, 4, 3, 5, 6).reshape(batch, time, -1, 4, width)


class TokenMerge(nn.Module):
  """Sum over each 2x2 square, weighted by a softmax of LN(x) . u. With u = 0, as at the start, it is the mean.

  Attributes:
    grid: rows and columns of the tokens that come in, both even.
    dtype: of the computation.
  """

  grid: tuple[int, int]
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "B T N D"]) -> tuple[Float[Array, "B T M D"], Float[Array, "B T M 4"]]:
    """The merged tokens and the weights of their children."""
    x = children(x, self.grid)
    y = nn.LayerNorm(dtype=jnp.float32, name="norm")(x)
    score = Dense(1, use_bias=False, dtype=jnp.float32, kernel_init=nn.initializers.zeros, name="score")(y)
    weights = masked_softmax(score[..., 0], None)
    return contract("...c,...cd->...d", weights.astype(x.dtype), x).astype(x.dtype), weights
