"""Job generate: makes the rendered data set of `config.generate` under `config.data.root`, or finds it there."""

import os
import time

import jax
from jax.experimental import multihost_utils
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gasmcast.core.config import require
from gasmcast.datasets.generated import moving_objects
from gasmcast.jobs.experiment import Experiment


def check(experiment: Experiment) -> None:
  """Refuses a config without a recipe."""
  require(
    experiment.recipe is not None, "config.generate is missing: this config has no data set that can be generated."
  )


def run(experiment: Experiment) -> None:
  """Renders and encodes with one process a core, verifies what is there otherwise. One of several processes works."""
  if jax.process_index() == 0:
    _generate(experiment)
  multihost_utils.sync_global_devices("generate")


def _generate(experiment: Experiment) -> None:
  root, console = experiment.data_root, experiment.console
  found, begin = root.exists(), time.monotonic()
  columns = (TextColumn("rendering videos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
  with Progress(*columns, console=console, transient=True) as progress:
    task = progress.add_task("", total=None)
    description = moving_objects.generate(
      root,
      experiment.recipe,
      os.cpu_count() or 1,
      lambda done, total: progress.update(task, completed=done, total=total),
    )
  verb = "found and verified" if found else "made"
  videos = sum(name.startswith("videos/") for name in description["files"])
  console.print(
    f"Data: {videos} videos {verb} in {root} ({time.monotonic() - begin:.0f} s), pixels {description['pixels'][:12]}"
  )
