"""What job extract says of the features that it stored: sums of every shard, and how many directions they fill.

A network with the wrong weights or the wrong preprocessing still gives features; their spread, their zeros and their
rank show it before anything is trained on them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from gasmcast.core.receipts import Receipt
from gasmcast.metrics import feature_statistics
from gasmcast.metrics.feature_quality import effective_rank
from gasmcast.metrics.feature_statistics import Sums
from gasmcast.store.compression import decompress, parts_of
from gasmcast.store.feature_store import Reader

STATISTICS = "statistics"  # field of a receipt's result
_CLIP_ROWS = 16  # vectors of a clip that are looked at, evenly spread over its frames and tokens
_RANK_CLIPS = 256  # that the rank is found from, evenly spread over the split


class ShardStatistics:
  """Sums over the values of all channels together, stream by stream, of some vectors of every clip."""

  def __init__(self):
    self._sums: dict[str, Sums] = {}

  def add(self, stream: str, features: Float[np.ndarray, "... D"]) -> None:
    """The features of one clip, as the backbone gave them."""
    values = _some_rows(features)[..., None]  # all channels as one
    before = self._sums.get(stream) or feature_statistics.empty(1, covariance=False)
    self._sums[stream] = feature_statistics.update(before, values)

  def result(self) -> dict[str, Any]:
    """The sums as JSON can hold them; nothing of a stream that no clip had."""
    return {stream: {name: sums[name].tolist() for name in sums} for stream, sums in self._sums.items()}


def summarize(receipts: Iterable[Receipt], reader: Reader) -> dict[str, dict[str, Any]]:
  """Stream -> numbers of all that is stored of a split.

  Returns:
    Of each stream "values" (how many were looked at), "mean", "std", "min", "max", "zero_share", "histogram", and
    "effective_rank" and "width" of the vectors as they are stored.
  """
  merged: dict[str, Sums] = {}
  for receipt in receipts:
    for stream, told in receipt.result.get(STATISTICS, {}).items():
      sums = {name: np.asarray(value, np.float64) for name, value in told.items()}
      merged[stream] = feature_statistics.merge(merged[stream], sums) if stream in merged else sums
  found = {}
  for stream, sums in merged.items():
    numbers = feature_statistics.summarize(sums)
    kept = {name: numbers[name] for name in ("mean", "std", "min", "max", "zero_share", "histogram")}
    vectors = _stored_rows(reader, stream)
    rank = {"effective_rank": effective_rank(vectors), "width": vectors.shape[1]}
    found[stream] = {"values": numbers["rows"], **kept, **rank}
  return found


def line(numbers: Mapping[str, Any]) -> str:
  """The numbers of a stream in words."""
  return (
    f"mean {numbers['mean']:.3g}, standard deviation {numbers['std']:.3g}, {100 * numbers['zero_share']:.1f} % zeros, "
    f"effective rank {numbers['effective_rank']:.1f} of {numbers['width']}"
  )


def _some_rows(features: Float[np.ndarray, "... D"]) -> Float[np.ndarray, "n D"]:
  rows = features.reshape(-1, features.shape[-1])
  return rows[np.linspace(0, len(rows) - 1, min(_CLIP_ROWS, len(rows))).round().astype(int)]


def _stored_rows(reader: Reader, stream: str) -> Float[np.ndarray, "n D"]:
  positions = np.array([position for position in range(len(reader)) if position not in reader.failed])
  chosen = positions[np.linspace(0, len(positions) - 1, min(_RANK_CLIPS, len(positions))).round().astype(int)]
  rows = []
  for position in chosen.tolist():
    rows.append(_some_rows(decompress(parts_of(stream, reader.read(position)))))
  return np.concatenate(rows)
