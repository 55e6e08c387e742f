"""What `config.search` asks for, checked against the rest of the configuration before anything runs."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

from gasmcast.core.config import require, to_dict
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.search_space import parse_points, parse_space, require_comparable
from gasmcast.jobs.search_study import Method
from gasmcast.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class SearchConfig:
  """A search for the values of some fields with which a training validates best.

  Attributes:
    space: a range for each field that is searched, see `jobs.search_space`.
    trials: how many, over all workers and all times the command was run; failed ones count.
    workers: processes of this machine, each with a trial of its own.
    gpus: of each worker; 0 where there is none, or one worker has them all.
    fixed: dotted names of the space that are not searched after all.
    baseline: whether trial 0 has the configuration's own values.
    known: points that are tried next, {dotted name: value}; what one does not give is as in the configuration.
    startup: trials drawn at random before the sampler learns from those that have ended.
    pruner: which trials end early, see `search_study.Method`.
    pruner_startup: trials that must have ended before the median of them ends another.
    grace: validations that every trial has before it may be ended early.
    max_failures: the search ends with an error after so many failed trials in a row.
  """

  space: dict[str, Any]
  trials: int = 20
  workers: int = 1
  gpus: int = 0
  fixed: tuple[str, ...] = ()
  baseline: bool = True
  known: tuple[dict[str, Any], ...] = ()
  startup: int = 8
  pruner: Literal["median", "hyperband", "none"] = "median"
  pruner_startup: int = 4
  grace: int = 1
  max_failures: int = 3

  def __post_init__(self):
    for name in ("trials", "workers", "startup", "pruner_startup", "grace", "max_failures"):
      require(getattr(self, name) >= 1, f"config.search.{name} = {getattr(self, name)}: it must be at least 1.")
    require(self.gpus >= 0, f"config.search.gpus = {self.gpus}: it must be at least 0.")
    first = self.baseline + len(self.known)
    require(
      first <= self.trials,
      f"config.search.trials = {self.trials}: {first} points are tried first (baseline, known); use {first} or more.",
    )


class Plan:
  """The search of an experiment.

  Attributes:
    config: as given.
    ranges: dotted name -> `search_space.Range`.
    points: the first trials, each {dotted name: value}.
    metric, mode: the validation number that decides, and whether more ("max") or less is better.

  Raises:
    ConfigError: a range, a point or a field can't be.
  """

  def __init__(self, experiment: Experiment):
    require(
      bool(experiment.raw.get("search")),
      "config.search is missing: job search needs ranges, see common.search in configs/common.py.",
    )
    self.config = experiment.section("search", SearchConfig)
    accepts = functools.partial(_accepts, experiment)
    self.ranges = parse_space(self.config.space, self.config.fixed, experiment.raw, accepts)
    self.points = parse_points(self.config.known, self.config.baseline, self.ranges, experiment.raw)
    self._seed = experiment.seed
    train = experiment.raw["train"]
    self.metric = train.get("best_metric", TrainConfig.best_metric)
    self.mode = train.get("best_mode", TrainConfig.best_mode)
    require_comparable(self.ranges, self.metric)

  def method(self, train: TrainConfig) -> Method:
    """How trials are chosen and ended, their lengths in steps of this training."""
    return Method(
      mode=self.mode,
      seed=self._seed,
      startup=self.config.startup,
      pruner=self.config.pruner,
      pruner_startup=self.config.pruner_startup,
      first=self.config.grace * train.validate_every,
      last=train.steps,
    )

  def identity(self) -> dict[str, Any]:
    """What must be the same for a search to be gone on with; its size and its workers may change."""
    named = ("startup", "pruner", "pruner_startup", "grace", "baseline")
    ranges = {name: str(one) for name, one in self.ranges.items()}
    return {"space": ranges, "metric": self.metric, "mode": self.mode} | {
      name: to_dict(getattr(self.config, name)) for name in named
    }


class _Values(Experiment):
  """The fields alone: tracing the model for each end of each range would take long."""

  def _check_model(self) -> None:
    pass


def _accepts(experiment: Experiment, raw: Mapping[str, Any]) -> None:
  """Raises ConfigError for values that the fields do not accept."""
  _Values(raw, experiment.workdir, experiment.command, experiment.console)
