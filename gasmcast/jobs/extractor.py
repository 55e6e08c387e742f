"""The backbones at work: shards of clips in, records of a feature store out."""

import collections
import contextlib
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import jax
import numpy as np
from jaxtyping import Float

from gasmcast.core.config import to_dict
from gasmcast.core.errors import DataError
from gasmcast.core.rng import generator
from gasmcast.core.shards import Work
from gasmcast.core.types import Dataset
from gasmcast.jobs import extraction
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.extraction_statistics import STATISTICS, ShardStatistics
from gasmcast.jobs.shard_batches import batches_of_shards, outcome
from gasmcast.store.compression import Pca, compress, fit_pca, load_pca, name_parts, pool_features, stored_shape
from gasmcast.store.feature_store import FAILED, STORE, create, encode_views, store_key
from gasmcast.store.records import write_records
from gasmcast.store.source import split_name
from gasmcast.systems.gasmcast_network import Pretrained, feature_function
from gasmcast.videos.pipeline import Clips

_READING = 1  # raised when the same video and configuration give other frames than before
_SAMPLES = 100_000  # features that principal components are fitted on, about

Clip = list[tuple[np.ndarray, np.ndarray]] | DataError
Features = Mapping[str, jax.Array]


class Views:
  """Reads an example: [(frames [T, H, W, 3], labels in the order of the data set's label names), ...], a pair a view.

  The first view is that of evaluation. The others are drawn as training clips are, with a generator for each example
  and view, so they do not depend on who reads them and when.
  """

  def __init__(self, dataset: Dataset, experiment: Experiment, views: int):
    self._clips = Clips(dataset, experiment.data, augmented=views > 1)
    self._dataset, self._seed, self._views = dataset, experiment.seed, views

  def __call__(self, index: int) -> Clip:
    """Raises DataError where the example can't be read."""
    example = self._dataset.examples[index]
    views = [(self._clips.read(index)["frames"], self._ordered(example.labels))]
    for view in range(1, self._views):
      arrays, labels = self._clips.draw(index, generator(self._seed, "view", example.id, view))
      views.append((arrays["frames"], self._ordered(labels)))
    return views

  def _ordered(self, labels: Mapping[str, int]) -> np.ndarray:
    return np.array([labels.get(name, -1) for name in self._dataset.classes], np.int32)


