"""Job train: trains the system on the train split, validates, keeps checkpoints; the same command resumes."""

import jax

from gasmcast.core.config import require
from gasmcast.jobs import records
from gasmcast.jobs.experiment import Experiment
from gasmcast.training.loop import fit
from gasmcast.videos.pipeline import evaluation_batches, train_batches


def run(experiment: Experiment) -> None:
  """Data, records, loop.

  Raises:
    ConfigError: a backbone is frozen: it would stay as it was drawn at random.
    Exception: what `training.loop.fit` raises.
  """
  for name, stream in experiment.model.streams().items():
    require(
      stream.trainable,
      f"config.model.{name}.trainable is False, and no pretrained weights can be loaded yet: a frozen backbone would "
      "stay random. Set it to True to train it from scratch.",
    )
  train, validation = experiment.dataset("train"), experiment.dataset("validation")
  config = experiment.train_config(train)
  system = experiment.system(train.classes["action"])
  place = {"process": jax.process_index(), "processes": jax.process_count()}
  records.write(experiment)
  fit(
    system,
    lambda step: train_batches(train, experiment.data, experiment.seed, start_step=step, **place),
    lambda: evaluation_batches(validation, experiment.data, **place),
    config,
    experiment.workdir,
    experiment.identity(train),
    console=experiment.console,
  )
