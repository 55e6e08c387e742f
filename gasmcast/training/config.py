"""The fields of a training run."""

import dataclasses
from typing import Any, Literal

from gasmcast.core.config import require, to_dict
from gasmcast.training.optim import OptimConfig
from gasmcast.training.profiling import check_profile
from gasmcast.training.sharding import ShardingConfig
from gasmcast.training.trackers import TRACKERS

# What may change when a run is resumed: none of its numbers depend on these (on the placement, only their rounding).
FREE_TO_CHANGE = (
  *("log_every", "checkpoint_every", "max_error_share", "sharding", "watchdog"),
  *("non_finite", "max_non_finite", "max_rollbacks"),
  *("trackers", "profile"),
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How long to train, and what to do along the way. All durations are in steps.

  Attributes:
    steps: train steps of the whole run; the last one is always validated and saved.
    seed: of the initial parameters and of every random stream.
    log_every, validate_every, checkpoint_every: steps between log lines, validations, checkpoints. A new best is also
      saved at once.
    best_metric, best_mode: the validation number that decides which step is best, and whether more or less is better.
    patience: stop after so many validations in a row without a gain; 0 trains to the end.
    non_finite: what follows on a loss or gradient that is not finite. Its update is never applied. "skip" goes on with
      the next batch and stops with an error after max_non_finite in a row; "rollback" goes back, then, to the last
      regular checkpoint before the row, and on behind its last batch; "stop" stops at the first.
    max_non_finite: so many in a row are too many.
    max_rollbacks: so many times a run goes back; the next time it stops with an error.
    max_error_share: stop with an error when a larger share of the clips seen could not be read; judged from the
      100th clip on.
    accumulate: parts in which a batch is taken, one after the other, so that only one has to fit into memory.
    average_decay: share that a running average of the parameters (EMA) keeps at each update; it is what is validated,
      kept as the best and evaluated. 0 keeps none.
    trackers: where the numbers of metrics.jsonl are shown beside, names of training/trackers.py.
    profile: first and last step of a trace for the profiler of TensorBoard; () for none.
    watchdog: seconds without any progress after which a process says who stands still, and ends; 0 waits for ever.
    optim: the optimiser.
    sharding: the placement on devices.
  """

  steps: int
  seed: int = 0
  log_every: int = 50
  validate_every: int = 1000
  checkpoint_every: int = 1000
  best_metric: str = "top1"
  best_mode: Literal["max", "min"] = "max"
  patience: int = 0
  non_finite: Literal["skip", "rollback", "stop"] = "skip"
  max_non_finite: int = 5
  max_rollbacks: int = 3
  max_error_share: float = 0.05
  accumulate: int = 1
  average_decay: float = 0.0
  trackers: tuple[str, ...] = ("tensorboard",)
  profile: tuple[int, ...] = ()
  watchdog: float = 1800.0
  optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
  sharding: ShardingConfig = dataclasses.field(default_factory=ShardingConfig)

  def __post_init__(self):
    for name in ("steps", "log_every", "validate_every", "checkpoint_every", "max_non_finite"):
      value = getattr(self, name)
      require(value >= 1, f"config.train.{name} = {value}: it counts steps; use 1 or more.")
    require(self.accumulate >= 1, f"config.train.accumulate = {self.accumulate}: it counts parts; use 1 or more.")
    require(
      0 <= self.average_decay < 1,
      f"config.train.average_decay = {self.average_decay}: it is the share of the old average that is kept; use 0 for "
      "no average, or up to below 1.",
    )
    require(
      self.max_rollbacks >= 0,
      f"config.train.max_rollbacks = {self.max_rollbacks} is negative; use 0 for none, or a number of times.",
    )
    require(
      self.watchdog >= 0,
      f"config.train.watchdog = {self.watchdog:g} is negative; use 0 to switch it off, or seconds without "
      "any progress.",
    )
    require(
      self.patience >= 0,
      f"config.train.patience = {self.patience} is negative; use 0 to train to the end, or a number of validations.",
    )
    require(
      0 <= self.max_error_share <= 1,
      f"config.train.max_error_share = {self.max_error_share} is no share; use a number from 0 to 1.",
    )
    unknown = [name for name in self.trackers if name not in TRACKERS]
    require(
      not unknown,
      f"config.train.trackers = {self.trackers}: {unknown} is no tracker; use {', '.join(TRACKERS)}, or ().",
    )
    check_profile(self.profile)

  def identity(self) -> dict[str, Any]:
    """The fields that must be the same for a run to be resumed."""
    return {name: value for name, value in to_dict(self).items() if name not in FREE_TO_CHANGE}
