"""What the host learns of each training step: log lines, counts, and the two reasons to give up.

The numbers of a step are read while the next one runs, so that the device never waits for the host; `flush` reads what
is outstanding before anything is saved.

A train line holds the step's own numbers and, for each module group, "grad_norm/<group>" (before clipping),
"param_norm/<group>" and "update_ratio/<group>", the norm of the update by that of the parameters (about 1e-3 is usual);
"lr/<rule>" of the rules of optim.lr_rules that change the learning rate; "skipped" steps and "failed_clips" of the run
so far; "recompilations" of the step in this process, which should be 0; "memory/step_mb", what the compiler has planned
for a step on each device; and what `throughput.Meter` and the memory of host and devices tell.
"""

import dataclasses
import math
import re
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from gasmcast.core import memory, rules
from gasmcast.core.errors import TrainingError
from gasmcast.core.types import PyTree, System
from gasmcast.metrics.sums import merge
from gasmcast.training.config import TrainConfig
from gasmcast.training.finite import NonFinite
from gasmcast.training.groups import group_names
from gasmcast.training.optim import OptimConfig
from gasmcast.training.state import TrainState
from gasmcast.training.step import CompiledStep, DeviceBatch
from gasmcast.training.throughput import Meter, device_memory
from gasmcast.training.tracking import Tracker

CLIPS_BEFORE_JUDGEMENT = 100  # a share of fewer clips says little: 1 of the first 8 may be chance
_AT_LOGS = ("sums", "groups", "no_gradient")  # of the metrics of a step; fetched only where they are logged
_SELDOM = (*_AT_LOGS, "index")


@dataclasses.dataclass(frozen=True)
class Counts:
  """Sums over the steps of a run. Travel in every checkpoint.

  Attributes:
    seen: clips, with repetition over epochs.
    failed: those that could not be read.
    non_finite: steps in a row, up to the last, whose loss or gradient was not finite.
    no_gradient: the parameters whose gradient was exactly 0 at every logged step; None before the first.
  """

  seen: int = 0
  failed: int = 0
  non_finite: int = 0
  no_gradient: tuple[str, ...] | None = None


