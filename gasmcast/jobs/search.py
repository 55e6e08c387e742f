"""Job search: trainings with other values of some fields, of which it finds those that validate best (extra [search]).

The same command again goes on with a search, and the same command at the same time, on any machine that sees the
folder, is another worker. Writes search.md, search.csv, best.json and figures/; the trials are in trials/.
"""

import functools
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from gasmcast.core.config import difference, require, to_dict
from gasmcast.core.errors import Stopped, TrainingError, WorkdirError
from gasmcast.core.manifest import atomic_file, read_json, write_json
from gasmcast.datasets.dataset import require_labels
from gasmcast.jobs import records, train, training_workers
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.search_command import trial_command
from gasmcast.jobs.search_journal import import_optuna
from gasmcast.jobs.search_plan import Plan
from gasmcast.jobs.search_study import TRIALS, Study
from gasmcast.jobs.search_worker import work
from gasmcast.reports import search as report
from gasmcast.reports.console import print_table
from gasmcast.reports.theme import LIGHT, raster
from gasmcast.reports.wording import duration

_SHOWN = 20  # trials on the console
_LEFT_OUT = ("at step", "duration")  # of the table there
_DPI = 130


def check(experiment: Experiment) -> None:
  """Refuses ranges, points and fields that can't be, and a machine that can't share its GPUs."""
  import_optuna()
  config = Plan(experiment).config
  train.check(experiment)
  require(
    jax.process_count() == 1,
    f"--job search in {jax.process_count()} processes of one training: a trial has one process. Start the same command "
    "on each machine without jax.distributed; they share the trials of the workdir.",
  )
  training_workers.require_gpus("config.search", config.workers, config.gpus)


def run(experiment: Experiment) -> None:
  """Trials, then the records of them.

  Raises:
    Stopped: told to stop; the same command goes on.
    WorkdirError: the folder holds another search, or can't be written.
    UserError: as a trial raised it that no other would do better than, or too many failed in a trial.
  """
  plan, train_set, validation = Plan(experiment), experiment.dataset("train"), experiment.dataset("validation")
  require_labels(train_set)
  require_labels(validation)
  method = plan.method(experiment.train_config(train_set))
  study = Study(experiment.workdir, plan.ranges, method)
  identity = plan.identity() | experiment.identity(train_set, validation)
  identity |= {"train": experiment.train_config(train_set).identity(), "weights": _weights(experiment)}
  with study.preparing():
    _check_same(experiment.workdir, identity)
    study.enqueue(plan.points, plan.config.baseline)
    records.write(experiment)
  trials = study.trials()
  before = frozenset(trial.number for trial in trials if trial.ended is not None)
  _say_begin(experiment.console, plan, trials)
  with training_workers.saying_when_stopped(experiment.console):
    try:
      _work(experiment, plan, study, before)
    except (Stopped, TrainingError):
      _write(experiment, plan, study)
      raise
  _write(experiment, plan, study)


def _check_same(workdir: pathlib.Path, identity: Mapping[str, Any]) -> None:
  """Writes search.json, or compares it."""
  file = workdir / "search.json"
  identity = to_dict(identity)
  if not file.exists():
    with records.writing(workdir):
      write_json(file, identity)
    return
  if lines := difference(read_json(file), identity, "search"):
    raise WorkdirError(
      f"{workdir} holds another search; {len(lines)} field(s) differ, there -> here: {'; '.join(lines)}. Restore these "
      "values to go on with it, or use another --workdir."
    )


def _weights(experiment: Experiment) -> dict[str, Any]:
  """Where the weights of the streams come from."""
  return {name: stream.weights for name, stream in experiment.model.streams().items()}


def _work(experiment: Experiment, plan: Plan, study: Study, before: frozenset[int]) -> None:
  """Has all workers of this machine work until every trial has ended."""
  config = plan.config
  arguments = (experiment.raw, str(experiment.workdir), experiment.command, before)
  watch = _Watch(experiment.console, plan, study, before)
  training_workers.run(work, arguments, config.workers, config.gpus, experiment.console, watch)
  if unfinished := sum(trial.ended is None for trial in study.trials()):
    raise Stopped(f"Told to stop: {unfinished} trials have not ended; the same command goes on.")


class _Watch:
  """Says of every trial that has ended, wherever it was worked on, how it did."""

  def __init__(self, console: Console, plan: Plan, study: Study, said: frozenset[int]):
    self._console, self._plan, self._study, self._said = console, plan, study, set(said)
    self._lock = threading.Lock()

  def __call__(self) -> None:
    with self._lock:
      trials = self._study.trials()
      for trial in trials:
        if trial.ended is not None and trial.number not in self._said:
          self._said.add(trial.number)
          self._console.print(_line(trial, trials, self._plan), highlight=False, markup=False, soft_wrap=True)


