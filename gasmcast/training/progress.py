"""What the host knows of a run beside its state, and how a run ends."""

import dataclasses
from typing import Literal

from gasmcast.training.config import TrainConfig
from gasmcast.training.monitor import Counts
from gasmcast.training.plateau import Plateau
from gasmcast.training.recovery import Recovery
from gasmcast.training.selection import Selection

Status = Literal["finished", "patience", "terminated"]
OVER = ("finished", "patience")  # nothing is left to do


@dataclasses.dataclass(frozen=True)
class Progress:
  """Travels in every checkpoint.

  Attributes:
    status: as in `FitResult`, "" while the run goes on.
    counts, selection, plateau: sums over its steps, the outcome of its validations, and what the schedule "plateau" has
      made of them.
    recovery: where it goes back to when it has to.
  """

  status: str = ""
  counts: Counts = dataclasses.field(default_factory=Counts)
  selection: Selection = dataclasses.field(default_factory=Selection)
  plateau: Plateau = dataclasses.field(default_factory=Plateau)
  recovery: Recovery = dataclasses.field(default_factory=Recovery)


@dataclasses.dataclass(frozen=True)
class FitResult:
  """How a run ended.

  Attributes:
    status: "finished" (all steps), "patience" (early stopping) or "terminated" (SIGTERM; the same command resumes).
    steps: updates tried so far.
    best_step, best_value: of the best validation; None before the first.
    message: the same in one sentence.
  """

  status: Status
  steps: int
  best_step: int | None
  best_value: float | None
  message: str


def status_of(selection: Selection, config: TrainConfig, told: bool) -> str:
  """The status of a run that has validated what is due; `told` to stop or not."""
  if selection.validated_at == config.steps:
    return "finished"
  if selection.exhausted(config.patience):
    return "patience"
  return "terminated" if told else ""


def result_of(progress: Progress, step: int, config: TrainConfig) -> FitResult:
  """The result of a run that ends after `step`."""
  selection = progress.selection
  message = {
    "finished": f"All {config.steps} steps are done.",
    "patience": f"Stopped early at step {step}: {selection.without_gain} validations without a gain.",
    "terminated": f"Told to stop: step {step} of {config.steps} is saved; the same command resumes there.",
  }[progress.status]
  if selection.best_step is not None:
    message += f" Best {config.best_metric}: {selection.best_value:.4g} at step {selection.best_step}."
  return FitResult(progress.status, step, selection.best_step, selection.best_value, message)
