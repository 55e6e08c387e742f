"""Which frames of a video a clip consists of: pure functions from a frame count to frame numbers.

A video of `total` frames is cut into `count` equal parts, part t covering [t * total / count, (t + 1) * total / count),
and gives one frame of each (temporal segment sampling, Wang et al. 2016, arXiv 1608.00859). All arithmetic is on
integers, so that no rounding differs between machines. A video of fewer than `count` frames repeats frames.
"""

import math

import numpy as np
from jaxtyping import Int


def centre_frames(total: int, count: int) -> Int[np.ndarray, "T"]:
  """The frame under the middle of each part: floor((2 t + 1) * total / (2 * count)) for t = 0 .. count - 1."""
  _check(total, count)
  parts = np.arange(count, dtype=np.int64)
  return (2 * parts + 1) * total // (2 * count)


def random_frames(total: int, count: int, rng: np.random.Generator) -> Int[np.ndarray, "T"]:
  """One frame drawn uniformly from each part [floor(t * total / count), floor((t + 1) * total / count)).

  The parts are disjoint and cover the video. A part without a frame (total < count) gives the frame at its start.
  """
  _check(total, count)
  bounds = np.arange(count + 1, dtype=np.int64) * total // count
  return rng.integers(bounds[:-1], np.maximum(bounds[1:], bounds[:-1] + 1))


def frame_range(start: float | None, stop: float | None, rate: float) -> tuple[int, int | None]:
  """The frames that are on the screen during [start, stop) seconds, as [first, last); `last` None: to the end.

  Frame i is shown during [i / rate, (i + 1) / rate), so an interval of any length holds at least one frame.
  Products within 1e-6 frames of an integer count as that integer: 4.35 s at 100 frames a second is frame 435.
  """
  first = 0 if start is None else math.floor(round(start * rate, 6))
  last = None if stop is None else math.ceil(round(stop * rate, 6))
  return first, last


def _check(total: int, count: int) -> None:
  if total < 1 or count < 1:
    raise ValueError(f"{count} frames of a video of {total} frames: both numbers must be at least 1.")
