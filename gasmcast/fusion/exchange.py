"""What every exchange between the streams has: who sees whom, and learned terms by where two tokens stand.

A frame and a segment see each other where they are at most a window apart in time. The attention logits get a learned
term by their offset in time, and, where motion is a grid of cells, one by the offset of patch and cell in the frame:
without it a layer has to find out for each pair of places alone that they are the same.
"""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from gasmcast.fusion.config import FusionConfig
from gasmcast.fusion.metadata import OffsetKind, lattice, offset_index, table_size
from gasmcast.layers.attention import MultiHeadAttention

Grid = tuple[int, int]


def repeat_tokens(x: Array, queries: int, keys: int) -> Array:
  """From pairs of times [..., T, S] to pairs of tokens [..., T * queries, S * keys]."""
  return jnp.repeat(jnp.repeat(x, queries, axis=-2), keys, axis=-1)


def time_window(time: int, window: int) -> Bool[np.ndarray, "T T"]:
  """Pairs of query time and key time that are at most `window` apart."""
  return lattice(time).within((window,))


def place_sides(queries: Grid, keys: Grid) -> Grid:
  """Steps in which offsets between the points of two grids are told, in rows and columns: those of the finer one."""
  return max(queries[0], keys[0]), max(queries[1], keys[1])


def place_index(queries: Grid, keys: Grid, kind: OffsetKind) -> Int[np.ndarray, "Q S"]:
  """Where the offset of each pair of points of two grids over one frame stands in a table of learned terms.

  The offset is that of their centres, rounded (halves up) to steps of the finer grid; "absolute" forgets its sign.
  """
  sides, index = place_sides(queries, keys), np.zeros((1, 1), int)
  for a, b, side in zip(queries, keys, sides, strict=True):
    apart = (2 * np.arange(a)[:, None] + 1) * b - (2 * np.arange(b)[None] + 1) * a  # of the centres, times 2 a b
    apart = np.abs(apart) if kind == "absolute" else apart
    steps = (apart * side + a * b) // (2 * a * b)
    place = steps if kind == "absolute" else steps + side
    size = _places(side, kind)
    index = (index[:, None, :, None] * size + place[None, :, None, :]).reshape(index.shape[0] * a, -1)
  return index


def place_table_size(queries: Grid, keys: Grid, kind: OffsetKind) -> int:
  """The number of entries of that table."""
  rows, columns = place_sides(queries, keys)
  return _places(rows, kind) * _places(columns, kind)


def _places(side: int, kind: OffsetKind) -> int:
  return side + 1 if kind == "absolute" else 2 * side + 1


class Exchange(nn.Module):
  """The base of layers that let both streams look at each other, in parallel from the same state.

  Attributes:
    config: of the fusion.
    window: how many segments a token sees before and after its own.
    grid: rows and columns of the semantic tokens.
    motion_grid: of the motion tokens; (1, 1) for one vector a segment.
    dtype: of the computation.
  """

  config: FusionConfig
  window: int
  grid: Grid
  motion_grid: Grid = (1, 1)
  dtype: jnp.dtype = jnp.float32

  def directions(self) -> tuple[tuple[str, str, str], ...]:
    """(name, stream of the queries, stream of the sources) of what the configuration wants."""
    both = (("motion_to_semantic", "semantic", "motion"), ("semantic_to_motion", "motion", "semantic"))
    return tuple(one for one in both if self.config.direction in ("both", one[0]))

  def attend(
    self, name: str, queries: Float[Array, "B T Q D"], sources: Float[Array, "B T S E"], capture: bool, **fields
  ) -> tuple[Float[Array, "B T Q F"], Float[Array, "B K T*Q T*S"] | None]:
    """Multi-head attention at the width of the queries over all tokens in the window; `fields` are its own."""
    batch, time, count, width = queries.shape
    keys = sources.shape[2]
    mask = None
    if self.window < time - 1:
      mask = repeat_tokens(time_window(time, self.window), count, keys)
    attention = MultiHeadAttention(self.config.heads, width, width, self.dtype, name=name, **fields)
    flat = [x.reshape(batch, time * x.shape[2], -1) for x in (queries, sources)]
    z, weights = attention(*flat, self._bias(name, time, count, keys), mask, capture)
    return z.reshape(queries.shape), weights

  def _bias(self, name: str, time: int, queries: int, keys: int) -> Float[Array, "K T*Q T*S"] | None:
    """The learned terms by offset in time and, for a grid of cells, in place."""
    config, kind = self.config, self.config.relative_bias
    if kind == "none":
      return None
    table = self._table(f"{name}_bias", table_size((time,), kind))
    bias = repeat_tokens(table[:, offset_index(lattice(time), kind)], queries, keys)
    if config.place_bias and self.motion_grid != (1, 1):
      grids = (self.grid, self.motion_grid) if name == "motion_to_semantic" else (self.motion_grid, self.grid)
      table = self._table(f"{name}_place_bias", place_table_size(*grids, kind))
      bias = bias + jnp.tile(table[:, place_index(*grids, kind)], (1, time, time))
    return bias

  def _table(self, name: str, size: int) -> Float[Array, "K M"]:
    return self.param(name, nn.initializers.normal(self.config.bias_std), (self.config.heads, size))

  def norm(self, name: str, x: Array) -> Array:
    """A LayerNorm of this layer, in float32."""
    return nn.LayerNorm(dtype=jnp.float32, name=name)(x)

  def code(self, name: str, *shape: int) -> Array:
    """A learned code of time or place."""
    return self.param(name, nn.initializers.normal(self.config.embedding_std), shape)
