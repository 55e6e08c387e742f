"""The table of jobs. A job is a module with `run(experiment)`; one line here makes it available as --job NAME."""

import importlib
from collections.abc import Callable

from gasmcast.core.errors import ConfigError

JOBS = {
  "generate": "gasmcast.jobs.generate",
  "train": "gasmcast.jobs.train",
  "evaluate": "gasmcast.jobs.evaluate",
  "report": "gasmcast.jobs.report",
  "count": "gasmcast.jobs.count",
}


def find(names: str) -> list[Callable]:
  """The `run` functions of a comma-separated list of jobs, in the order given.

  Raises:
    ConfigError: one of the names is no job, or there is none.
  """
  wanted = [name.strip() for name in names.split(",") if name.strip()]
  unknown = [name for name in wanted if name not in JOBS]
  if unknown or not wanted:
    raise ConfigError(f"--job {names!r}: {unknown[0] if unknown else 'nothing'!r} is no job; use {', '.join(JOBS)}.")
  return [importlib.import_module(JOBS[name]).run for name in wanted]
