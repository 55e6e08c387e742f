"""What can be said of features without labels: their statistics, their rank, how they change over a clip.

Host side, float64. The last axis of features is the width D.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8


def statistics(features: Float[np.ndarray, "... D"]) -> dict[str, Any]:
  """{"shape", "finite", "mean", "std", "min", "max" (over all values), "norm" (mean length of a vector),
  "constant_channels" (those that never change), "effective_rank"}; where values are not finite only the first two.
  """
  found: dict[str, Any] = {"shape": list(features.shape), "finite": bool(np.isfinite(features).all())}
  if not found["finite"]:
    return found
  vectors = features.reshape(-1, features.shape[-1]).astype(np.float64)
  return found | {
    "mean": float(vectors.mean()),
    "std": float(vectors.std()),
    "min": float(vectors.min()),
    "max": float(vectors.max()),
    "norm": float(np.linalg.norm(vectors, axis=1).mean()),
    "constant_channels": int((vectors.min(0) == vectors.max(0)).sum()),
    "effective_rank": effective_rank(vectors),
  }


def effective_rank(vectors: Float[np.ndarray, "P D"]) -> float:
  """exp(entropy) of the singular values, after the mean vector is taken away, as shares of their sum (Roy and
  Vetterli, "The effective rank", 2007): r if r directions vary equally, 0 if nothing varies.
  """
  centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
  gram = centred.T @ centred if len(centred) > centred.shape[1] else centred @ centred.T
  values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
  values = values[values > 1e-6 * max(values.max(), 1e-30)]
  shares = values / values.sum() if len(values) else values
  return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def self_similarity(features: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T T"]:
  """Cosine of every moment with every other; a vector of zeros resembles nothing, itself included: 0."""
  length = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
  directions = features / np.where(length > 0, length, 1)
  return np.clip(directions @ directions.T, -1, 1)


def held_still(frames: UInt8[np.ndarray, "T H W 3"], segment: int, segments: int) -> UInt8[np.ndarray, "T H W 3"]:
  """The clip with every frame of one segment replaced by the frame before it (the one after it, for the first)."""
  of = np.arange(len(frames)) * segments // len(frames)
  first, after = np.searchsorted(of, [segment, segment + 1])
  held = frames.copy()
  held[first:after] = frames[first - 1 if first else after % len(frames)]
  return held


def relative_change(changed: Float[np.ndarray, "S D"], features: Float[np.ndarray, "S D"]) -> float:
  """|changed - features| / |features|, over all values; 0 where nothing changed."""
  distance = float(np.linalg.norm(changed.astype(np.float64) - features))
  return distance / float(np.linalg.norm(features.astype(np.float64))) if distance else 0.0


def pixel_change(frames: UInt8[np.ndarray, "T H W 3"], segments: int) -> Float[np.ndarray, "S"]:
  """Mean absolute change from one frame to the next in grey levels (0 to 255), by segment.

  The change into frame t counts for the segment of frame t, floor(t * segments / T); the first frame has none.

  Raises:
    ValueError: fewer than two frames a segment.
  """
  if len(frames) < 2 * segments:
    raise ValueError(f"{len(frames)} frames have no {segments} segments of two or more.")
  change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean((1, 2, 3))
  segment = np.arange(1, len(frames)) * segments // len(frames)
  return np.bincount(segment, change, segments) / np.bincount(segment, minlength=segments)
