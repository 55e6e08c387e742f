"""The trials of a search and who works on which, in one folder that any number of workers share (extra [search]).

What is known of the trials stands in a journal of Optuna, a file to which every worker appends under a lock. Who works
on a trial is said by a lease beside it (`core.leases`), which Optuna's journal does not have: it would take the trial
of a worker that was killed for running for ever. A worker that wants a trial takes the lease of its number first and
makes or resumes the trial then, so that no number is made twice and there are never more than were asked for.

The sampler of a trial is seeded by the number of the trial. So a search by one worker gives the same trials however
often it is interrupted, and of several workers no two draw the same numbers.

Sources: Akiba et al. 2019 (Optuna); Bergstra et al. 2011 (tree-structured Parzen estimator); Li et al. 2018
(Hyperband).
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

from gasmcast.core import disk, leases
from gasmcast.core.errors import WorkdirError
from gasmcast.core.rng import generator
from gasmcast.jobs.search_journal import (
  distribution,
  import_optuna,
  open_journal,
  stored_value,
  suggest,
  value_of_stored,
)
from gasmcast.jobs.search_space import Range
from gasmcast.reports.search import Trial

JOURNAL = "journal.log"
TRIALS = "trials"
LEASE_SECONDS = 60.0  # without a sign of life, after which the worker of another machine is given up
_PREPARING = ".search.claim"
_WAIT = (0.05, 2.0)  # seconds between two looks for work, growing from the first to the second
_DEATHS = 3  # of the workers of a trial that got no further, after which the trial has failed


@dataclasses.dataclass(frozen=True)
class Method:
  """How the next trial is chosen, and which are ended early.

  Attributes:
    mode: whether more or less is better.
    seed: of the sampler.
    startup: trials drawn at random before the sampler learns from them.
    pruner, pruner_startup: "median" ends a trial that is worse than the median of the others at the same step, once so
      many have ended; "hyperband" ends all but the best third at certain steps; "none" ends none.
    first, last: the step of the first validation that may end a trial, and the last step.
  """

  mode: Literal["max", "min"]
  seed: int
  startup: int
  pruner: Literal["median", "hyperband", "none"]
  pruner_startup: int
  first: int
  last: int


class Study:
  """The journal of a working directory.

  Args:
    ranges: dotted name -> range.
    method: see there.

  Raises:
    ConfigError: Optuna is not installed.
    WorkdirError: the folder can't be written, or the journal can't be read.
  """

  def __init__(self, workdir: str | os.PathLike, ranges: Mapping[str, Range], method: Method):
    self.folder = pathlib.Path(workdir) / TRIALS
    self._optuna, self._method, self._ranges = import_optuna(), method, ranges
    self._distributions = {name: distribution(one) for name, one in ranges.items()}
    self._journal = pathlib.Path(workdir) / JOURNAL
    with self._guarded():
      self.folder.mkdir(parents=True, exist_ok=True)
      self._study = self._optuna.create_study(
        storage=open_journal(self._journal),
        study_name="search",
        direction={"max": "maximize", "min": "minimize"}[method.mode],
        load_if_exists=True,
        pruner=_pruner(self._optuna, method),
      )

  @contextlib.contextmanager
  def preparing(self) -> Iterator[None]:
    """While the context is open no other worker prepares the same search."""
    with self._guarded():
      while (lease := leases.take_over(self.folder / _PREPARING, LEASE_SECONDS)) is None:
        time.sleep(_WAIT[0])
    with _held(lease):
      yield

  def enqueue(self, points: Sequence[Mapping[str, Any]], baseline: bool) -> None:
    """Adds points that are to be tried before any other, unless they are there; inside of `preparing`.

    Args:
      baseline: whether the first one is the configuration's own.
    """
    with self._guarded():
      for number, point in enumerate(points):
        origin = "config" if baseline and number == 0 else "known"
        stored = {name: stored_value(value, self._ranges[name]) for name, value in point.items()}
        self._study.enqueue_trial(stored, {"origin": origin}, skip_if_exists=True)

  def trials(self) -> list[Trial]:
    """All trials by number."""
    with self._guarded():
      return [self._told(trial) for trial in self._all()]

  def importances(self) -> dict[str, float]:
    """Dotted name -> share of the differences between good and middling trials that the field explains (Watanabe et al.
    2023, PED-ANOVA), greatest first; empty where the trials are too few or too alike to tell."""
    complete = [trial for trial in self._all() if trial.state.name == "COMPLETE"]
    if len(complete) < 4 or len({trial.value for trial in complete}) < 2 or len(self._ranges) < 2:
      return {}
    shares = self._optuna.importance.get_param_importances(self._study)
    return {} if not all(share == share for share in shares.values()) else dict(shares)

  def claims(self, total: int) -> Iterator["Claim"]:
    """Trials to work on, one at a time, each to be used as a context manager: first those whose worker has died, then
    the waiting and new ones up to `total`. Ends when all have ended, by whoever; until then it stands by.

    Raises:
      WorkdirError: the folder can't be written.
    """
    pause = _WAIT[0]
    while True:
      with self._guarded():
        claim, over = self._next(total)
      if claim is not None:
        pause = _WAIT[0]
        yield claim
      elif over:
        return
      else:
        time.sleep(pause)
        pause = min(2 * pause, _WAIT[1])

  def _next(self, total: int) -> tuple["Claim | None", bool]:
    """(a trial, or None if there is none just now, whether all have ended)."""
    trials = self._all()
    running = [trial for trial in trials if trial.state.name == "RUNNING"]
    for trial in running:
      if (lease := leases.take_over(self._claim_file(trial.number), LEASE_SECONDS)) is not None:
        if self._all()[trial.number].state.name == "RUNNING":
          return self._resume(trial, lease), False
        lease.release()  # it ended between the look and the lease
    number = next((trial.number for trial in trials if trial.state.name == "WAITING"), len(trials))
    if number >= max(total, len(trials)):
      return None, not running
    lease = leases.take_over(self._claim_file(number), LEASE_SECONDS)
    if lease is None:  # of a worker that makes it just now
      return None, False
    now = self._all()
    if len(now) != len(trials) or (number < len(now) and now[number].state.name != "WAITING"):
      lease.release()  # made between the look and the lease
      return None, False
    self._study.sampler = self._sampler(number)
    trial = self._study.ask(self._distributions)
    if trial.number != number:
      raise RuntimeError(f"trial {trial.number} was made in place of {number}")
    return Claim(self, trial, self._told(self._all()[number]), lease), False

  def _resume(self, frozen: Any, lease: leases.Lease) -> "Claim":
    """The trial of a worker that has died; what was still to be drawn for it is drawn as it would have been."""
    self._study.sampler = self._sampler(frozen.number)
    trial = self._optuna.trial.Trial(self._study, frozen._trial_id)  # Optuna has no public name for a running trial
    for one in self._ranges.values():
      suggest(trial, one)
    return Claim(self, trial, self._told(self._all()[frozen.number]), lease)

  def _all(self) -> list[Any]:
    return self._study.get_trials(deepcopy=False)

  def _claim_file(self, number: int) -> pathlib.Path:
    return self.folder / f".{number}.claim"

  def _told(self, trial: Any) -> Trial:
    outcome = trial.user_attrs.get("outcome", trial.user_attrs.get("work", {}))
    curve = dict(sorted(trial.intermediate_values.items()))
    finite = [(step, value) for step, value in curve.items() if abs(value) < float("inf")]
    sign = 1 if self._method.mode == "max" else -1
    best_step, value = max(finite, key=lambda pair: sign * pair[1], default=(None, None))
    if trial.state.name == "COMPLETE":
      value, best_step = trial.value, outcome.get("best_step", best_step)
    return Trial(
      number=trial.number,
      state={"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower()),
      origin=trial.user_attrs.get("origin", "sampler"),
      values={
        name: value_of_stored(trial.params[name], one) for name, one in self._ranges.items() if name in trial.params
      },
      value=value,
      best_step=best_step,
      steps=max([outcome.get("steps", 0), *curve]),
      curve=curve,
      seconds=outcome.get("seconds", 0.0),
      reason=outcome.get("reason", ""),
      ended=None if trial.datetime_complete is None else trial.datetime_complete.timestamp(),
    )

  def _sampler(self, number: int) -> Any:
    seed = int(generator(self._method.seed, "search", number).integers(2**32))
    return self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=self._method.startup, constant_liar=True)

  @contextlib.contextmanager
  def _guarded(self) -> Iterator[None]:
    """Around reading and writing the journal and the leases."""
    with disk.explained(self._journal.parent):
      try:
        yield
      except ValueError as error:
        if not isinstance(error, json.JSONDecodeError) and "Invalid log format" not in str(error):
          raise
        raise WorkdirError(
          f"{self._journal} is damaged ({error}); move it away to begin anew: trainings in {self.folder} are resumed "
          "when a trial with the same values has the same number."
        ) from error


class Claim:
  """A trial that this worker works on. A context manager; one that is left without an end is resumed by the next.

  Attributes:
    trial: as it was when it was claimed.
  """

  def __init__(self, study: Study, optuna_trial: Any, trial: Trial, lease: leases.Lease):
    self.trial = trial
    self._study, self._optuna_trial, self._lease = study, optuna_trial, lease
    self._began = time.monotonic()

  def begin(self, step: int) -> str:
    """Says that work begins at the step that was saved last. Returns why it must not, or ""; see `leave`."""
    starts = [*self._starts(), step]
    if starts[-_DEATHS - 1 :] == [step] * (_DEATHS + 1):
      return f"its worker was killed {_DEATHS} times at step {step}; most often that means that memory was short."
    self._set("work", {"starts": starts, "seconds": self.trial.seconds})
    return ""

  def leave(self) -> None:
    """Says that the work was interrupted in order, which is not held against the trial."""
    self._set("work", {"starts": self._starts()[:-1], "seconds": self._worked()})

  def report(self, step: int, value: float) -> bool:
    """Notes a validation; whether the trial should end here."""
    with self._study._guarded():
      if step not in self._optuna_trial.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values:
        self._optuna_trial.report(value, step)
      return step >= self._study._method.first and self._optuna_trial.should_prune()

  def complete(self, value: float, best_step: int, steps: int) -> None:
    """Ends it with its best validation."""
    self._end("COMPLETE", {"steps": steps, "best_step": best_step}, value)

  def prune(self, steps: int) -> None:
    """Ends it early."""
    self._end("PRUNED", {"steps": steps})

  def fail(self, reason: str, steps: int) -> None:
    """Ends it without a value."""
    self._end("FAIL", {"steps": steps, "reason": reason})

  def _end(self, state: str, outcome: dict[str, Any], value: float | None = None) -> None:
    self._set("outcome", outcome | {"seconds": self._worked()})
    with self._study._guarded():
      state = self._study._optuna.trial.TrialState[state]
      self._study._study.tell(self.trial.number, value, state, skip_if_finished=True)

  def _starts(self) -> list[int]:
    return self._optuna_trial.user_attrs.get("work", {}).get("starts", [])

  def _worked(self) -> float:
    return self.trial.seconds + time.monotonic() - self._began

  def _set(self, name: str, value: Any) -> None:
    with self._study._guarded():
      self._optuna_trial.set_user_attr(name, value)

  def __enter__(self) -> "Claim":
    self._lease.__enter__()
    return self

  def __exit__(self, *error: Any) -> None:
    self._lease.__exit__(*error)
    self._lease.release()


@contextlib.contextmanager
def _held(lease: leases.Lease) -> Iterator[None]:
  try:
    with lease:
      yield
  finally:
    lease.release()


def _pruner(optuna: ModuleType, method: Method) -> Any:
  if method.pruner == "median":
    return optuna.pruners.MedianPruner(n_startup_trials=method.pruner_startup, n_warmup_steps=method.first)
  if method.pruner == "hyperband":
    return optuna.pruners.HyperbandPruner(min(method.first, method.last), method.last)
  return optuna.pruners.NopPruner()
