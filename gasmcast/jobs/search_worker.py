"""A worker of a search: takes trials until all have ended, and trains each as job train would.

Every trial has a working directory of its own, trials/<number>, with checkpoints, metrics.jsonl, config.json and
command.txt, and log.txt of what job train would print. So it can be resumed, evaluated and reported like any other run.
"""

import gc
import math
import pathlib
import traceback
from collections.abc import Mapping
from typing import Any

import jax
from rich.console import Console

from gasmcast.core.errors import DataError, Stopped, TrainingError, UserError, WorkdirError
from gasmcast.core.manifest import atomic_file
from gasmcast.core.types import Dataset
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.search_command import trial_command
from gasmcast.jobs.search_plan import Plan
from gasmcast.jobs.search_space import with_values
from gasmcast.jobs.search_study import Claim, Study
from gasmcast.jobs.train import train
from gasmcast.reports.search import Trial
from gasmcast.reports.wording import cut

_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "Out of memory")


class _Pruned(Exception):
  """The trial is to end after the validation of this step."""

  def __init__(self, step: int):
    super().__init__(step)
    self.step = step


def work(raw: Mapping[str, Any], workdir: str, command: str, before: frozenset[int]) -> None:
  """Works on trials until all have ended, by whoever.

  Args:
    raw, workdir, command: of the experiment that is searched.
    before: trials that had ended when the command was started; their failures are not counted again.

  Raises:
    Stopped: told to stop; the trial is saved.
    TrainingError: too many trials failed in a row.
    WorkdirError, DataError: what no other trial would do better.
  """
  experiment = Experiment(raw, workdir, command, Console(quiet=True))
  plan, train_set = Plan(experiment), experiment.dataset("train")
  study = Study(workdir, plan.ranges, plan.method(experiment.train_config(train_set)))
  for claim in study.claims(plan.config.trials):
    with claim:
      _try(experiment, plan, study, claim, train_set)
    _check_failures(study.trials(), plan.config.max_failures, before)


def _try(experiment: Experiment, plan: Plan, study: Study, claim: Claim, train_set: Dataset) -> None:
  """Trains one trial, or goes on with it, to whatever end."""
  folder = study.folder / str(claim.trial.number)
  reached = _saved_step(folder)
  if reason := claim.begin(reached):
    claim.fail(reason, reached)
    return
  folder.mkdir(parents=True, exist_ok=True)
  try:
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
      part = _experiment(experiment, claim.trial, folder, Console(file=log, width=160))
      last = part.train_config(train_set).steps

      def validated(step: int, numbers: Mapping[str, float]) -> None:
        if claim.report(step, numbers[plan.metric]) and step < last:
          raise _Pruned(step)

      result = train(part, validated)
    if result.status == "terminated":
      raise Stopped(result.message)
    if result.best_value is None or not math.isfinite(result.best_value):
      raise TrainingError(f"no validation had a finite {plan.metric}.")
    claim.complete(result.best_value, result.best_step, result.steps)
  except _Pruned as pruned:
    claim.prune(pruned.step)
  except Exception as error:
    if isinstance(error, Stopped | WorkdirError | DataError):
      claim.leave()
      raise
    if not isinstance(error, UserError):
      with atomic_file(folder / "error.txt") as file:
        file.write("".join(traceback.format_exception(error)).encode("utf-8"))
    claim.fail(_reason(error), _saved_step(folder))
  except BaseException:
    claim.leave()
    raise
  gc.collect()  # the next trial needs the memory
  jax.clear_caches()


def _experiment(experiment: Experiment, trial: Trial, folder: pathlib.Path, console: Console) -> Experiment:
  """The experiment with the values of a trial."""
  command = trial_command(experiment.command, folder, "train", trial.values)
  part = Experiment(with_values(experiment.raw, trial.values), folder, command, console)
  part.check_batch()
  return part


def _check_failures(trials: list[Trial], limit: int, before: frozenset[int]) -> None:
  """Ends the search where the last trials to end have all failed."""
  ended = sorted((trial for trial in trials if trial.ended is not None), key=lambda trial: trial.ended)
  last = [trial for trial in ended if trial.number not in before][-limit:]
  if len(last) == limit and all(trial.state == "failed" for trial in last):
    raise TrainingError(
      f"The last {limit} trials failed (config.search.max_failures = {limit}), trial {last[-1].number} because: "
      f"{last[-1].reason} Mend what is wrong or narrow config.search.space; failed trials count among "
      "config.search.trials."
    )


def _reason(error: Exception) -> str:
  """One line; of errors that no user could mend, what and where stands in error.txt."""
  text = cut(" ".join(str(error).split()))
  if isinstance(error, UserError):
    return text
  if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
    return f"out of memory: {text}"
  return f"{type(error).__name__}: {text}"


def _saved_step(folder: pathlib.Path) -> int:
  """The newest finished checkpoint, 0 if there is none."""
  return max((int(file.parent.name) for file in folder.glob("checkpoints/[0-9]*/checksums.json")), default=0)
