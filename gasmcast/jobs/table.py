"""The table of jobs; one line here makes a module available as --job NAME.

A job is a module with `check(experiment)`, which refuses what can be refused without work, and `run(experiment)`. What
it is given is an `Experiment`, or the kind of `Run` that its SETUP names, which lists in `systems` the values of
config.system that the job can work with. All jobs of a command are checked before the first one runs.
"""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from rich.console import Console

from gasmcast.core.errors import ConfigError
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.run import Run

JOBS = {
  "prepare": "gasmcast.jobs.prepare",
  "generate": "gasmcast.jobs.generate",
  "extract": "gasmcast.jobs.extract",
  "train": "gasmcast.jobs.train",
  "evaluate": "gasmcast.jobs.evaluate",
  "predict": "gasmcast.jobs.predict",
  "search": "gasmcast.jobs.search",
  "ablate": "gasmcast.jobs.ablate",
  "cross_validate": "gasmcast.jobs.cross_validate",
  "cache_fidelity": "gasmcast.jobs.cache_fidelity",
  "report": "gasmcast.jobs.report",
  "count": "gasmcast.jobs.count",
  "devices": "gasmcast.jobs.devices",
  "inspect": "gasmcast.jobs.inspect",
  "benchmark": "gasmcast.jobs.benchmark",
  "efficiency": "gasmcast.jobs.efficiency",
}
DISTRIBUTED = ("generate", "train", "evaluate", "predict", "report", "count")  # that several processes do as one


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


def require_distributed(names: str) -> None:
  """Raises ConfigError if several processes can't do one of the jobs as one."""
  for job in find(names):
    name = job.__name__.rpartition(".")[2]
    if name not in DISTRIBUTED:
      raise ConfigError(
        f"--job {name} is not done by several processes as one (those are {', '.join(DISTRIBUTED)}); start it without "
        "--distributed or --process. Workers of extract and prepare share the work by their folder (docs/clusters.md)."
      )


def prepare(
  names: str, config: Mapping[str, Any], workdir: str, command: str, console: Console | None = None
) -> list[tuple[ModuleType, Run]]:
  """Each job with what it is given, checked; jobs of one kind share it.

  Raises:
    ConfigError: an unknown job, or a configuration that one of them can't work with.
  """
  prepared, made = [], {}
  for job in find(names):
    _require_known(config.get("system"), job)
    setup = _setup(job)
    if setup not in made:
      made[setup] = setup(config, workdir, command, console)
    prepared.append((job, made[setup]))
  for job, run in prepared:
    job.check(run)
  return prepared


def _setup(job: ModuleType) -> type[Run]:
  return getattr(job, "SETUP", Experiment)


def _require_known(system: str | None, job: ModuleType) -> None:
  """Refuses a job that is for other systems; a name that no job knows is left to the job's own words."""
  knows = lambda other: system in getattr(_setup(other), "systems", ())
  if system is None or knows(job):
    return
  if able := [name for name, module in JOBS.items() if knows(importlib.import_module(module))]:
    name, does = job.__name__.rpartition(".")[2], "does" if len(able) == 1 else "do"
    raise ConfigError(f"config.system = {system!r}: job {name} does not know this system; {', '.join(able)} {does}.")
