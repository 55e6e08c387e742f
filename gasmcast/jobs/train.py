"""Job train: trains the system on the train split, validates, keeps checkpoints; the same command resumes."""

from collections.abc import Callable, Mapping

import jax

from gasmcast.core import rules
from gasmcast.core.config import require
from gasmcast.core.errors import Stopped
from gasmcast.datasets.dataset import require_labels
from gasmcast.jobs import records
from gasmcast.jobs.experiment import Experiment
from gasmcast.systems.gasmcast import LABEL
from gasmcast.training import parameter_table, warm_start
from gasmcast.training.loop import FitResult, fit
from gasmcast.training.sharding import describe
from gasmcast.videos.batches import evaluation_batches, train_batches


def check(experiment: Experiment) -> None:
  """Refuses a frozen backbone without weights, which would stay as it was drawn, and initial weights not there."""
  for name, stream in experiment.model.streams().items():
    require(
      stream.trainable or not stream.random,
      f"config.model.{name}.weights = 'random' and trainable = False: a frozen backbone would stay random. Set "
      f"config.model.{name}.trainable=True to train it from scratch, or name its weights: a file, a folder, a hub id, "
      "or None for the published ones.",
    )
  warm_start.require_there(experiment.init)
  experiment.check_batch()


def run(experiment: Experiment) -> None:
  """Trains.

  Raises:
    Stopped: told to stop; the same command resumes.
    UserError: what `train` raises.
  """
  result = train(experiment)
  if result.status == "terminated":
    raise Stopped(result.message)


def train(
  experiment: Experiment, validated: Callable[[int, Mapping[str, float]], None] = lambda step, numbers: None
) -> FitResult:
  """Data, weights, loop, records.

  Args:
    validated: see `training.loop.fit`.

  Raises:
    WeightsError: the weights of a backbone can't be had, or are of another network.
    UserError: what `training.loop.fit` raises.
  """
  train_set, validation = experiment.dataset("train"), experiment.dataset("validation")
  require_labels(train_set)
  require_labels(validation)
  experiment, pretrained = experiment.with_weights()
  source = experiment.source(train_set, augmented=True)
  config, place = experiment.train_config(train_set), {"process": jax.process_index(), "processes": jax.process_count()}

  def accepted():
    records.write(experiment)
    if jax.process_index():
      return
    params = rules.flatten(experiment.abstract_variables["params"])
    experiment.console.print(parameter_table.table(params, experiment.treatments, "What trains"))
    start = [] if experiment.start is None else [experiment.start.message]
    for line in [*start, *describe(params, experiment.mesh, config.sharding)]:
      experiment.console.print(line, markup=False, highlight=False, soft_wrap=True)

  return fit(
    experiment.system(train_set),
    lambda step: train_batches(source, experiment.data, experiment.seed, label=LABEL, start_step=step, **place),
    lambda: evaluation_batches(experiment.source(validation), experiment.data, **place),
    config,
    experiment.workdir,
    experiment.identity(train_set, validation, pretrained),
    pretrained=pretrained.variables,
    console=experiment.console,
    accepted=accepted,
    validated=validated,
  )
