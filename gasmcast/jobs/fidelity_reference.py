"""Features of clips in full precision with all tokens, computed from the videos or read from a store of such."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from gasmcast.core.config import to_dict
from gasmcast.core.errors import DataError
from gasmcast.core.types import Dataset
from gasmcast.jobs import extraction
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.shard_batches import outcome
from gasmcast.store.compression import PRECISIONS
from gasmcast.systems.gasmcast_network import Pretrained, feature_function

FULL_PRECISIONS = ("float32", "bfloat16")
Features = Mapping[str, np.ndarray]


class Reference:
  """Reads features of clips, float32, by the name of the stream.

  Args:
    experiment: as configured.
    stored: whether they are read from `config.data.store`; otherwise the backbones see the videos.

  Attributes:
    experiment: with the sizes that the weights have.
    shapes: stream -> [T, N, D] or [T, D].
    origin: where they come from, in words.
    precision: the lowest in which a stream is held.
    networks: what the features depend on, as far as a trained head has to agree; see `networks`.

  Raises:
    DataError: there is no such store, or what it holds is made smaller already.
    WeightsError: the weights of a backbone can't be had.
  """

  def __init__(self, experiment: Experiment, stored: bool):
    self.experiment, pretrained = experiment.with_weights(stored)
    data, model = self.experiment.data, self.experiment.model
    shapes = extraction.feature_shapes(model, data.frames, data.size)
    self.shapes = {name: shapes[name] for name in model.streams()}  # jax orders names by the alphabet
    self.networks = networks(self.experiment, pretrained)
    self.origin, self.precision = "computed from the videos", "float32"
    self._compute: Callable[[np.ndarray], Mapping[str, jax.Array]] | None = None
    if stored:
      self.origin, self.precision = f"stored in {experiment.store.folder}", self._stored_precision()
    else:
      self._compute = feature_function(model, pretrained.variables)

  def batches(self, dataset: Dataset, indices: Sequence[int]) -> Iterator[list[Features | DataError]]:
    """The features of these examples, or why one has none, in lists of up to `config.extract.batch`."""
    config = self.experiment.section("extract", extraction.ExtractConfig)
    stored = self._compute is None
    source = self.experiment.source(dataset) if stored else self.experiment.clips(dataset)
    with ThreadPoolExecutor(config.threads, "read") as pool:
      for start in range(0, len(indices), config.batch):
        read = list(pool.map(functools.partial(outcome, source.read), indices[start : start + config.batch]))
        yield [self._expanded(item) for item in read] if stored else self._computed(read, config.batch)

  def _stored_precision(self) -> str:
    """The lowest precision of the store's streams."""
    found = set()
    for name, shape in self.shapes.items():
      told = self.experiment.store.description[name]
      found.add(told["variant"]["precision"])
      if told["variant"]["precision"] not in FULL_PRECISIONS or told["variant"]["pca"] or told["shape"] != list(shape):
        raise DataError(
          f"{self.experiment.store.folder} holds the {name} stream as {told['shape']} in "
          f"{told['variant']['precision']}{', components' if told['variant']['pca'] else ''}; a reference holds "
          f"{list(shape)} in float32 or bfloat16. Name another store, or set config.fidelity.stored to False."
        )
    return min(found, key=lambda precision: PRECISIONS[precision].itemsize)

  def _expanded(self, arrays: Features | DataError) -> Features | DataError:
    return arrays if isinstance(arrays, DataError) else {name: arrays[name].astype(np.float32) for name in self.shapes}

  def _computed(self, clips: list[Any], rows: int) -> list[Features | DataError]:
    """The last batch is filled up with zeros, so that nothing is compiled twice."""
    readable = [row for row, clip in enumerate(clips) if not isinstance(clip, DataError)]
    if not readable:
      return clips
    stack = np.zeros((rows, *clips[readable[0]]["frames"].shape), np.uint8)
    for row in readable:
      stack[row] = clips[row]["frames"]
    leaves = {name: np.asarray(leaf, np.float32) for name, leaf in self._compute(stack).items()}
    return [
      clip if isinstance(clip, DataError) else {name: leaf[row] for name, leaf in leaves.items()}
      for row, clip in enumerate(clips)
    ]


def networks(experiment: Experiment, pretrained: Pretrained) -> dict[str, dict[str, Any]]:
  """Stream -> its weights by content, its sizes and the frames it sees. Those of two experiments can be compared.

  Args:
    experiment: with the sizes that the weights have.
  """
  wanted = extraction.wanted(experiment.model, experiment.data)
  return {
    name: {
      **wanted[name],
      "network": to_dict(stream.network),
      "weights": pretrained.streams[name]["fingerprint"],
      "clips": wanted["clips"],
    }
    for name, stream in experiment.model.streams().items()
  }
