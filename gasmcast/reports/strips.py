"""Pictures of clips: a few frames of each side by side, as one small image.

Clips that a check found fault with are not to be trusted: they are decoded in worker processes with limits, and what
comes back is an image or the reason why there is none.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from gasmcast.core.isolation import Failed, Isolated, Limits
from gasmcast.core.types import Example
from gasmcast.videos.reader import Reader
from gasmcast.videos.transforms import resize

FRAMES = 4  # of one clip
HEIGHT, WIDEST = 120, 214  # pixels of a frame: 16 : 9 at most, wider ones are lower
_GAP = 4
_QUALITY = 62
_LIMITS = Limits(seconds=20.0)


@dataclasses.dataclass(frozen=True)
class Clip:
  """What to decode: a video or a folder of frames, or its part [start, stop) in seconds; see `core.types.Example`."""

  path: str
  start: float | None = None
  stop: float | None = None
  rate: float | None = None


def strips(clips: Sequence[Clip], limit: int, workers: int = 2) -> dict[Clip, bytes | str | None]:
  """clip -> its `strip`; the reason where it can't be decoded; None once images of `limit` bytes are there."""
  found: dict[Clip, bytes | str | None] = {}
  unique, used = list(dict.fromkeys(clips)), 0
  if not unique:
    return found
  with Isolated(strip, workers=workers, limits=_LIMITS) as pool:
    for index, outcome in pool.map(unique):
      if isinstance(outcome, Failed):
        found[unique[index]] = outcome.reason
        continue
      used += len(outcome.value)
      found[unique[index]] = outcome.value if used <= limit else None
  return found


def strip(clip: Clip) -> bytes:
  """Frames at equal distances, the first and the last among them, from left to right.

  Raises:
    DataError: see `videos.reader.Reader`.
  """
  choose = lambda count: np.linspace(0, count - 1, FRAMES).round().astype(np.int64)
  example = Example(clip.path, clip.path, {}, clip.start, clip.stop, rate=clip.rate)
  frames = Reader((example,), short_side=HEIGHT).read(0, choose)
  height, width = frames.shape[1:3]
  scale = min(HEIGHT / height, WIDEST / width)
  height, width = max(1, round(scale * height)), max(1, round(scale * width))
  image = np.zeros((height, FRAMES * width + (FRAMES - 1) * _GAP, 4), np.uint8)  # transparent between the frames
  for number, frame in enumerate(frames):
    place = number * (width + _GAP)
    image[:, place : place + width] = cv2.cvtColor(resize(frame, height, width), cv2.COLOR_RGB2BGRA)
  _, content = cv2.imencode(".webp", image, (cv2.IMWRITE_WEBP_QUALITY, _QUALITY))
  return content.tobytes()
