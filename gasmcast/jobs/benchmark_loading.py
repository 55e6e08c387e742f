"""Cases of the job benchmark: loading batches beside another library, and memory while many clips are loaded."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from gasmcast.core.config import require
from gasmcast.core.memory import Monitor
from gasmcast.core.timing import Side
from gasmcast.core.types import Batch, Dataset
from gasmcast.jobs import benchmark_videos
from gasmcast.jobs.benchmark import Prepared
from gasmcast.jobs.benchmark_peers import imported, resolve
from gasmcast.jobs.benchmark_reading import mean_difference
from gasmcast.jobs.benchmark_videos import Videos
from gasmcast.reports.benchmark import Reading
from gasmcast.videos.batches import Source, train_batches
from gasmcast.videos.pipeline import Clips, DataConfig

_EXAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class LoadCase:
  """Batches of training clips: decoding, random crop, colours, flip.

  Attributes:
    videos: of the data set.
    data: as in a training.
    batches: of a call; as many as are kept ready at least, so that a turn's first call, which doesn't count, uses up
      what became ready in the turns of others.
    peers: side -> function of (source, batch size, workers) that gives batches.
    workers: of the peers.
  """

  data: DataConfig
  videos: Videos
  batches: int = 4
  peers: dict[str, str] = dataclasses.field(default_factory=dict)
  workers: int = 2
  dtype: str = "uint8"

  def prepare(self, where: str) -> Prepared:
    """Ours and each peer, over the same source."""
    source = FixedDraws(Clips(_many_examples(self.videos), self.data, augmented=True), self.videos.count)
    batch, threads = self.data.global_batch, self.data.threads
    name = f"Grain, {threads} threads" + (f" in {self.data.workers} workers" if self.data.workers else "")
    sides = [self._side(name, lambda: train_batches(source, self.data, seed=0))]
    for name, function in self.peers.items():
      make = resolve(function, f"{where}.peers")
      sides.append(self._side(name, lambda make=make: imported(lambda: make(source, batch, self.workers)), True))
    what = f"{self.batches} batches of {batch} training clips, {self.data.frames} frames of {self.videos.described}"
    return Prepared(sides, what, 0.0, "", 0.0, mean_difference, clips=self.batches * batch)

  def _side(self, name: str, start: Callable[[], Iterator[Batch]], may_fail: bool = False) -> Side:
    stream: list[Iterator[Batch]] = []

    def draw(count: int) -> Iterator[Batch]:
      if not stream:
        stream.append(start())
      return itertools.islice(stream[0], count)

    def call() -> None:
      for batch in draw(self.batches):
        if not batch.get("ok", np.True_).all():
          raise ValueError(f"a clip can't be read: {batch['error'][~batch['ok']][0]}")

    def arrays(_: None) -> dict[str, np.ndarray]:
      found: dict[str, np.ndarray] = {}
      while len(found) < self.videos.count:
        (batch,) = draw(1)
        for index, frames in zip(batch["index"], batch["frames"], strict=True):
          found[str(index % self.videos.count)] = frames.copy()
      return found

    return Side(name, call, arrays, may_fail=may_fail)


@dataclasses.dataclass(frozen=True)
class MemoryCase:
  """How much memory grows, and whether files and threads stay as many, while the pipeline reads many clips.

  Attributes:
    data: as in a training.
    videos: that are drawn again and again.
    clips: that are drawn; the first tenth isn't looked at.
    growth: MB for each 1,000 clips at most.
  """

  data: DataConfig
  videos: Videos
  clips: int = 20_000
  growth: float = 1.0
  dtype: str = "uint8"

  def __post_init__(self):
    least = 20 * self.data.global_batch
    require(self.clips >= least, f"clips = {self.clips}: 20 batches are needed, {least} clips.")

  def prepare(self, where: str) -> Prepared:
    """Nothing to be timed; the numbers are read when they are asked for."""
    what = f"{self.clips:,} training clips drawn from {self.videos.described}; the first tenth is not looked at"
    return Prepared([], what, 0.0, "", 0.0, readings=self._readings)

  def _readings(self) -> Sequence[Reading]:
    source = Clips(_many_examples(self.videos), self.data, augmented=True)
    batches, monitor, kept = train_batches(source, self.data, seed=0), Monitor(), []
    for step in range(1, self.clips // self.data.global_batch + 1):
      if not (batch := next(batches))["ok"].all():
        raise ValueError(f"a clip can't be read: {batch['error'][~batch['ok']][0]}")
      clips = step * self.data.global_batch
      numbers = monitor.read(clips if clips > self.clips // 10 else None)
      if clips > self.clips // 10:
        kept.append(numbers)
    batches.close()
    readers = self.data.threads * max(1, self.data.workers)
    return (
      Reading("MB more for each 1,000 clips", monitor.growth(), self.growth),
      Reading("open files, most less fewest", _range(kept, "memory/files"), 2 * readers),  # those read right then
      Reading("threads, most less fewest", _range(kept, "memory/threads"), 1),
    )


def _many_examples(videos: Videos) -> Dataset:
  """The files again and again: to shuffle a handful of examples takes Grain longer than to shuffle many."""
  return benchmark_videos.dataset(videos, repeats=-(-_EXAMPLES // videos.count))


def _range(kept: Sequence[Mapping[str, float]], name: str) -> float | None:
  """Largest less smallest; None where the system doesn't tell."""
  values = [numbers[name] for numbers in kept if name in numbers]
  return max(values) - min(values) if values else None


class FixedDraws:
  """A source whose training clips depend on the file alone, so that two ways of loading can be held to be equal.

  Args:
    source: of the clips.
    files: of its examples: example i is of file i modulo `files`.
  """

  def __init__(self, source: Source, files: int):
    self.dataset = source.dataset
    self._source, self._files = source, files

  def draw(self, index: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], Mapping[str, int]]:
    """The clip of this file, whatever `rng`."""
    return self._source.draw(index, np.random.default_rng(index % self._files))

  def read(self, index: int) -> dict[str, np.ndarray]:
    """As of the source."""
    return self._source.read(index)

  def empty(self) -> dict[str, np.ndarray]:
    """As of the source."""
    return self._source.empty()
