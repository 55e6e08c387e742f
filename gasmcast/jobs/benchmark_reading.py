"""Cases of the job benchmark: decoding beside other libraries, and reading from the frame cache beside decoding."""

import dataclasses
from collections.abc import Callable

import numpy as np

from gasmcast.core.timing import Side
from gasmcast.jobs import benchmark_videos
from gasmcast.jobs.benchmark import Prepared
from gasmcast.jobs.benchmark_peers import imported, resolve
from gasmcast.jobs.benchmark_videos import Videos
from gasmcast.videos.decode import read_frames
from gasmcast.videos.reader import CachingReader, Reader
from gasmcast.videos.sample import centre_frames

_GREY_LEVELS = 1.0  # of 255, mean difference of frames whose colours another library converted
Read = Callable[[str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class DecodeCase:
  """The centre frames of each video, one video after the other by one thread.

  Attributes:
    videos: that are decoded.
    take: frames of each.
    peers: side -> function that gives `read(path, choose)`, "module:function".
    tolerance: mean difference of frames in grey levels.
  """

  videos: Videos
  take: int = 8
  peers: dict[str, str] = dataclasses.field(default_factory=dict)
  tolerance: float = _GREY_LEVELS
  dtype: str = "uint8"

  def prepare(self, where: str) -> Prepared:
    """Ours and each peer; where the videos can't be made, one side that says why."""
    choose = lambda total: centre_frames(total, self.take)
    what = f"{self.take} frames each of {self.videos.described}, one thread"
    try:
      paths = benchmark_videos.paths(self.videos)
    except ModuleNotFoundError as error:
      return Prepared([_absent(error)], what, 0.0, "", self.tolerance, clips=self.videos.count)
    sides = [_decoding("gasmcast", paths, lambda: lambda path: read_frames(path, choose))]
    for name, function in self.peers.items():
      make = resolve(function, f"{where}.peers")
      sides.append(_decoding(name, paths, lambda make=make: _bound(imported(make), choose), may_fail=True))
    return Prepared(sides, what, 0.0, "", self.tolerance, mean_difference, clips=self.videos.count)


@dataclasses.dataclass(frozen=True)
class FrameCacheCase:
  """Random frames of videos that the frame cache holds, beside decoding them.

  Attributes:
    videos: that are cached.
    take: frames of each clip.
  """

  videos: Videos
  take: int = 8
  dtype: str = "uint8"

  def prepare(self, where: str) -> Prepared:
    """The cache, already filled, and the reader under it."""
    decoding = Reader(benchmark_videos.dataset(self.videos).examples, short_side=0)
    cache = CachingReader(decoding, limit=2**40)
    choose = lambda total: centre_frames(total, self.take)
    for index in range(self.videos.count):
      cache.read(index, choose)
    sides = [
      _by_index("frame cache", self.videos.count, lambda index: cache.read(index, choose)),
      _by_index("decoding", self.videos.count, lambda index: decoding.read(index, choose)),
    ]
    what = f"{self.take} frames each of {self.videos.described}, from the uint8 cache and from the file"
    return Prepared(sides, what, 0.0, "", 0.0, mean_difference, clips=self.videos.count)


def _decoding(name: str, paths: tuple[str, ...], make: Callable[[], Read], may_fail: bool = False) -> Side:
  """Every file read once in a call, by what `make` gives the first time."""
  made: list[Read] = []

  def read(path: str) -> np.ndarray:
    if not made:
      made.append(make())
    return made[0](path)

  def call() -> None:
    for path in paths:
      read(path)

  return Side(name, call, lambda _: {path: read(path) for path in paths}, may_fail=may_fail)


def _bound(read: Callable[[str, Callable[[int], np.ndarray]], np.ndarray], choose: Callable[[int], np.ndarray]) -> Read:
  return lambda path: read(path, choose)


def _by_index(name: str, count: int, read: Callable[[int], np.ndarray]) -> Side:
  """Every clip read once in a call."""

  def call() -> None:
    for index in range(count):
      read(index)

  return Side(name, call, lambda _: {str(index): read(index) for index in range(count)})


def _absent(error: ModuleNotFoundError) -> Side:
  def call() -> None:
    raise error

  return Side("gasmcast", call, lambda _: {}, may_fail=True)


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
  """mean |a - b| in grey levels; inf where the shapes differ."""
  return float(np.abs(np.int16(a) - np.int16(b)).mean()) if a.shape == b.shape else float("inf")