class Monitor:
  """Reads the metrics of train steps, one step late.

  Args:
    names: of the trainable parameters.

  Attributes:
    counts: of all steps read so far, beginning with those of the checkpoint that the run goes on from.
    last: the last step read; None before the first.
    meter: is told what the time is spent on.
  """

  def __init__(self, system: System, tracker: Tracker, config: TrainConfig, counts: Counts, names: Sequence[str] = ()):
    self._system, self._tracker, self._config = system, tracker, config
    self._outstanding: tuple[int, dict[str, PyTree]] | None = None
    self._names, self._groups = sorted(names), group_names(names)
    self._lr_factors = lr_factors(config.optim, self._names)
    self._memory = memory.Monitor()
    self._recompilations, self._step_memory = 0, None
    self.counts = counts
    self.last: int | None = None
    self.meter = Meter()

  def begin(self, train: CompiledStep, state: TrainState, batch: DeviceBatch | None) -> None:
    """To be called before the first step: counts what a step computes, and starts the clock."""
    if batch is not None:
      self.meter.step_tflops = train.tflops(state, batch)
    self.meter.read()

  def run(
    self, step: int, train: CompiledStep, state: TrainState, batch: DeviceBatch
  ) -> tuple[TrainState, dict[str, PyTree]]:
    """`train(state, batch)` as step number `step`. Compiling is timed apart; a second time is told and counted."""
    compiled, began = train.compilations, time.perf_counter()
    result = train(state, batch)
    if train.compilations > compiled:
      self.meter.spent("compilation", time.perf_counter() - began)
      self._step_memory = train.memory(result[0], batch)
      if compiled:
        self._recompilations += 1
        shapes = ", ".join(f"{name} {leaf.dtype}{list(leaf.shape)}" for name, leaf in sorted(batch.items()))
        self._tracker.note(f"Step {step}: the step was compiled again, which costs time. Its batch: {shapes}.")
    return result

  def push(self, step: int, metrics: dict[str, PyTree]) -> None:
    """Takes the metrics of the step just started, and reads those of the step before.

    Args:
      step: number of steps done when this one ends.
      metrics: what `train_step` returns.

    Raises:
      NonFinite: a step was not finite, or too many in a row were, as train.non_finite has it.
      TrainingError: too many unreadable clips.
    """
    self.flush((step, metrics))

  def flush(self, following: tuple[int, dict[str, PyTree]] | None = None) -> None:
    """Reads the outstanding step. Raises as `push`."""
    outstanding, self._outstanding = self._outstanding, following
    if outstanding is not None:
      self._read(*outstanding)

  def forget_row(self) -> None:
    """After going back to an earlier state: the row of non-finite steps is over, and what runs is not read."""
    self._outstanding = None
    self.counts = dataclasses.replace(self.counts, non_finite=0)

  def _read(self, step: int, metrics: dict[str, PyTree]) -> None:
    values = jax.device_get({name: value for name, value in metrics.items() if name not in _SELDOM})
    rows, failed, finite = int(values.pop("rows")), int(values.pop("failed")), bool(values.pop("finite"))
    parts = {f"loss/{name}": value for name, value in values.pop("parts").items()}
    numbers = {name: float(value) for name, value in {**values, **parts}.items()}
    self.meter.count(rows)
    self.last = step
    self.counts = dataclasses.replace(
      self.counts,
      seen=self.counts.seen + rows,
      failed=self.counts.failed + failed,
      non_finite=0 if finite else self.counts.non_finite + 1,
    )
    if not finite:
      self._report_non_finite(step, np.asarray(metrics["index"]), numbers)
    if step % self._config.log_every == 0:
      at_logs = jax.device_get({name: metrics[name] for name in _AT_LOGS if name in metrics})
      scores = {} if failed == rows else self._system.summarize(merge(None, at_logs["sums"]))
      if finite and failed < rows:
        self._look_for_gradients(step, at_logs.get("no_gradient"))
      self._tracker.log(step, "train", {**scores, **numbers, **self._beside(numbers, at_logs.get("groups", {}))})
    self._tracker.advance(step)
    allowed = self._config.max_error_share
    if self.counts.seen >= CLIPS_BEFORE_JUDGEMENT and self.counts.failed > allowed * self.counts.seen:
      raise TrainingError(
        f"{self.counts.failed} of the {self.counts.seen} clips seen by step {step} could not be read, more than the "
        f"share of {allowed:g} allowed by config.train.max_error_share. data_errors.jsonl lists them with reasons: "
        "repair the files, take them out of the annotations (which is another run, in another workdir), or raise "
        "the share."
      )

  def _beside(self, numbers: Mapping[str, float], groups: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What stands in a log line beside the step's own numbers."""
    by_group = {
      f"{kind}/{group}": float(norm)
      for kind, norms in groups.items()
      if kind != "update_norm"
      for group, norm in zip(self._groups, norms, strict=True)
    }
    if groups:
      ratios = zip(self._groups, groups["update_norm"], groups["param_norm"], strict=True)
      by_group |= {f"update_ratio/{group}": float(update / norm) for group, update, norm in ratios if norm > 0}
    return {
      **by_group,
      **{f"lr/{rule}": factor * numbers["lr"] for rule, factor in self._lr_factors.items()},
      "failed_clips": self.counts.failed,
      "recompilations": self._recompilations,
      **self.meter.read(),
      **({} if self._step_memory is None else {"memory/step_mb": self._step_memory / 1e6}),
      **self._memory.read(),
      **device_memory(),
    }

  def _look_for_gradients(self, step: int, without: np.ndarray | None) -> None:
    """Records the parameters that had no gradient at any logged step so far, when they are others than before."""
    if without is None:
      return
    before = self.counts.no_gradient
    names = {name for name, missing in zip(self._names, without, strict=True) if missing}
    now = tuple(sorted(names if before is None else names & set(before)))
    if now != (before or ()):
      self._tracker.record(step, "no_gradient", {"parameters": list(now), "of": len(self._names)})
    self.counts = dataclasses.replace(self.counts, no_gradient=now)

  def _report_non_finite(self, step: int, index: np.ndarray, numbers: dict[str, float]) -> None:
    examples = [int(i) for i in index]
    self._tracker.record(step, "non_finite", {**numbers, "index": examples})
    wrong = ", ".join(f"{name} = {numbers[name]}" for name in ("loss", "grad_norm") if not math.isfinite(numbers[name]))
    self._tracker.note(f"Step {step}: {wrong or 'the update is not finite'}; not applied. Examples {examples}.")
    if self._config.non_finite == "stop":
      raise NonFinite(
        f"Step {step}: {wrong or 'the update is not finite'}, and config.train.non_finite = 'stop'. The update was not "
        f"applied. Look at examples {examples}; with 'skip' or 'rollback' the same command goes on."
      )
    if self.counts.non_finite >= self._config.max_non_finite:
      raise NonFinite(
        f"{self.counts.non_finite} steps in a row, up to step {step}, had a loss or gradient that is not finite; the "
        f"limit is config.train.max_non_finite = {self._config.max_non_finite}. None of these updates was applied. "
        f"Lower config.optim.lr, lengthen the warm-up, or look at examples {examples} (split non_finite in "
        "metrics.jsonl lists all)."
      )


def lr_factors(config: OptimConfig, names: Sequence[str]) -> dict[str, float]:
  """Rule of `optim.lr_rules` -> its factor, of the rules that change the learning rate of one of these parameters.

  The rules are named by their patterns without what only a regular expression says: "^semantic/" is "semantic".
  """
  used = rules.match(list(names), [(pattern, pattern) for pattern, _ in config.lr_rules], "optim.lr_rules")
  factors = dict(reversed(config.lr_rules))  # of a pattern given twice the first counts
  changing = {pattern: factors[pattern] for pattern in used.values() if factors[pattern] != 1}
  named = {pattern: re.sub(r"[^\w./-]+", "", pattern).strip("./") or "rest" for pattern in changing}
  several = [pattern for pattern in named if list(named.values()).count(named[pattern]) > 1]
  numbered = {pattern: f"{named[pattern]}_{place}" for place, pattern in enumerate(several, start=1)}
  return {(named | numbered)[pattern]: factor for pattern, factor in changing.items()}
