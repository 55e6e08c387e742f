"""The table of jobs; one line here makes a module available as --job NAME.

A job is a module with `check(experiment)`, which refuses what can be refused without work, and `run(experiment)`. All
jobs of a command are checked before the first one runs.
"""

import importlib
from types import ModuleType

from gasmcast.core.errors import ConfigError

JOBS = {
  "generate": "gasmcast.jobs.generate",
  "train": "gasmcast.jobs.train",
  "evaluate": "gasmcast.jobs.evaluate",
  "report": "gasmcast.jobs.report",
  "count": "gasmcast.jobs.count",
  "devices": "gasmcast.jobs.devices",
}


def find(names: str) -> list[ModuleType]:
  """The modules of a comma-separated list of jobs, in the order given.

  Raises:
    ConfigError: one of the names is no job, or there is none.
  """
  wanted = [name.strip() for name in names.split(",") if name.strip()]
  unknown = [name for name in wanted if name not in JOBS]
  if unknown or not wanted:
    raise ConfigError(f"--job {names!r}: {unknown[0] if unknown else 'nothing'!r} is no job; use {', '.join(JOBS)}.")
  return [importlib.import_module(JOBS[name]) for name in wanted]