class Extractor:
  """Fills the store of a configuration.

  Args:
    experiment: with the sizes that the weights have.
    pretrained: the weights.

  Raises:
    DataError: a split can't be used, or the principal components can't be fitted.
    WorkdirError: the store can't be written.
  """

  def __init__(self, experiment: Experiment, pretrained: Pretrained):
    self._experiment, self._config = experiment, experiment.section("extract", extraction.ExtractConfig)
    first = experiment.dataset(self._config.splits[0])
    description = describe(experiment, self._config, pretrained, first)
    self.store = create(store_folder(experiment, self._config, description), description)
    self._features = feature_function(experiment.model, pretrained.variables)
    self._components = self._fit(first)

  def begin(self, dataset: Dataset) -> Work:
    """The work on a data set, new or begun."""
    config, ids = self._config, [example.id for example in dataset.examples]
    return self.store.begin(split_name(dataset), ids, config.shard, config.views, config.lease)

  def extract(self, dataset: Dataset, work: Work, say: Callable[[int], None]) -> None:
    """Works on the shards until all are finished, by whoever; `say` is told of each batch how many clips it has."""
    read = Views(dataset, self._experiment, self._config.views)
    stream = batches_of_shards(work, read, self._config.batch, self._config.threads)
    with contextlib.closing(stream):
      for claim, batches in stream:
        told = _Told()
        try:
          write_records(claim.path, self._records(batches, dataset, claim.shard.first, told, say))
        except OSError as error:
          stream.throw(error)  # to where the claim is held, which says how much room there must be
        claim.finish({FAILED: told.failed, STATISTICS: told.statistics.result()})

  def _records(
    self, batches: Iterator[list[Clip]], dataset: Dataset, first: int, told: "_Told", say: Callable[[int], None]
  ) -> Iterator[bytes]:
    """The record of each clip from position `first` on."""
    position = itertools.count(first)
    for batch, views in self._computed(batches):
      for row, clip in enumerate(batch):
        number = next(position)
        if isinstance(clip, DataError):
          told.failed[str(number)] = str(clip)
          yield encode_views([])
          continue
        try:
          pairs = zip(views, clip, strict=True)
          stored = [self._stored(features, row) | {"labels": labels} for features, (_, labels) in pairs]
        except DataError as error:
          raise DataError(f"{dataset.split}, {dataset.examples[number].id}: {error}") from error
        for name, leaf in views[0].items():
          told.statistics.add(name, leaf[row])
        yield encode_views(stored)
      say(len(batch))

  def _computed(self, batches: Iterator[list[Clip]]) -> Iterator[tuple[list[Clip], list[Mapping[str, np.ndarray]]]]:
    """(batch, float32 features of each view); each batch is on its way before the one before it is waited for."""
    under_way: collections.deque[tuple[list[Clip], list[Features]]] = collections.deque()
    for batch in itertools.chain(batches, [None]):
      if batch is not None:
        under_way.append((batch, [self._features(frames) for frames in self._stacked(batch)]))
      while len(under_way) > (batch is not None):
        done, views = under_way.popleft()
        yield done, [{name: np.asarray(leaf, np.float32) for name, leaf in view.items()} for view in views]

  def _stacked(self, batch: list[Clip]) -> list[np.ndarray]:
    """uint8 [batch, T, H, W, 3] of each view; rows of clips that can't be read, and beyond the last one, are zeros."""
    readable = {row: clip for row, clip in enumerate(batch) if not isinstance(clip, DataError)}
    if not readable:
      return []
    stacks = []
    for view, (frames, _) in enumerate(next(iter(readable.values()))):
      stack = np.zeros((self._config.batch, *frames.shape), np.uint8)
      for row, clip in readable.items():
        stack[row] = clip[view][0]
      stacks.append(stack)
    return stacks

  def _stored(self, features: Mapping[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    """The features of a row in the form of their variants."""
    arrays = {}
    for name, leaf in features.items():
      arrays |= name_parts(name, compress(leaf[row], getattr(self._config, name), self._components.get(name)))
    return arrays

  def _fit(self, dataset: Dataset) -> dict[str, Pca]:
    """The principal components of each stream that is stored so. Whoever comes first fits them, the others wait."""
    streams = [name for name in self._experiment.model.streams() if getattr(self._config, name).pca]
    if not streams:
      return {}
    identity = {"store": self.store.fingerprint}
    work = Work.open(self.store.folder / "components", len(streams), 1, identity, suffix=".npz")
    for claim in work.claims():
      with claim:
        name = streams[claim.shard.number]
        pca = fit_pca(self._samples(dataset, name), getattr(self._config, name).pca)
        pca.save(claim.path)
        claim.finish({"stream": name, "explained": pca.explained})
    return {name: load_pca(work.file(number)) for number, name in enumerate(streams)}

  def _samples(self, dataset: Dataset, name: str) -> Float[np.ndarray, "n D"]:
    """Features of `pca_clips` clips, the same number of each, drawn over frames and tokens."""
    config = self._config
    rng = generator(self._experiment.seed, "principal components", name)
    chosen = rng.permutation(len(dataset.examples))[: config.pca_clips].tolist()
    each = -(-_SAMPLES // len(chosen))
    read, samples = functools.partial(outcome, Views(dataset, self._experiment, 1)), []
    with ThreadPoolExecutor(config.threads, "read") as pool:
      starts = range(0, len(chosen), config.batch)
      batches = (list(pool.map(read, chosen[start : start + config.batch])) for start in starts)
      for batch, views in self._computed(batches):
        for row, clip in enumerate(batch):
          if not isinstance(clip, DataError):
            features = pool_features(views[0][name][row], getattr(config, name).tokens)
            rows = features.reshape(-1, features.shape[-1])
            samples.append(rows[rng.permutation(len(rows))[:each]])
    if not samples:
      raise DataError(f"none of {len(chosen)} clips of {dataset.split!r} can be read, so no components can be fitted.")
    return np.concatenate(samples)


class _Told:
  """What the receipt of a shard says: position -> reason of the clips that can't be read, and sums of the features."""

  def __init__(self):
    self.failed: dict[str, str] = {}
    self.statistics = ShardStatistics()


def describe(
  experiment: Experiment, config: extraction.ExtractConfig, pretrained: Pretrained, first: Dataset
) -> dict[str, Any]:
  """The description of the store that an experiment, with the sizes of its weights, makes.

  Args:
    first: the data set that principal components are fitted on, where there are any.
  """
  model, data = experiment.model, experiment.data
  description = extraction.wanted(model, data)
  description["clips"] |= {"views": config.views, "opencv": cv2.__version__, "reading": _READING}
  if config.views > 1:
    description["clips"] |= {"augmentation": to_dict(data.augmentation), "seed": experiment.seed}
  shapes = extraction.feature_shapes(model, data.frames, data.size)
  for name, stream in model.streams().items():
    variant, known = getattr(config, name), pretrained.streams[name]
    description[name] |= {key: known[key] for key in extraction.OF_WEIGHTS}
    description[name] |= {
      "network": to_dict(stream.network),
      "dtype": model.dtype,
      "variant": to_dict(variant),
      "shape": list(stored_shape(shapes[name], variant)),
    }
    if variant.pca:
      fitted = {"clips": config.pca_clips, "data": first.fingerprint, "seed": experiment.seed}
      description[name]["components"] = fitted
  return description


def store_folder(
  experiment: Experiment, config: extraction.ExtractConfig, description: Mapping[str, Any]
) -> pathlib.Path:
  """Where the store of this description is, or will be."""
  root = pathlib.Path(config.store or experiment.store_folder or experiment.workdir / "store")
  if (root / STORE).is_file():  # a store itself, as training may name it: none is made inside of it
    return root
  streams = experiment.model.streams()
  names = [streams[name].name if name in streams else "" for name in ("semantic", "motion")]
  return root / store_key(*names, description)
