"""What a search found, for people: a table, sentences, and four figures."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gasmcast.reports.figures import WIDTH
from gasmcast.reports.theme import LIGHT, label, style
from gasmcast.reports.wording import cut, duration

STATES = {"complete": (LIGHT.blue, "o"), "pruned": (LIGHT.green, "s"), "failed": (LIGHT.vermilion, "x")}
_COLUMNS = 3  # of panels beside each other
_DECADES = 1000  # so many times the least value is the greatest where whole powers of ten are enough on an axis
_VALUES = 24  # characters of a value beside an axis


class Trial(NamedTuple):
  """One training of a search.

  Attributes:
    number: counts from 0.
    state: "complete", "pruned" (ended early), "failed", or "running", "waiting" where the search has not ended.
    origin: "config" (its own values), "known" or "sampler".
    values: dotted name -> value; may lack some while the trial is being made.
    value, best_step: the best validation so far, and its step; None before any.
    steps: reached.
    curve: step -> validation.
    seconds: worked on it, without what was lost when a worker was killed.
    reason: why it failed, else "".
    ended: when, in seconds since 1970.
  """

  number: int
  state: str
  origin: str
  values: Mapping[str, Any]
  value: float | None
  best_step: int | None
  steps: int
  curve: Mapping[int, float]
  seconds: float
  reason: str = ""
  ended: float | None = None


def ranked(trials: Sequence[Trial], mode: str) -> list[Trial]:
  """Complete trials from the best on, then those ended early, then those that failed."""
  sign = -1 if mode == "max" else 1
  order = {"complete": 0, "pruned": 1}
  last = lambda trial: (
    order.get(trial.state, 2),
    sign * (trial.value or 0.0) if trial.value is not None else 0.0,
    trial.number,
  )
  return sorted(trials, key=last)


def best(trials: Sequence[Trial], mode: str) -> Trial | None:
  """The complete trial with the best value, the first of equal ones; None before any."""
  complete = [trial for trial in ranked(trials, mode) if trial.state == "complete"]
  return complete[0] if complete else None


def columns(trials: Sequence[Trial], metric: str) -> tuple[str, ...]:
  """Heads of the table; a parameter goes by the last part of its name where that tells it from the others."""
  return ("trial", metric, "state", "at step", "steps", "duration", *_short(_names(trials)))


def cells(trial: Trial, names: Sequence[str]) -> tuple[str, ...]:
  """The row of a trial; `names` are those of the parameters."""
  origin = {"config": " (config)", "known": " (known)"}.get(trial.origin, "")
  values = (written(trial.values[name]) if name in trial.values else "" for name in names)
  number = "" if trial.value is None else f"{trial.value:.4f}"
  step = "" if trial.best_step is None else str(trial.best_step)
  return (f"{trial.number}{origin}", number, trial.state, step, str(trial.steps), duration(trial.seconds), *values)


def table(trials: Sequence[Trial], metric: str, mode: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
  """(columns, rows), best first."""
  names = _names(trials)
  return columns(trials, metric), [cells(trial, names) for trial in ranked(trials, mode)]


def written(value: Any) -> str:
  """A value with the digits that matter to a reader."""
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def to_csv(trials: Sequence[Trial], metric: str) -> str:
  """Every trial by number, numbers with all their digits."""
  names, file = _names(trials), io.StringIO()
  writer = csv.writer(file, lineterminator="\n")
  writer.writerow(("trial", metric, "state", "origin", "best_step", "steps", "seconds", *names, "reason"))
  for trial in trials:
    values = [trial.values.get(name) for name in names]
    numbers = (trial.best_step, trial.steps, round(trial.seconds, 1))
    cells = (trial.number, trial.value, trial.state, trial.origin, *numbers, *values, trial.reason)
    writer.writerow("" if cell is None else cell for cell in cells)
  return file.getvalue()


def sentences(trials: Sequence[Trial], metric: str, mode: str, importances: Mapping[str, float]) -> list[str]:
  """What the search says, and what it does not."""
  counts = {state: sum(trial.state == state for trial in trials) for state in (*STATES, "running", "waiting")}
  told = {
    "complete": "complete",
    "pruned": "ended early",
    "failed": "failed",
    "running": "unfinished",
    "waiting": "not begun",
  }
  lines = [f"{len(trials)} trials: {', '.join(f'{count} {told[state]}' for state, count in counts.items() if count)}."]
  found, own = best(trials, mode), next((trial for trial in trials if trial.origin == "config"), None)
  if found is None:
    return [*lines, "No trial is complete, so there is no best one."]
  lines.append(f"Best {metric}: {found.value:.4f} in trial {found.number}, at step {found.best_step} of {found.steps}.")
  if found is own:
    lines.append("That is the configuration as it was: no other trial validated better.")
  elif own is not None and own.state == "complete":
    lines.append(f"The configuration as it was (trial {own.number}): {own.value:.4f}.")
  if importances:
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in importances.items())
    lines.append(f"Importance (PED-ANOVA, over complete trials): {shares}.")
  lines.append(
    "Each trial is one training with one seed, judged on the data by which the best was chosen: train the best again "
    "with other seeds, and evaluate on the test split, before believing a small difference."
  )
  return lines


def failures(trials: Sequence[Trial]) -> list[str]:
  """A line for each failed trial."""
  return [f"Trial {trial.number} failed: {trial.reason}" for trial in trials if trial.state == "failed"]


@style(LIGHT)
def history(trials: Sequence[Trial], metric: str, mode: str) -> Figure:
  """Each trial's best validation, and the best so far; failed trials as crosses at the bottom."""
  figure = Figure(figsize=(WIDTH, 3.6))
  axes = figure.subplots()
  _points(axes, [(trial.number, trial) for trial in trials])
  complete = [trial for trial in trials if trial.state == "complete"]
  if complete:
    pick = np.maximum if mode == "max" else np.minimum
    so_far = pick.accumulate([trial.value for trial in complete])
    numbers = [*(trial.number for trial in complete), trials[-1].number]
    axes.step(numbers, [*so_far, so_far[-1]], where="post", color=LIGHT.ink, linewidth=1.2, label="best so far")
  for trial in trials:
    if trial.state == "failed":
      axes.plot(trial.number, 0.02, "x", color=LIGHT.vermilion, transform=axes.get_xaxis_transform(), label="failed")
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set(xlabel="trial", ylabel=metric, title="Best validation of each trial")
  _legend(axes)
  return figure


