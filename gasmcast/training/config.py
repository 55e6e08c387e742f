"""The fields of a training run."""

import dataclasses
from typing import Any, Literal

from gasmcast.core.config import require, to_dict
from gasmcast.training.optim import OptimConfig
from gasmcast.training.sharding import ShardingConfig

# What may change when a run is resumed: none of its numbers depend on these (on the placement, only their rounding).
FREE_TO_CHANGE = ("log_every", "checkpoint_every", "max_non_finite", "max_error_share", "sharding")


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
    max_non_finite: stop with an error after so many steps in a row with a non-finite loss or gradient.
    max_error_share: stop with an error when a larger share of the clips seen could not be read; judged from the
      100th clip on.
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
  max_non_finite: int = 5
  max_error_share: float = 0.05
  optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
  sharding: ShardingConfig = dataclasses.field(default_factory=ShardingConfig)

  def __post_init__(self):
    for name in ("steps", "log_every", "validate_every", "checkpoint_every", "max_non_finite"):
      value = getattr(self, name)
      require(value >= 1, f"train.{name} = {value}: it counts steps; use 1 or more.")
    require(
      self.patience >= 0,
      f"train.patience = {self.patience} is negative; use 0 to train to the end, or a number of validations.",
    )
    require(
      0 <= self.max_error_share <= 1,
      f"train.max_error_share = {self.max_error_share} is no share; use a number from 0 to 1.",
    )

  def identity(self) -> dict[str, Any]:
    """The fields that must be the same for a run to be resumed."""
    return {name: value for name, value in to_dict(self).items() if name not in FREE_TO_CHANGE}
