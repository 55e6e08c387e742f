"""From a data set to batches: reading, augmentation, shuffling and division among processes, by Grain.

A batch is a dict of numpy arrays as in `core.types`, and one array more:

    "error"  <U400 [B]   why the clip could not be read, "" where ok is True and in rows that only fill up

Strings can't go to a device: whoever consumes the batch logs and removes "error" first. It is an array of fixed width
because that is what reaches the parent from a worker process like any other array.

The order of the examples and every random draw depend on the seed and on the position in the stream alone: global
batch k is the same, row by row, for any number of processes, workers and threads, so training resumes exactly from the
number of steps done.
"""

import dataclasses
from collections.abc import Generator, Mapping
from typing import Any

import grain
import numpy as np
from absl import flags
from jaxtyping import UInt8

from gasmcast.core.config import require
from gasmcast.core.errors import ConfigError, DataError
from gasmcast.core.types import Batch, Dataset
from gasmcast.datasets.labels import flip_map
from gasmcast.videos.reader import CachingReader, Reader
from gasmcast.videos.sample import centre_frames, random_frames
from gasmcast.videos.transforms import ColourJitter, HorizontalFlip, RandomResizedCrop, ResizeCentreCrop

ERROR_LENGTH = 400
_WORKER_BUFFER = 2  # finished batches that each worker process holds ready

Element = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
  """Random changes of training clips, one draw a clip.

  Attributes:
    scale: bounds of the crop's share of the frame's area; (1, 1) with ratio (1, 1) is the largest square.
    ratio: bounds of the crop's width / height.
    brightness: factors are drawn from [1 - brightness, 1 + brightness]; 0 is off. Contrast and saturation likewise.
    contrast: see brightness.
    saturation: see brightness.
    flip: probability of mirroring, which exchanges the labels of left/right classes; 0 is off.
  """

  scale: tuple[float, ...] = (0.5, 1.0)
  ratio: tuple[float, ...] = (0.75, 4 / 3)
  brightness: float = 0.2
  contrast: float = 0.2
  saturation: float = 0.2
  flip: float = 0.5

  def __post_init__(self):
    for name, highest in (("scale", 1.0), ("ratio", float("inf"))):
      bounds = getattr(self, name)
      require(
        len(bounds) == 2 and 0 < bounds[0] <= bounds[1] <= highest,
        f"data.augmentation.{name} = {bounds}: two bounds with 0 < low <= high <= {highest} are needed.",
      )
    for name in ("brightness", "contrast", "saturation", "flip"):
      value = getattr(self, name)
      require(0 <= value <= 1, f"data.augmentation.{name} = {value}: it must lie in [0, 1]; 0 turns it off.")


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """How videos become batches.

  Attributes:
    global_batch: clips a step over all processes; a multiple of their number.
    frames: T, frames of a clip.
    size: side of the square frames in pixels.
    short_side: frames are shrunk to this shorter side as they are read, in training and evaluation; 0 keeps them.
    augmentation: of training clips.
    workers: processes that read; 0 reads in this process, where decoding runs beside Python anyway.
    threads: that read, each one whole batch at a time, in each worker or in this process.
    prefetch: batches that are made or kept ready at a time, at least one a thread, in each worker or in this process.
    cache_bytes: up to this many bytes of decoded videos stay in memory; the clips are the same with and without. For
      data sets of a few thousand short clips. 0 is off.
  """

  global_batch: int
  frames: int = 16
  size: int = 224
  short_side: int = 256
  augmentation: AugmentationConfig = AugmentationConfig()
  workers: int = 0
  threads: int = 2
  prefetch: int = 4
  cache_bytes: int = 0

  def __post_init__(self):
    for name, least in (
      ("global_batch", 1),
      ("frames", 1),
      ("size", 1),
      ("short_side", 0),
      ("workers", 0),
      ("threads", 1),
      ("prefetch", 1),
      ("cache_bytes", 0),
    ):
      value = getattr(self, name)
      require(value >= least, f"data.{name} = {value}: it must be at least {least}.")
    require(
      self.prefetch >= self.threads,
      f"data.prefetch = {self.prefetch} is less than data.threads = {self.threads}: each thread makes one batch at a "
      f"time, so some would never work; use prefetch = {self.threads} or more.",
    )
    require(
      self.short_side == 0 or self.short_side >= self.size,
      f"data.short_side = {self.short_side} is less than data.size = {self.size}: frames would be shrunk and then "
      f"enlarged; use {self.size} or more, or 0.",
    )
    require(
      not (self.cache_bytes and self.workers),
      f"data.cache_bytes = {self.cache_bytes} with data.workers = {self.workers}: every worker would fill a cache of "
      "its own; use workers = 0 or cache_bytes = 0.",
    )


