"""Case of the job benchmark: the job extract beside the same networks and decoding with nothing around them."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from gasmcast.core.timing import Side, largest_error
from gasmcast.core.types import Dataset
from gasmcast.jobs import benchmark_videos, extraction
from gasmcast.jobs.benchmark import Prepared
from gasmcast.jobs.benchmark_videos import Videos
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.extractor import Extractor
from gasmcast.store.source import split_name
from gasmcast.systems.gasmcast_network import Backbones, Pretrained, feature_function

_TOLERANCE = 2**-8  # of the largest value: a number is stored as the nearest bfloat16


@dataclasses.dataclass(frozen=True)
class ExtractionCase:
  """Clips through frozen backbones. Their weights are drawn: what they are doesn't change the time.

  Attributes:
    videos: whose clips are extracted.
    clips: of a call.
    experiment: config of an experiment, whose backbones, clips and job extract are measured.
  """

  videos: Videos
  clips: int
  experiment: dict[str, Any]
  dtype: str = "uint8"

  def prepare(self, where: str) -> Prepared:
    """The job's extractor, then the bare loop."""
    experiment, dataset = self._experiment(), self._dataset("reference")
    weights = _drawn(experiment)
    extractor = Extractor(experiment, weights)
    config = experiment.section("extract", extraction.ExtractConfig)
    names, calls = list(experiment.model.streams()), itertools.count()

    def extract() -> Dataset:
      new = self._dataset(f"{next(calls):012d}")  # another data set, so that nothing is there yet
      extractor.extract(new, extractor.begin(new), lambda clips: None)
      return new

    def stored(extracted: Dataset) -> dict[str, np.ndarray]:
      reader = extractor.store.reader(split_name(extracted))
      features = [reader.read(position) for position in range(self.clips)]
      return {name: np.stack([np.float32(arrays[name]) for arrays in features]) for name in names}

    clips, features = experiment.clips(dataset), feature_function(experiment.model, weights.variables)
    bare = lambda: _bare(clips.read, self.clips, features, config.batch, config.threads)
    sides = [
      Side("job extract", extract, stored),
      Side("bare loop", bare, lambda features: features),
    ]
    backbones = " and ".join(stream.name for stream in experiment.model.streams().values())
    what = f"{self.clips} clips of {experiment.data.frames} frames through {backbones}, {self.videos.described}"
    return Prepared(sides, what, 0.0, "", _TOLERANCE, largest_error, clips=self.clips)

  def _experiment(self) -> Experiment:
    folder = benchmark_videos.scratch_folder()
    raw = {**self.experiment, "extract": {**self.experiment["extract"], "store": folder, "splits": ("train",)}}
    return _OnVideos(raw, folder, "benchmark", self._dataset("first"))

  def _dataset(self, fingerprint: str) -> Dataset:
    dataset = benchmark_videos.dataset(self.videos, repeats=-(-self.clips // self.videos.count))
    return dataclasses.replace(dataset, examples=dataset.examples[: self.clips], fingerprint=fingerprint)


class _OnVideos(Experiment):
  """An experiment on a data set that is given."""

  def __init__(self, config: dict[str, Any], workdir: str, command: str, dataset: Dataset):
    super().__init__(config, workdir, command)
    self._given = dataset

  def dataset(self, split: str) -> Dataset:
    return self._given


def _drawn(experiment: Experiment) -> Pretrained:
  """Random weights under the records that weights have."""
  data, streams = experiment.data, experiment.model.streams()
  clip = np.zeros((1, data.frames, data.size, data.size, 3), np.uint8)
  variables = jax.jit(Backbones(experiment.model).init)(jax.random.key(0), clip)
  known = {}
  for name, stream in streams.items():
    normalisation = {"mean": list(stream.network.normalisation.mean), "std": list(stream.network.normalisation.std)}
    known[name] = {"name": stream.name, "origin": "random", "fingerprint": "random", **normalisation}
    known[name]["image_size"] = stream.network.image_size
  return Pretrained(experiment.model, variables, known)


def _bare(
  read: Callable[[int], Mapping[str, np.ndarray]],
  clips: int,
  features: Callable[[np.ndarray], Mapping[str, jax.Array]],
  batch: int,
  threads: int,
) -> dict[str, np.ndarray]:
  """Features of all clips, which threads read ahead; nothing is checked, compressed or written."""
  done = []
  with ThreadPoolExecutor(threads) as pool:
    frames = (clip["frames"] for clip in pool.map(read, range(clips)))
    while rows := [*itertools.islice(frames, batch)]:
      done.append(jax.device_get(features(np.stack(rows))))
  return {name: np.concatenate([found[name] for found in done]).astype(np.float32) for name in done[0]}