def _line(trial: report.Trial, trials: Sequence[report.Trial], plan: Plan) -> str:
  found = report.best(trials, plan.mode)
  value = "" if trial.value is None else f", {plan.metric} {trial.value:.4f} at step {trial.best_step}"
  values = ", ".join(f"{name} = {report.written(value)}" for name, value in trial.values.items())
  how = {"pruned": f"ended early at step {trial.steps}", "failed": f"failed at step {trial.steps}: {trial.reason}"}
  line = f"Trial {trial.number} {how.get(trial.state, trial.state)}{value} ({values}; {duration(trial.seconds)})."
  return line if found is None else f"{line} Best: {found.value:.4f}, trial {found.number}."


def _say_begin(console: Console, plan: Plan, trials: Sequence[report.Trial]) -> None:
  config, ended = plan.config, sum(trial.ended is not None for trial in trials)
  best = "most" if plan.mode == "max" else "least"
  lines = [
    f"Search for the {best} {plan.metric}: {config.trials} trials, {ended} have ended, {config.workers} workers here."
  ]
  lines += [f"  {name}: {one}" for name, one in plan.ranges.items()]
  console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _write(experiment: Experiment, plan: Plan, study: Study) -> None:
  """Table, figures, best.json and the commands, in the workdir and on the console."""
  workdir, trials, importances = experiment.workdir, study.trials(), study.importances()
  found = report.best(trials, plan.mode)
  commands = {} if found is None else _commands(experiment, found)
  with records.writing(workdir):
    figures = _write_figures(workdir / "figures", trials, plan, importances)
    page = report.markdown(trials, plan.metric, plan.mode, importances, commands, figures)
    for name, text in (("search.md", page), ("search.csv", report.to_csv(trials, plan.metric))):
      with atomic_file(workdir / name) as file:
        file.write(text.encode("utf-8"))
    if found is not None:
      write_json(workdir / "best.json", _best(found, trials, plan, commands))
  _say_end(experiment.console, workdir, trials, plan, importances, commands)


def _commands(experiment: Experiment, found: report.Trial) -> dict[str, str]:
  """What can be done with the best trial -> how."""
  trial = experiment.workdir / TRIALS / str(found.number)
  make = functools.partial(trial_command, experiment.command, values=found.values)
  return {
    "Train the best again": make(experiment.workdir / "best", "train,evaluate,report"),
    "Evaluate its trial as it is": make(trial, "evaluate,report"),
  }


def _best(
  found: report.Trial, trials: Sequence[report.Trial], plan: Plan, commands: Mapping[str, str]
) -> dict[str, Any]:
  own = next((trial for trial in trials if trial.origin == "config" and trial.state == "complete"), None)
  return {
    "trial": found.number,
    "metric": plan.metric,
    "mode": plan.mode,
    "value": found.value,
    "step": found.best_step,
    "steps": found.steps,
    "parameters": to_dict(dict(found.values)),
    "config": None if own is None else {"trial": own.number, "value": own.value},
    "workdir": f"{TRIALS}/{found.number}",
    "commands": dict(commands),
    "versions": records.versions() | records.installed("optuna"),
  }


def _write_figures(
  folder: pathlib.Path, trials: Sequence[report.Trial], plan: Plan, importances: Mapping[str, float]
) -> dict[str, str]:
  """Title -> file, relative to the workdir. There is nothing to draw before the first validation."""
  valued = [trial for trial in trials if trial.value is not None]
  if not valued:
    return {}
  logarithmic = [name for name, one in plan.ranges.items() if one.log]
  figures = {
    "History": ("history", report.history(trials, plan.metric, plan.mode)),
    "Parameters": ("parameters", report.slices(valued, plan.metric, logarithmic)),
    "Validations": ("validations", report.learning_curves(trials, plan.metric, plan.mode)),
  }
  if importances:
    figures["Importance"] = ("importance", report.importance(importances))
  for name, figure in figures.values():
    with atomic_file(folder / f"{name}.png") as file:
      file.write(raster(figure, LIGHT, "png", _DPI))
  return {title: f"{folder.name}/{name}.png" for title, (name, _) in figures.items()}


def _say_end(
  console: Console,
  workdir: pathlib.Path,
  trials: Sequence[report.Trial],
  plan: Plan,
  importances: Mapping[str, float],
  commands: Mapping[str, str],
) -> None:
  head, lines = report.table(trials, plan.metric, plan.mode)
  shown = [place for place, name in enumerate(head) if name not in _LEFT_OUT]
  title = f"The first {_SHOWN} of {len(lines)} trials" if len(lines) > _SHOWN else None
  table = Table(*(head[place] for place in shown), title=title)
  for line in lines[:_SHOWN]:
    table.add_row(*(line[place] for place in shown))
  print_table(console, table)
  for line in (*report.sentences(trials, plan.metric, plan.mode, importances), *report.failures(trials)):
    console.print(line, highlight=False, markup=False, soft_wrap=True)
  for what, command in commands.items():
    console.print(f"{what}:\n  {command}", highlight=False, markup=False, soft_wrap=True)
  console.print(f"Table: {workdir / 'search.md'}", highlight=False, markup=False, soft_wrap=True)