def train_batches(
  dataset: Dataset, config: DataConfig, seed: int, *, process: int = 0, processes: int = 1, start_step: int = 0
) -> Generator[Batch, None, None]:
  """Endless batches of shuffled, augmented clips: rows process * B to (process + 1) * B of each global batch.

  Each pass over the data set has another order, and a batch may hold the end of one pass and the beginning of the
  next. `close()` the generator to end its workers and threads.

  Args:
    seed: of the order and of all random choices.
    process: index of this process.
    processes: that share the global batch.
    start_step: the first batch that comes is this one; steps before it cost nothing.

  Raises:
    ConfigError: the global batch can't be divided among the processes, or a class has a direction but no mirror image
      while the flip is on.
    DataError: the data set is empty. A clip that can't be read raises nothing, it comes with ok=False.
  """
  _check_division(dataset, config, process, processes)
  augmentation = config.augmentation
  class_maps = {name: flip_map(names) for name, names in dataset.classes.items()} if augmentation.flip else {}
  transform = _TrainingClip(
    dataset=dataset,
    reader=_reader(dataset, config),
    config=config,
    crop=RandomResizedCrop(config.size, augmentation.scale, augmentation.ratio),
    jitter=ColourJitter(augmentation.brightness, augmentation.contrast, augmentation.saturation),
    flip=HorizontalFlip(augmentation.flip, class_maps),
  )
  # The global batch is divided after the random transform: Grain derives its draws from the position in the stream.
  positions = grain.MapDataset.range(len(dataset.examples)).seed(seed).shuffle().repeat()
  return _batches(positions.random_map(transform), config, process, processes, start_step)


