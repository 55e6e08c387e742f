"""The best checkpoint of a working directory at work: scores of every example of a data set."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float

from gasmcast.core.config import require
from gasmcast.core.errors import DataError, WeightsError, WorkdirError
from gasmcast.core.rules import flatten, unflatten
from gasmcast.core.types import Batch, Dataset, PyTree
from gasmcast.jobs import extraction
from gasmcast.jobs.experiment import Experiment
from gasmcast.metrics.sums import merge
from gasmcast.systems.gasmcast import GasmCastSystem
from gasmcast.systems.gasmcast_network import Pretrained
from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.data_errors import DataErrors
from gasmcast.training.sharding import replicated, shard_batch
from gasmcast.training.start import begin
from gasmcast.training.state import TrainState, averaged, fingerprint, variables
from gasmcast.training.step import batch_sums
from gasmcast.videos.batches import Source, evaluation_batches


@dataclasses.dataclass(frozen=True)
class Scores:
  """What a model makes of a data set.

  Attributes:
    logits: float32 [examples, classes]; NaN where an example could not be read.
    failed: how many could not be read.
    sums: of the metrics, where they were asked for.
  """

  logits: Float[np.ndarray, "N C"]
  failed: int
  sums: PyTree | None


class Best:
  """The state with the best validation, trained exactly as configured.

  Attributes:
    experiment: with the sizes that the weights have.
    system: for the classes of the data.
    state: as it was saved; with the averaged parameters where the run keeps them.
    weights: the hash of the model, and what the weights of the streams are.

  Raises:
    WorkdirError: there is no checkpoint of this configuration in the working directory.
    WeightsError: the weights of a backbone can't be had: checkpoints do not hold frozen ones.
  """

  def __init__(self, experiment: Experiment):
    if not (experiment.workdir / "checkpoints").is_dir():
      raise WorkdirError(
        f"{experiment.workdir} holds no checkpoints; train first (--job train with the same --workdir)."
      )
    train = experiment.dataset("train")
    self.experiment, self._pretrained = experiment.with_weights()
    self.system: GasmCastSystem = self.experiment.system(train)
    self.state = averaged(_restore(self.experiment, self.system, train, self._pretrained))
    self.weights = {"model": fingerprint(variables(self.state)), **self._pretrained.streams}
    self._step = functools.cache(self._compile)  # all splits have one

  def variables(self, stored: bool) -> PyTree:
    """Of the model for stored features, or for videos: the backbones that a training on stored features left out.

    Raises:
      WeightsError: the backbones can't be had, or are not those that made the store.
      ConfigError: the store holds fewer tokens or components, which backbones don't give.
    """
    if stored or self.experiment.store_folder is None:
      return variables(self.state)
    experiment, loaded = self.experiment.with_weights(stored=False)
    given = extraction.feature_shapes(experiment.model, experiment.data.frames, experiment.data.size)
    for name, stream in loaded.streams.items():
      trained_on = self._pretrained.streams[name]["fingerprint"]
      if stream["fingerprint"] != trained_on:
        raise WeightsError(
          f"config.model.{name}: the weights from {stream['origin']} are {stream['fingerprint'][:12]}, the stored "
          f"features that the model was trained on were made with {trained_on[:12]}; use those weights."
        )
      shape = list(experiment.store.description[name]["shape"])
      require(
        shape == list(given[name]),
        f"the model was trained on stored features {name!r} {shape}, its backbone gives {list(given[name])} for a "
        "clip; extract the videos in the same form and leave config.predict.stored at True.",
      )
    return unflatten(flatten(variables(self.state)) | flatten(jax.device_put(loaded.variables)))

  def score(self, dataset: Dataset, source: Source, stored: bool, with_sums: bool) -> Scores:
    """Scores of every example, in its order, on every process.

    Args:
      source: of the data set's examples.
      stored: whether it gives stored features.
      with_sums: whether the sums of the metrics are wanted, for which there must be labels.

    Raises:
      DataError: more examples could not be read than `config.train.max_error_share` allows.
    """
    experiment, step = self.experiment, self._step(with_sums)
    model, logits = self.variables(stored), np.full((len(dataset.examples), len(self.system.class_names)), np.nan)
    total, failed = None, 0
    place = {"process": jax.process_index(), "processes": jax.process_count()}
    with DataErrors(experiment.workdir) as errors:
      for batch in evaluation_batches(source, experiment.data, **place):
        on_device = shard_batch(errors.strip(batch, dataset.split, int(self.state.step)), experiment.mesh)
        sums, scores = step(model, on_device)
        total = merge(total, jax.device_get(sums)) if with_sums else None
        index, ok = everywhere(batch["index"]), everywhere(batch["ok"])
        logits[index[ok]] = np.asarray(scores)[ok]
        failed += int((~ok & (index >= 0)).sum())
    self._check_failed(dataset, failed)
    return Scores(logits.astype(np.float32), failed, total)

  def _compile(self, with_sums: bool) -> Callable[[PyTree, Batch], tuple[Any, jax.Array]]:
    """(variables, batch) -> (sums, logits of all rows), whole on every device."""
    system = self.system

    def step(model, batch):
      outputs, _ = system.apply(model, batch, train=False)
      return batch_sums(outputs, batch, system=system) if with_sums else {}, outputs["logits"]

    return jax.jit(step, out_shardings=replicated(self.experiment.mesh))

  def _check_failed(self, dataset: Dataset, failed: int) -> None:
    limit, clips = self.experiment.max_error_share, len(dataset.examples)
    if failed > limit * clips:
      raise DataError(
        f"{failed} of {clips} clips of the split {dataset.split!r} could not be read, more than "
        f"config.train.max_error_share = {limit} allows; data_errors.jsonl in {self.experiment.workdir} names them."
      )


def everywhere(x: Any) -> np.ndarray:
  """The rows of all processes on each."""
  if jax.process_count() == 1:
    return np.asarray(x)
  return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def _restore(experiment: Experiment, system: GasmCastSystem, train: Dataset, pretrained: Pretrained) -> TrainState:
  config = experiment.train_config(train)
  batch = experiment.example_batch(experiment.data.global_batch)
  target, _, _ = begin(system, config, batch, experiment.mesh, pretrained.variables)
  identity = experiment.identity(train, experiment.dataset("validation"), pretrained)
  identity |= {"train": config.identity(), "frozen": fingerprint(target.frozen)}
  with Checkpoints(experiment.workdir / "checkpoints") as checkpoints:
    restored = checkpoints.restore(target, identity, "best")
  for note in restored.notes:
    experiment.console.print(note)
  return restored.state
