"""Which step is best so far, and whether to go on: facts about the validations of a run, without the model."""

import dataclasses
import math
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Selection:
  """The outcome of all validations so far. Travels in every checkpoint.

  Attributes:
    best_step, best_value: the first step with the best value; None before any finite value.
    without_gain: validations since then.
    validated_at: the last validated step.
  """

  best_step: int | None = None
  best_value: float | None = None
  without_gain: int = 0
  validated_at: int = 0

  def after(self, step: int, value: float, mode: Literal["max", "min"]) -> "Selection":
    """The selection after one more validation. A value that is not finite, or only as good, is no gain."""
    sign = 1 if mode == "max" else -1
    gain = math.isfinite(value) and (self.best_value is None or sign * value > sign * self.best_value)
    if gain:
      return Selection(best_step=step, best_value=value, without_gain=0, validated_at=step)
    return dataclasses.replace(self, without_gain=self.without_gain + 1, validated_at=step)

  def exhausted(self, patience: int) -> bool:
    """Whether training should stop early: `patience` validations in a row without a gain (0: never)."""
    return 0 < patience <= self.without_gain
