"""Reading the examples of a data set by index, optionally from memory."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Int, UInt8

from gasmcast.core.types import Example
from gasmcast.videos import decode, frame_folder
from gasmcast.videos.frame_cache import CacheStatistics, FrameCache
from gasmcast.videos.sample import frame_range
from gasmcast.videos.transforms import short_side_shape

Choose = Callable[[int], Int[np.ndarray, "T"]]

_UNKNOWN = 0  # bytes of an example before its header was read


@dataclasses.dataclass(frozen=True)
class Reader:
  """Reads the chosen frames of an example, shrunk to `short_side` (0: as stored).

  An example with a rate is a folder of extracted frames (`frame_folder.read_frames`), any other one a video file
  (`decode.read_frames`).
  """

  examples: tuple[Example, ...]
  short_side: int

  def read(self, index: int, choose: Choose) -> UInt8[np.ndarray, "T H W 3"]:
    """Raises DataError where the example can't be read."""
    example = self.examples[index]
    part = (example.start, example.stop, self.short_side)
    if example.rate is None:
      return decode.read_frames(example.path, choose, *part)
    return frame_folder.read_frames(example.path, choose, example.rate, *part)

  def header(self, index: int) -> decode.Header:
    """Of the whole video or folder. Raises DataError where it can't be read."""
    example = self.examples[index]
    if example.rate is None:
      return decode.read_header(example.path)
    return frame_folder.read_header(example.path, example.rate)


class CachingReader:
  """A `Reader` that keeps what it decoded, shrunk, until `limit` bytes are used. Safe in several threads.

  What is kept is an example's whole video, or its part of one; examples of the same part share it. One that is larger
  than the limit is read from its file each time, and an error is raised anew each time. The frames are those of the
  plain reader.

  Args:
    limit: bytes; see `FrameCache`.
    eviction: "lru" or "none"; see `FrameCache`.

  Raises:
    ConfigError: as `FrameCache`.
  """

  def __init__(self, reader: Reader, limit: int, eviction: str = "lru"):
    self._reader = reader
    self._cache = FrameCache(limit, eviction)
    # By index: bytes of a picture, and of the example. Opening a file for its header again would delay every read.
    self._picture_bytes = np.full(len(reader.examples), _UNKNOWN, np.int64)
    self._bytes = np.full(len(reader.examples), _UNKNOWN, np.int64)

  @property
  def statistics(self) -> CacheStatistics:
    """Of the cache, at this moment."""
    return self._cache.statistics

  def read(self, index: int, choose: Choose) -> UInt8[np.ndarray, "T H W 3"]:
    """Raises DataError where the example can't be read."""
    example = self._reader.examples[index]
    key = (example.path, example.start, example.stop, example.rate)
    video = self._cache.get(key, lambda room: self._whole(index, room))
    return self._reader.read(index, choose) if video is None else video[choose(len(video))]

  def _whole(self, index: int, room: int) -> UInt8[np.ndarray, "frames H W 3"] | None:
    """All frames if they fit; if not, None without decoding, so that no film of two hours is decoded to find out."""
    if self._bytes[index] == _UNKNOWN:
      self._measure(index)
    if self._bytes[index] > room:
      return None
    picture, asked = int(self._picture_bytes[index]), 0

    def all_that_fit(total: int) -> Int[np.ndarray, "T"]:
      nonlocal asked
      asked = total  # the second time with the true number, where the header's was wrong
      return np.arange(total if total * picture <= room else 1)

    video = self._reader.read(index, all_that_fit)
    self._bytes[index] = asked * picture
    return video if asked * picture <= room else None

  def _measure(self, index: int) -> None:
    """Remembers how large the example is by its header."""
    example, header = self._reader.examples[index], self._reader.header(index)
    height, width = header.height, header.width
    if 0 < self._reader.short_side < min(height, width):
      height, width = short_side_shape(height, width, self._reader.short_side)
    self._picture_bytes[index] = height * width * 3
    self._bytes[index] = _frames(example, header) * height * width * 3


def _frames(example: Example, header: decode.Header) -> int:
  """Frames of an example by the header; 1 where it doesn't say, or where reading will refuse the part."""
  moments = [moment for moment in (example.start, example.stop) if moment is not None]
  if header.frames is None or not all(map(math.isfinite, moments)):
    return 1
  first, last = frame_range(example.start, example.stop, header.rate)
  return max(1, (header.frames if last is None else min(last, header.frames)) - first)
