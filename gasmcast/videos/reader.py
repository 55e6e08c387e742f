"""Reading the examples of a data set by index, optionally from memory."""

import dataclasses
import threading
from collections.abc import Callable

import numpy as np
from jaxtyping import Int, UInt8

from gasmcast.core.types import Example
from gasmcast.videos.decode import read_frames, read_header
from gasmcast.videos.transforms import short_side_shape

Choose = Callable[[int], Int[np.ndarray, "T"]]


@dataclasses.dataclass(frozen=True)
class Reader:
  """Decodes the chosen frames of an example, shrunk to `short_side` (0: as stored). See `decode.read_frames`."""

  examples: tuple[Example, ...]
  short_side: int

  def read(self, index: int, choose: Choose) -> UInt8[np.ndarray, "T H W 3"]:
    """Raises DataError where the example can't be read."""
    example = self.examples[index]
    return read_frames(example.path, choose, example.start, example.stop, self.short_side)


class CachingReader:
  """A `Reader` that keeps whole videos, decoded and shrunk, until `limit` bytes are used. Safe in several threads.

  A video that no longer fits, and every example that is only a part of its video, is decoded anew each time, and an
  error is raised anew each time. The frames are those of the plain reader.
  """

  def __init__(self, reader: Reader, limit: int):
    self._reader = reader
    self._limit = limit
    self._used = 0
    self._videos: dict[int, UInt8[np.ndarray, "frames H W 3"]] = {}
    self._lock = threading.Lock()

  def read(self, index: int, choose: Choose) -> UInt8[np.ndarray, "T H W 3"]:
    """Raises DataError where the example can't be read."""
    video = self._videos.get(index)
    if video is None:
      if not self._fits(index):
        return self._reader.read(index, choose)
      video = self._reader.read(index, np.arange)
      self._keep(index, video)
    return video[choose(len(video))]

  def _fits(self, index: int) -> bool:
    """By the header, so that a film of two hours isn't decoded into memory to find out."""
    example = self._reader.examples[index]
    if example.start is not None or example.stop is not None:
      return False
    header = read_header(example.path)
    if header.frames is None:
      return False
    height, width = header.height, header.width
    if 0 < self._reader.short_side < min(height, width):
      height, width = short_side_shape(height, width, self._reader.short_side)
    return self._used + header.frames * height * width * 3 <= self._limit

  def _keep(self, index: int, video: UInt8[np.ndarray, "frames H W 3"]) -> None:
    with self._lock:
      if index not in self._videos and self._used + video.nbytes <= self._limit:
        self._videos[index] = video
        self._used += video.nbytes
