"""Decoded videos kept in memory up to a limit in bytes, each decoded by one thread at a time.

Which policy is better depends on the order of the reads. Let a cache hold the share f of a set of equal videos that is
read in passes, each in a new random order. Keeping what came first ("none") gives the share f of hits. Dropping the
least recently used ("lru") gives f + (1 - f) ln(1 - f), which is less: at f = 0.5 it is 0.15 in place of 0.50, at
f = 0.9 0.67 in place of 0.90. A video at position u of one pass and v of the next has 1 - u (1 - v) of the set read
between, and is still there if that is below f; the product of two uniform numbers exceeds c = 1 - f with probability
1 - c + c ln c. "lru" is better where the same videos are wanted again soon: views of one clip, a set that changes.
"""

import collections
import dataclasses
import threading
from collections.abc import Callable, Hashable

import numpy as np
from jaxtyping import UInt8

from gasmcast.core.config import require

Video = UInt8[np.ndarray, "frames H W 3"]

EVICTIONS = ("lru", "none")


@dataclasses.dataclass(frozen=True)
class CacheStatistics:
  """What a cache has done so far.

  Attributes:
    hits: reads that decoded nothing, among them those that waited for another thread's decoding.
    misses: reads that decoded, whether the video was kept or not, or failed.
    evictions: videos dropped to make room.
    videos: kept now.
    bytes: of the pixels kept now, never more than the limit.
  """

  hits: int
  misses: int
  evictions: int
  videos: int
  bytes: int

  @property
  def hit_rate(self) -> float:
    """Share of the reads; 0 before the first."""
    return self.hits / max(1, self.hits + self.misses)


class _Decoding:
  """A video on its way. It holds no exception, whose frames would hold it: such rings are freed late."""

  def __init__(self):
    self.done = threading.Event()
    self.failed, self.video = True, None


class FrameCache:
  """Whole videos by key. Safe in several threads; what it hands out is shared and can't be written to.

  Args:
    limit: bytes of pixels that are kept at most. Videos that are being decoded come on top, one a thread.
    eviction: "lru" drops the videos whose last read is longest ago until a new one fits; "none" keeps what came first.

  Raises:
    ConfigError: another eviction, or a negative limit.
  """

  def __init__(self, limit: int, eviction: str = "lru"):
    require(eviction in EVICTIONS, f"cache_eviction = {eviction!r}: it must be one of {', '.join(EVICTIONS)}.")
    require(limit >= 0, f"cache_bytes = {limit}: it must be at least 0.")
    self._limit, self._eviction = limit, eviction
    self._videos: collections.OrderedDict[Hashable, Video] = collections.OrderedDict()  # longest ago first
    self._decoding: dict[Hashable, _Decoding] = {}
    self._lock = threading.Lock()
    self._hits = self._misses = self._evictions = self._bytes = 0

  def get(self, key: Hashable, decode: Callable[[int], Video | None]) -> Video | None:
    """The video of this key, decoded if it is not here. A second thread that asks meanwhile waits for the first.

    Args:
      decode: bytes that a video may have to be kept -> the video, or None where it has more. It is called without a
        lock. A video larger than promised is handed out and not kept.

    Raises:
      Whatever `decode` raises. Nothing is remembered of it: those who waited and every later read try again.
    """
    while True:
      with self._lock:
        if key in self._videos:
          self._hits += 1
          self._videos.move_to_end(key)
          return self._videos[key]
        decoding = self._decoding.get(key)
        if decoding is None:
          self._misses += 1
          decoding = self._decoding[key] = _Decoding()
          break
      decoding.done.wait()
      if not decoding.failed:
        with self._lock:
          self._hits += decoding.video is not None
          self._misses += decoding.video is None
        return decoding.video
    return self._decode(key, decode, decoding)

  @property
  def statistics(self) -> CacheStatistics:
    """Counts since the beginning and what is held now, taken at one moment."""
    with self._lock:
      return CacheStatistics(self._hits, self._misses, self._evictions, len(self._videos), self._bytes)

  def _decode(self, key: Hashable, decode: Callable[[int], Video | None], decoding: _Decoding) -> Video | None:
    try:
      video = decode(self._limit - (self.statistics.bytes if self._eviction == "none" else 0))
      with self._lock:
        if video is not None:
          self._keep(key, video)
      decoding.video, decoding.failed = video, False
      return video
    finally:
      with self._lock:
        del self._decoding[key]
      decoding.done.set()

  def _keep(self, key: Hashable, video: Video) -> None:
    video.setflags(write=False)
    if video.nbytes > self._limit:
      return
    while self._eviction == "lru" and self._bytes + video.nbytes > self._limit:
      _, dropped = self._videos.popitem(last=False)
      self._bytes -= dropped.nbytes
      self._evictions += 1
    if self._bytes + video.nbytes <= self._limit:
      self._videos[key] = video
      self._bytes += video.nbytes
