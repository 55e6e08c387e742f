"""What a working directory tells of its training, read while it may still be going on: nothing here writes into it."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from gasmcast.core.errors import DataError
from gasmcast.core.manifest import read_json
from gasmcast.jobs import records
from gasmcast.jobs.run import Run
from gasmcast.reports.training import Training
from gasmcast.training import lock
from gasmcast.training.tracking import read_lines


def trained(run: Run) -> bool:
  """Whether there is anything to report."""
  return (run.workdir / "metrics.jsonl").is_file()


def gather(run: Run, heads: tuple[str, ...] | None = None) -> Training:
  """The training of a working directory, of any state: running, broken off, resumed, finished.

  Args:
    heads: see `reports.training_findings.findings`.
  """
  workdir = run.workdir
  meta = _newest_meta(workdir / "checkpoints")
  planned = meta.get("identity", {}).get("train", {}) or _object(run.raw.get("train"))
  steps = planned.get("steps")
  errors = [line for file in sorted(workdir.glob("data_errors*.jsonl")) for line in read_lines(file)]
  return Training(
    records=read_lines(workdir / "metrics.jsonl"),
    name=workdir.resolve().name,
    steps=steps if isinstance(steps, int) else None,
    status=meta.get("progress", {}).get("status", ""),
    held=(workdir / lock.NAME).exists(),
    metric=planned.get("best_metric", "top1"),
    mode=planned.get("best_mode", "max"),
    command=records.training_command(run),
    environment=_environment(workdir / "environment.json"),
    data_errors=[line for line in errors if {"split", "index", "reason", "step"} <= set(line)],
    heads=heads,
  )


def _newest_meta(checkpoints: pathlib.Path) -> dict[str, Any]:
  """What was saved as JSON beside the newest checkpoint; empty where there is none that can be read.

  The files are read as they lie there: opening the folder as `Checkpoints` does would tidy it up, which is for the
  trainer to do.
  """
  steps = sorted((int(folder.name) for folder in checkpoints.glob("*") if folder.name.isdecimal()), reverse=True)
  for step in steps:
    try:
      return _object(json.loads((checkpoints / str(step) / "meta" / "metadata").read_text("utf-8")))
    except (OSError, ValueError):  # not finished yet, removed meanwhile, or damaged
      continue
  return {}


def _environment(file: pathlib.Path) -> dict[str, str]:
  """environment.json for a list of names and values; empty where there is none."""
  try:
    found = _object(read_json(file))
  except DataError:
    return {}
  versions = _object(found.pop("versions", {}))
  shown = {name.capitalize(): str(value) for name, value in found.items() if value not in ("", None)}
  return shown | {"Versions": ", ".join(f"{name} {version}" for name, version in versions.items())}


def _object(value: Any) -> dict[str, Any]:
  return dict(value) if isinstance(value, Mapping) else {}
