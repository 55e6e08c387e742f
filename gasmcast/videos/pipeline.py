"""Clips of videos as a source of batches (`videos.batches`): reading, choice of frames, augmentation."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

from gasmcast.core.config import require
from gasmcast.core.types import Dataset
from gasmcast.datasets.labels import flip_map
from gasmcast.videos.frame_cache import EVICTIONS
from gasmcast.videos.reader import CachingReader, Reader
from gasmcast.videos.sample import centre_frames, random_frames
from gasmcast.videos.transforms import ColourJitter, HorizontalFlip, RandomResizedCrop, ResizeCentreCrop


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
    sampling: how often each class comes in training (`videos.sampling`): "uniform", every example once an epoch;
      "balanced", every class equally often; "square_root", as the square root of its number of examples.
    workers: processes that read; 0 reads in this process, where decoding runs beside Python anyway.
    threads: that read, each one whole batch at a time, in each worker or in this process.
    prefetch: batches that are made or kept ready at a time, at least one a thread, in each worker or in this process.
    cache_bytes: up to this many bytes of decoded videos stay in memory; the clips are the same with and without. For
      data sets of a few thousand short clips. 0 is off.
    cache_eviction: what a full cache does. "none" keeps what came first, which is better for shuffled passes over a set
      of which it holds a share f: f of the reads hit, against f + (1 - f) ln(1 - f) with "lru" (0.50 and 0.15 at half).
      "lru" drops what was read longest ago, which is better where the same videos are wanted again soon.
  """

  global_batch: int
  frames: int = 16
  size: int = 224
  short_side: int = 256
  augmentation: AugmentationConfig = AugmentationConfig()
  sampling: Literal["uniform", "balanced", "square_root"] = "uniform"
  workers: int = 0
  threads: int = 2
  prefetch: int = 4
  cache_bytes: int = 0
  cache_eviction: str = "none"

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
      self.cache_eviction in EVICTIONS,
      f"data.cache_eviction = {self.cache_eviction!r}: it must be one of {', '.join(EVICTIONS)}.",
    )
    require(
      not (self.cache_bytes and self.workers),
      f"data.cache_bytes = {self.cache_bytes} with data.workers = {self.workers}: every worker would fill a cache of "
      "its own; use workers = 0 or cache_bytes = 0.",
    )


class Clips:
  """The "frames" uint8 [T, size, size, 3] of each example of a data set.

  Args:
    dataset: whose examples are read.
    config: which frames, of what size, and how training clips are changed.
    augmented: whether training clips are wanted.

  Raises:
    ConfigError: a class has a direction but no mirror image, and training clips are flipped.
  """

  def __init__(self, dataset: Dataset, config: DataConfig, augmented: bool):
    augmentation = config.augmentation
    flips = augmented and augmentation.flip
    class_maps = {name: flip_map(names) for name, names in dataset.classes.items()} if flips else {}
    self.dataset = dataset
    self._config = config
    self._reader = Reader(dataset.examples, config.short_side)
    self._training_reader = (
      CachingReader(self._reader, config.cache_bytes, config.cache_eviction) if config.cache_bytes else self._reader
    )
    self._random_crop = RandomResizedCrop(config.size, augmentation.scale, augmentation.ratio)
    self._jitter = ColourJitter(augmentation.brightness, augmentation.contrast, augmentation.saturation)
    self._flip = HorizontalFlip(augmentation.flip, class_maps)
    self._centre_crop = ResizeCentreCrop(config.size)

  def draw(self, index: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], Mapping[str, int]]:
    """A training clip: random frames, crop, colours and flip; with the labels that it then has."""
    # The reader may ask twice, so the choice of frames has a generator that begins anew each time.
    seed = int(rng.integers(2**63))
    frames = self._training_reader.read(
      index, lambda total: random_frames(total, self._config.frames, np.random.default_rng(seed))
    )
    labels = self.dataset.examples[index].labels
    frames, labels = self._flip(self._jitter(self._random_crop(frames, rng), rng), labels, rng)
    return {"frames": frames}, labels

  def read(self, index: int) -> dict[str, np.ndarray]:
    """The clip of evaluation: centre frames, centre crop, no randomness."""
    frames = self._reader.read(index, lambda total: centre_frames(total, self._config.frames))
    return {"frames": self._centre_crop(frames)}

  def empty(self) -> dict[str, np.ndarray]:
    """What stands in the place of a clip that can't be read."""
    return {"frames": np.zeros((self._config.frames, self._config.size, self._config.size, 3), np.uint8)}
