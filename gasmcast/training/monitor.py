"""What the host learns of each training step: log lines, counts, and the two reasons to give up.

The numbers of a step are read while the next one runs, so that the device never waits for the host; `flush` reads what
is outstanding before anything is saved.
"""

import dataclasses
import math
import time

import jax
import numpy as np

from gasmcast.core.errors import TrainingError
from gasmcast.core.types import PyTree, System
from gasmcast.metrics.sums import merge
from gasmcast.training.config import TrainConfig
from gasmcast.training.tracking import Tracker

CLIPS_BEFORE_JUDGEMENT = 100  # a share of fewer clips says little: 1 of the first 8 may be chance


@dataclasses.dataclass(frozen=True)
class Counts:
  """Sums over the steps of a run. Travel in every checkpoint.

  Attributes:
    seen: clips, with repetition over epochs.
    failed: those that could not be read.
    non_finite: steps in a row, up to the last, whose loss or gradient was not finite.
  """

  seen: int = 0
  failed: int = 0
  non_finite: int = 0


class Monitor:
  """Reads the metrics of train steps, one step late.

  Attributes:
    counts: of all steps read so far, beginning with those of the checkpoint that the run goes on from.
  """

  def __init__(self, system: System, tracker: Tracker, config: TrainConfig, counts: Counts):
    self._system, self._tracker, self._config = system, tracker, config
    self._outstanding: tuple[int, np.ndarray, dict[str, PyTree]] | None = None
    self.counts = counts
    self.restart_clock()

  def restart_clock(self) -> None:
    """Forgets the time since the last log line, so that validation does not count as training."""
    self._since, self._clips = time.perf_counter(), 0

  def push(self, step: int, index: np.ndarray, metrics: dict[str, PyTree]) -> None:
    """Takes the metrics of the step just started, and reads those of the step before.

    Args:
      step: number of steps done when this one ends.
      index: int32 [B], the examples of its batch on this process.

    Raises:
      TrainingError: too many non-finite steps in a row, or too many unreadable clips.
    """
    self.flush((step, index, metrics))

  def flush(self, following: tuple[int, np.ndarray, dict[str, PyTree]] | None = None) -> None:
    """Reads the outstanding step. Raises as `push`."""
    outstanding, self._outstanding = self._outstanding, following
    if outstanding is not None:
      self._read(*outstanding)

  def _read(self, step: int, index: np.ndarray, metrics: dict[str, PyTree]) -> None:
    sums = metrics["sums"]  # may be large; fetched only where it is logged
    values = jax.device_get({name: value for name, value in metrics.items() if name != "sums"})
    rows, failed, finite = int(values.pop("rows")), int(values.pop("failed")), bool(values.pop("finite"))
    parts = {f"loss/{name}": value for name, value in values.pop("parts").items()}
    numbers = {name: float(value) for name, value in {**values, **parts}.items()}
    self._clips += rows
    self.counts = Counts(
      seen=self.counts.seen + rows,
      failed=self.counts.failed + failed,
      non_finite=0 if finite else self.counts.non_finite + 1,
    )
    if not finite:
      self._report_non_finite(step, index, numbers)
    if step % self._config.log_every == 0:
      speed = self._clips / (time.perf_counter() - self._since)
      scores = {} if failed == rows else self._system.summarize(merge(None, jax.device_get(sums)))
      self._tracker.log(step, "train", {**scores, **numbers, "clips_per_second": speed})
      self.restart_clock()
    self._tracker.advance(step)
    allowed = self._config.max_error_share
    if self.counts.seen >= CLIPS_BEFORE_JUDGEMENT and self.counts.failed > allowed * self.counts.seen:
      raise TrainingError(
        f"{self.counts.failed} of the {self.counts.seen} clips seen by step {step} could not be read, more than the "
        f"share of {allowed:g} allowed by train.max_error_share. data_errors.jsonl lists them with reasons: "
        "repair the files, take them out of the annotations, or raise the share."
      )

  def _report_non_finite(self, step: int, index: np.ndarray, numbers: dict[str, float]) -> None:
    examples = [int(i) for i in index]
    self._tracker.record(step, "non_finite", {**numbers, "index": examples})
    wrong = ", ".join(f"{name} = {numbers[name]}" for name in ("loss", "grad_norm") if not math.isfinite(numbers[name]))
    self._tracker.note(f"Step {step}: {wrong or 'the update is not finite'}; not applied. Examples {examples}.")
    if self.counts.non_finite >= self._config.max_non_finite:
      raise TrainingError(
        f"{self.counts.non_finite} steps in a row, up to step {step}, had a loss or gradient that is not finite; the "
        f"limit is train.max_non_finite = {self._config.max_non_finite}. None of these updates was applied. Lower "
        f"optim.lr, lengthen the warm-up, or look at examples {examples} (split non_finite in metrics.jsonl lists all)."
      )