def evaluation_batches(
  dataset: Dataset, config: DataConfig, *, process: int = 0, processes: int = 1
) -> Generator[Batch, None, None]:
  """Every example once and in order: centre frames, centre crop, no randomness.

  The last global batch is filled up with rows of index -1 and ok=False, so all processes see ceil(N / global_batch)
  batches of equal shape.

  Raises:
    ConfigError: the global batch can't be divided among the processes.
    DataError: the data set is empty. A clip that can't be read raises nothing, it comes with ok=False.
  """
  _check_division(dataset, config, process, processes)
  transform = _EvaluationClip(
    dataset=dataset,
    reader=Reader(dataset.examples, config.short_side),
    config=config,
    crop=ResizeCentreCrop(config.size),
  )
  padded = -(-len(dataset.examples) // config.global_batch) * config.global_batch
  return _batches(grain.MapDataset.range(padded).map(transform), config, process, processes, 0)


@dataclasses.dataclass(frozen=True, repr=False)
class _TrainingClip(grain.transforms.RandomMap):
  dataset: Dataset
  reader: Reader | CachingReader
  config: DataConfig
  crop: RandomResizedCrop
  jitter: ColourJitter
  flip: HorizontalFlip

  def random_map(self, index: int, rng: np.random.Generator) -> Element:
    labels = self.dataset.examples[index].labels
    # The reader may ask twice, so the choice of frames has a generator that begins anew each time.
    seed = int(rng.integers(2**63))
    try:
      frames = self.reader.read(
        index, lambda total: random_frames(total, self.config.frames, np.random.default_rng(seed))
      )
    except DataError as error:
      return _empty(self.config, index, labels, str(error))
    frames, labels = self.flip(self.jitter(self.crop(frames, rng), rng), labels, rng)
    return _element(frames, True, index, labels, "")


@dataclasses.dataclass(frozen=True, repr=False)
class _EvaluationClip(grain.transforms.Map):
  dataset: Dataset
  reader: Reader
  config: DataConfig
  crop: ResizeCentreCrop

  def map(self, index: int) -> Element:
    if index >= len(self.dataset.examples):
      return _empty(self.config, -1, dict.fromkeys(self.dataset.examples[0].labels, 0), "")
    labels = self.dataset.examples[index].labels
    try:
      frames = self.reader.read(index, lambda total: centre_frames(total, self.config.frames))
    except DataError as error:
      return _empty(self.config, index, labels, str(error))
    return _element(self.crop(frames), True, index, labels, "")


def _element(
  frames: UInt8[np.ndarray, "T H W 3"], ok: bool, index: int, labels: Mapping[str, int], error: str
) -> Element:
  if len(error) > ERROR_LENGTH:  # keep the path's beginning and the reason at the end
    error = f"{error[: ERROR_LENGTH // 2 - 3]} ... {error[-(ERROR_LENGTH // 2 - 2) :]}"
  return {
    "frames": frames,
    "ok": np.bool_(ok),
    "index": np.int32(index),
    "error": np.array(error, f"<U{ERROR_LENGTH}"),
    **{name: np.int32(label) for name, label in labels.items()},
  }


def _empty(config: DataConfig, index: int, labels: Mapping[str, int], error: str) -> Element:
  frames = np.zeros((config.frames, config.size, config.size, 3), np.uint8)
  return _element(frames, False, index, labels, error)


def _reader(dataset: Dataset, config: DataConfig) -> Reader | CachingReader:
  reader = Reader(dataset.examples, config.short_side)
  return CachingReader(reader, config.cache_bytes) if config.cache_bytes else reader


def _check_division(dataset: Dataset, config: DataConfig, process: int, processes: int) -> None:
  if not dataset.examples:
    raise DataError(f"the split {dataset.split!r} of {dataset.name} is empty; it needs at least one example.")
  if not 0 <= process < processes:
    raise ConfigError(f"process {process} of {processes}: the index must be 0 to {processes - 1}.")
  if config.global_batch % processes:
    raise ConfigError(
      f"data.global_batch = {config.global_batch} can't be divided among {processes} processes; use a multiple."
    )


@dataclasses.dataclass(frozen=True)
class _ProcessRows:
  """The rows of one process, batch after batch: a random-access source for Grain.

  Contiguous rows, not every n-th: the batches of all processes one after the other are then the global batch in the
  order of a single process, so row r has the same dropout mask whatever the number of processes.
  """

  elements: grain.MapDataset
  global_batch: int
  process: int
  processes: int

  def __len__(self) -> int:
    return len(self.elements) // self.global_batch * (self.global_batch // self.processes)

  def __getitem__(self, row: int) -> Element:
    rows = self.global_batch // self.processes
    return self.elements[row // rows * self.global_batch + self.process * rows + row % rows]


def _batches(
  elements: grain.MapDataset, config: DataConfig, process: int, processes: int, start_step: int
) -> Generator[Batch, None, None]:
  rows = _ProcessRows(elements, config.global_batch, process, processes)
  batches = grain.MapDataset.source(rows).batch(config.global_batch // processes, drop_remainder=True)
  stream = batches[start_step:].to_iter_dataset(
    grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=config.prefetch)
  )
  if config.workers:
    if not flags.FLAGS.is_parsed():  # Grain reads absl flags when it starts workers
      flags.FLAGS.mark_as_parsed()
    stream = stream.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=_WORKER_BUFFER)
    )
  return _closing(iter(stream))


def _closing(batches: grain.DatasetIterator) -> Generator[Batch, None, None]:
  """Ends worker processes and threads after the last batch too, not only when the consumer closes."""
  try:
    yield from batches
  finally:
    batches.close()
