"""What is known of tokens before any content: where they stand, how far apart, and on which side of each other.

Nodes are the points of a lattice in row-major order: (14, 14) the patches of a frame, (8,) the segments of a clip,
(8, 7, 7) the space-time cells of a motion grid. Offsets are SIGNED. A model whose temporal terms depend on |t - s|
alone and which pools by averaging gives the same answer for a clip and its reversal, so "opening" and "closing" look
alike to it; unsigned space loses left and right in the same way.
"""

import dataclasses
import math
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

OffsetKind = Literal["signed", "absolute"]


@dataclasses.dataclass(frozen=True)
class Lattice:
  """Arrays about the N = prod(sides) nodes of a lattice with A axes.

  Attributes:
    sides: number of nodes along each axis.
    coordinates: integer position, for patches (row, column).
    centres: position in (0, 1), (i + 0.5) / side along each axis.
    offsets: coordinates[i] - coordinates[j], signed, in nodes.
    signed_index: position of the signed offset in a table of prod(2 * side - 1) entries.
    absolute_index: the same without signs, in a table of prod(side) entries.
    euclidean, chebyshev: distances in nodes.
  """

  sides: tuple[int, ...]
  coordinates: Int[np.ndarray, "N A"]
  centres: Float[np.ndarray, "N A"]
  offsets: Int[np.ndarray, "N N A"]
  signed_index: Int[np.ndarray, "N N"]
  absolute_index: Int[np.ndarray, "N N"]
  euclidean: Float[np.ndarray, "N N"]
  chebyshev: Int[np.ndarray, "N N"]

  @property
  def size(self) -> int:
    return math.prod(self.sides)

  def within(self, radius: tuple[int, ...]) -> Bool[np.ndarray, "N N"]:
    """Pairs whose offset is at most `radius[a]` along every axis a; each node is within reach of itself."""
    return np.all(np.abs(self.offsets) <= np.asarray(radius), axis=-1)


def lattice(*sides: int) -> Lattice:
  """The metadata of a lattice, for example `lattice(14, 14)`: signed offsets in a 27 x 27 table."""
  coordinates = np.stack(np.meshgrid(*map(np.arange, sides), indexing="ij"), -1).reshape(-1, len(sides))
  offsets = coordinates[:, None] - coordinates[None, :]
  signed = tuple(np.moveaxis(offsets + np.asarray(sides) - 1, -1, 0))
  absolute = tuple(np.moveaxis(np.abs(offsets), -1, 0))
  return Lattice(
    sides=sides,
    coordinates=coordinates,
    centres=((coordinates + 0.5) / np.asarray(sides)).astype(np.float32),
    offsets=offsets,
    signed_index=np.ravel_multi_index(signed, tuple(2 * side - 1 for side in sides)),
    absolute_index=np.ravel_multi_index(absolute, sides),
    euclidean=np.sqrt(np.sum(offsets.astype(np.float64) ** 2, -1)).astype(np.float32),
    chebyshev=np.abs(offsets).max(-1),
  )


def offset_index(nodes: Lattice, kind: OffsetKind) -> Int[np.ndarray, "N N"]:
  """Where the offset of each pair of nodes stands in a table of learned biases."""
  return nodes.signed_index if kind == "signed" else nodes.absolute_index


def table_size(sides: tuple[int, ...], kind: OffsetKind) -> int:
  """The number of entries of that table."""
  return math.prod(2 * side - 1 for side in sides) if kind == "signed" else math.prod(sides)
