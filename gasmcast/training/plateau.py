"""Lowering the learning rate when validations stop getting better: facts about the validations, without the model."""

import dataclasses
import math
from typing import Literal

from gasmcast.core.config import require


@dataclasses.dataclass(frozen=True)
class PlateauConfig:
  """When to lower the learning rate, and how far.

  Attributes:
    factor: what the learning rate is multiplied by.
    patience: validations without a gain that are let pass; the next one lowers the learning rate.
    threshold: a gain is better than the best by more than this share of it.
    min_scale: product of all factors that is never passed.
    cooldown: validations after a lowering that do not count.
  """

  factor: float = 0.1
  patience: int = 2
  threshold: float = 1e-4
  min_scale: float = 1e-3
  cooldown: int = 0

  def __post_init__(self):
    where = "config.optim.plateau"
    require(0 < self.factor < 1, f"{where}.factor = {self.factor} does not lower; use a number between 0 and 1.")
    require(0 < self.min_scale <= 1, f"{where}.min_scale = {self.min_scale} is no share; use above 0, up to 1.")
    for name in ("patience", "threshold", "cooldown"):
      value = getattr(self, name)
      require(value >= 0, f"{where}.{name} = {value} is negative; use 0 or more.")


@dataclasses.dataclass(frozen=True)
class Plateau:
  """What the validations so far have made of the learning rate. Travels in every checkpoint.

  The train step multiplies every update by `scale` (as `TrainState.lr_scale`), after the schedule and all rules; the
  optimiser's own state knows nothing of it.

  Attributes:
    scale: product of all factors so far.
    best: the best value that was a gain; None before any finite value.
    without_gain: validations since then, or since the last lowering.
    cooldown_left: validations to come that do not count.
  """

  scale: float = 1.0
  best: float | None = None
  without_gain: int = 0
  cooldown_left: int = 0

  def after(self, value: float, mode: Literal["max", "min"], config: PlateauConfig) -> "Plateau":
    """The state after one more validation, decided as torch.optim.lr_scheduler.ReduceLROnPlateau does.

    Two things differ, where its decision would be of no use: a value that is not finite is never a gain, and a
    negative best is passed by what is better than it (its factor 1 + threshold moves the mark the other way).
    """
    sign = 1 if mode == "max" else -1
    gain = math.isfinite(value) and (
      self.best is None or sign * (value - self.best) > config.threshold * abs(self.best)
    )
    best = value if gain else self.best
    if self.cooldown_left:
      return Plateau(self.scale, best, without_gain=0, cooldown_left=self.cooldown_left - 1)
    without_gain = 0 if gain else self.without_gain + 1
    if without_gain <= config.patience:
      return Plateau(self.scale, best, without_gain)
    return Plateau(max(self.scale * config.factor, config.min_scale), best, cooldown_left=config.cooldown)
