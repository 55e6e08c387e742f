"""A training, finished or not, as a page: how far it is, what stands out, curves, what could not be read, the run.

The same sections are part of the page about an evaluation (reports/html.py).
"""

import dataclasses
import datetime
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from gasmcast.core.manifest import atomic_file
from gasmcast.metrics.stability import analyse, series
from gasmcast.reports import training_figures, wording
from gasmcast.reports.page import render
from gasmcast.reports.training_findings import findings

LISTED = 200  # clips that could not be read
FILTERS = {name: getattr(wording, name) for name in ("cut", "number")}
_STATUS = {
  "finished": "All steps are done.",
  "patience": "It ended early: validations brought no gain any more.",
  "terminated": "It was told to stop; the same command resumes it.",
}


@dataclasses.dataclass(frozen=True)
class Training:
  """What a working directory tells of its training.

  Attributes:
    records: of metrics.jsonl.
    name: of the run.
    steps: that were planned; None where nobody knows.
    status: of the newest checkpoint, "" while the run goes on or after it broke off.
    held: whether a trainer has the working directory, or had it when it was killed.
    metric, mode: the validation number that decides, and whether more or less of it is better.
    command: that trained.
    environment: name -> value.
    data_errors: lines of data_errors.jsonl: {"split", "index", "reason", "step"}.
    heads: see `training_findings.findings`.
  """

  records: Sequence[Mapping[str, Any]]
  name: str = "Training"
  steps: int | None = None
  status: str = ""
  held: bool = False
  metric: str = "top1"
  mode: Literal["max", "min"] = "max"
  command: str = ""
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
  data_errors: Sequence[Mapping[str, Any]] = ()
  heads: tuple[str, ...] | None = None


def write(folder: str | os.PathLike, training: Training) -> pathlib.Path:
  """Writes index.html and its figures as *.svg into `folder`; each file appears whole.

  Returns:
    The path of index.html.
  """
  folder = pathlib.Path(folder)
  charts = training_figures.charts(training.records)
  page = render("training.html", charts, FILTERS, **values(training)).encode("utf-8", "replace")
  for name, content in {f"{name}.svg": content for name, content in charts.items()}.items():
    with atomic_file(folder / name) as file:
      file.write(content)
  with atomic_file(folder / "index.html") as file:
    file.write(page)
  return folder / "index.html"


def values(training: Training) -> dict[str, Any]:
  """What the sections of a training (templates/training_sections.html) name."""
  stability = analyse(training.records, training.metric, training.mode)
  return {
    "training": training,
    "stability": stability,
    "findings": findings(stability, training.metric, training.heads),
    "standing": _standing(training),
    "tiles": _tiles(training),
    "listed": LISTED,
  }


def _standing(training: Training) -> str:
  """Whether the run goes on, as far as its files tell."""
  if training.status in _STATUS:
    return _STATUS[training.status]
  when = max((record["time"] for record in training.records if "time" in record), default=None)
  if when is None:
    return "Nothing was logged yet."
  written = datetime.datetime.fromtimestamp(when, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
  held = (
    "It is running, or was killed"
    if training.held
    else "It is not running, and is not done: the same command resumes it"
  )
  return f"{held}. The last line was written at {written}."


def _tiles(training: Training) -> dict[str, float | None]:
  """Numbers of the head of the page; medians over the last tenth of the logged steps, at least five."""

  def recent(key: str) -> float | None:
    _, found = series(training.records, "train", key)
    return float(np.median(found[-max(5, len(found) // 10) :])) if len(found) else None

  train = [record for record in training.records if record.get("split") == "train"]
  clocks = [record["time"] for record in training.records if "time" in record]
  return {
    "loss": recent("loss"),
    "speed": recent("clips_per_second"),
    "wait": recent("time/input_starved"),
    "mfu": recent("speed/mfu"),
    "seconds": max(clocks) - min(clocks) if len(clocks) > 1 else None,
    "logged": len(train),
  }