@style(LIGHT)
def learning_curves(trials: Sequence[Trial], metric: str, mode: str) -> Figure:
  """Validations over steps; the best trial in full colour, the configuration's own dashed, trials ended early thin."""
  figure = Figure(figsize=(WIDTH, 3.6))
  axes, found = figure.subplots(), best(trials, mode)
  for trial in trials:
    steps, values = list(trial.curve), list(trial.curve.values())
    if trial is found:
      look = {"color": LIGHT.blue, "linewidth": 2.4, "zorder": 3, "label": f"best (trial {trial.number})"}
    elif trial.origin == "config":
      look = {"color": LIGHT.ink, "linestyle": "--", "label": f"the configuration as it was (trial {trial.number})"}
    elif trial.state == "complete":
      look = {"color": LIGHT.blue, "alpha": 0.35, "linewidth": 1.2, "label": "complete"}
    else:
      look = {"color": LIGHT.green, "alpha": 0.6, "linewidth": 1.0, "label": "ended early or failed"}
    if steps:
      axes.plot(steps, values, marker="o", markersize=3, **look)
  axes.set(xlabel="step", ylabel=metric, title="Validations of all trials")
  axes.xaxis.get_major_locator().set_params(integer=True)
  _legend(axes)
  return figure


@style(LIGHT)
def slices(trials: Sequence[Trial], metric: str, logarithmic: Sequence[str]) -> Figure:
  """A panel for each parameter: its value against the trial's validation. Choices stand side by side in their order.

  Args:
    logarithmic: names of parameters on a logarithmic axis.
  """
  names = _names(trials)
  across = 2 if len(names) == 4 else min(_COLUMNS, len(names))
  down = -(-len(names) // across)
  figure = Figure(figsize=(WIDTH, 0.4 + 2.7 * down))
  panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
  for panel, name in zip(panels, names, strict=False):
    there = [trial for trial in trials if name in trial.values]
    values = [trial.values[name] for trial in there]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
      places = values
      if name in logarithmic:
        _logarithmic(panel, max(values) / min(values))
    else:
      choices = sorted({written(value) for value in values})
      places = [choices.index(written(value)) for value in values]
      panel.set_xticks(range(len(choices)), [label(choice, _VALUES) for choice in choices])
      panel.set_xlim(-0.5, len(choices) - 0.5)
    _points(panel, list(zip(places, there, strict=True)))
    panel.set_title(label(name, 40))
  for panel in panels[len(names) :]:
    panel.set_axis_off()
  for panel in panels[::across]:
    panel.set_ylabel(metric)
  _legend(panels[0])
  return figure


@style(LIGHT)
def importance(importances: Mapping[str, float]) -> Figure:
  """A bar for each parameter, most important first."""
  names, shares = list(importances), [100 * share for share in importances.values()]
  figure = Figure(figsize=(WIDTH, 1.0 + 0.32 * len(names)))
  axes = figure.subplots()
  axes.barh(range(len(names)), shares, color=LIGHT.blue, height=0.62)
  for place, share in enumerate(shares):
    axes.text(share, place, f" {share:.0f} %", va="center", fontsize=8)
  axes.set_yticks(range(len(names)), [label(name, 40) for name in names])
  axes.invert_yaxis()
  axes.set(xlim=(0, max(110, 1.1 * max(shares))), xlabel="share, %", title="Importance of the parameters (PED-ANOVA)")
  axes.grid(False, axis="y")
  return figure


def _logarithmic(axes: Axes, span: float) -> None:
  """A logarithmic axis whose numbers are plain text: figures hold no formulas."""
  axes.set_xscale("log")
  axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if span >= _DECADES else (1.0, 2.0, 5.0), numticks=12))
  axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
  axes.xaxis.set_minor_formatter(NullFormatter())


