"""Job generate: makes the rendered data set of `config.generate` under `config.data.root`, or finds it there."""

import os
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gasmcast.core.config import require
from gasmcast.datasets.generated import moving_objects
from gasmcast.jobs.experiment import Experiment


def run(experiment: Experiment) -> None:
  """Renders and encodes with one process a core, verifies what is there otherwise."""
  require(
    experiment.recipe is not None, "config.generate is missing: this config has no data set that can be generated."
  )
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
  console.print(
    f"Data: {len(description['files'])} videos {verb} in {root} ({time.monotonic() - begin:.0f} s), "
    f"pixels {description['pixels'][:12]}"
  )
