"""Job train: trains the system on the train split, validates, keeps checkpoints; the same command resumes."""

import jax

from gasmcast.core.config import require
from gasmcast.core.errors import Stopped
from gasmcast.datasets.dataset import require_labels
from gasmcast.jobs import records
from gasmcast.jobs.experiment import Experiment
from gasmcast.systems.gasmcast import LABEL
from gasmcast.training.loop import fit
from gasmcast.videos.batches import evaluation_batches, train_batches


def check(experiment: Experiment) -> None:
  """Refuses a frozen backbone without weights: it would stay as it was drawn at random."""
  for name, stream in experiment.model.streams().items():
    require(
      stream.trainable or not stream.random,
      f"config.model.{name}.weights = 'random' and trainable = False: a frozen backbone would stay random. Set "
      f"config.model.{name}.trainable=True to train it from scratch, or name its weights: a file, a folder, a hub id, "
      "or None for the published ones.",
    )
  experiment.check_batch()


def run(experiment: Experiment) -> None:
  """Data, weights, loop, records.

  Raises:
    Stopped: told to stop; the same command resumes.
    WeightsError: the weights of a backbone can't be had, or are of another network.
    UserError: what `training.loop.fit` raises.
  """
  train, validation = experiment.dataset("train"), experiment.dataset("validation")
  require_labels(train)
  require_labels(validation)
  experiment, pretrained = experiment.with_weights()
  source = experiment.source(train, augmented=True)
  place = {"process": jax.process_index(), "processes": jax.process_count()}
  result = fit(
    experiment.system(train.classes[LABEL]),
    lambda step: train_batches(source, experiment.data, experiment.seed, start_step=step, **place),
    lambda: evaluation_batches(experiment.source(validation), experiment.data, **place),
    experiment.train_config(train),
    experiment.workdir,
    experiment.identity(train, validation, pretrained),
    pretrained=pretrained.variables,
    console=experiment.console,
    accepted=lambda: records.write(experiment),
  )
  if result.status == "terminated":
    raise Stopped(result.message)