def _points(axes: Axes, placed: Sequence[tuple[float, Trial]]) -> None:
  for state, name in (("pruned", "ended early"), ("complete", "complete")):
    colour, marker = STATES[state]
    points = [(place, trial.value) for place, trial in placed if trial.state == state and trial.value is not None]
    if points:
      axes.plot(*zip(*points, strict=True), marker, color=colour, alpha=0.8, markersize=5, linestyle="none", label=name)


def _legend(axes: Axes) -> None:
  """Each look once."""
  handles, labels = axes.get_legend_handles_labels()
  once = dict(zip(labels, handles, strict=True))
  if once:
    axes.legend(once.values(), once.keys(), fontsize=8, loc="best")


def _names(trials: Sequence[Trial]) -> list[str]:
  return sorted({name for trial in trials for name in trial.values})


def _short(names: Sequence[str]) -> list[str]:
  last = [name.rpartition(".")[2] for name in names]
  return [short if last.count(short) == 1 else name for name, short in zip(names, last, strict=True)]


def markdown(
  trials: Sequence[Trial],
  metric: str,
  mode: str,
  importances: Mapping[str, float],
  commands: Mapping[str, str],
  figures: Mapping[str, str],
) -> str:
  """search.md: sentences, table, commands and links to the figures.

  Args:
    commands: what one does -> the command.
    figures: title -> file, relative to the page.
  """
  head, lines = table(trials, metric, mode)
  body = ["# Search", "", *sentences(trials, metric, mode, importances), ""]
  for what, command in commands.items():
    body += [f"{what}:", "", f"    {command}", ""]
  body += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
  body += [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
  body += ["", *(f"- {cut(line)}" for line in failures(trials)), ""]
  body += [f"![{title}]({file})" for title, file in figures.items()]
  return "\n".join(body) + "\n"
