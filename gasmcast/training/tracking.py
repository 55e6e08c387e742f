"""What a run says while it goes: metrics.jsonl always, other trackers where wanted, a progress bar or log lines.

metrics.jsonl is the record of the run: one object a line with step, time, split and numbers. On resume its lines beyond
the resumed step are dropped, so that it reads as if the run had never stopped. The trackers of training/trackers.py and
the progress bar are conveniences: their failure is reported once and never stops the training. Process 0 alone writes.
"""

import json
import logging
import math
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gasmcast.core import disk
from gasmcast.core.manifest import atomic_file
from gasmcast.training.trackers import TRACKERS

_log = logging.getLogger(__name__)
_BAR = "The progress bar"


class JsonLines:
  """A file of one JSON object a line, appended line by line. A line torn by a crash is dropped on opening.

  Attributes:
    kept: the objects that were in the file and satisfied `keep`.
  """

  def __init__(self, path: str | os.PathLike, keep: Callable[[Mapping[str, Any]], bool] = lambda _: True):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.exists() else b""
    self.kept = [value for value in _values(before) if keep(value)]
    after = b"".join(_line(value).encode() for value in self.kept)
    if after != before:
      with atomic_file(path) as file:
        file.write(after)
    self._folder = path.parent
    self._file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115  (closed by close())

  def append(self, value: Mapping[str, Any]) -> None:
    """Writes one line; numbers that JSON can't hold (nan, inf) become null.

    Raises:
      WorkdirError: the disk is full, or can't be written. What was torn is dropped when the file is opened again.
    """
    with disk.explained(self._folder):
      self._file.write(_line(value))

  def close(self) -> None:
    """Closes the file. Raises as `append`."""
    with disk.explained(self._folder):
      self._file.close()


def read_lines(path: str | os.PathLike) -> list[dict[str, Any]]:
  """The objects of such a file, which may be written meanwhile: a torn line is left out. Empty if it is absent."""
  path = pathlib.Path(path)
  return _values(path.read_bytes()) if path.exists() else []


def _values(content: bytes) -> list[dict[str, Any]]:
  return [value for value in map(_parse, content.splitlines()) if value is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
  try:
    value = json.loads(line)
  except ValueError:
    return None
  return value if isinstance(value, dict) else None


def _line(value: Mapping[str, Any]) -> str:
  finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in value.items()}
  return json.dumps(finite, ensure_ascii=False, allow_nan=False) + "\n"


class Tracker:
  """The record of a run in its working directory. A context manager.

  Args:
    workdir: gets metrics.jsonl and what the trackers keep there.
    start: the step that the run goes on from; 0 for a fresh run.
    steps: the step that it ends at.
    headline: the metric shown beside the loss.
    console: where progress goes; a bar if it is a terminal, else a line for each `log`.
    trackers: names of `TRACKERS`.
    described: the configuration, for trackers that keep one.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    start: int,
    steps: int,
    headline: str,
    console: Console | None = None,
    trackers: Sequence[str] = ("tensorboard",),
    described: Mapping[str, Any] | None = None,
  ):
    self._active = jax.process_index() == 0
    self._console = console or Console()
    self._headline, self._steps = headline, steps
    self._shown: dict[str, str] = {}
    self._lines = self._bar = None
    self._trackers: dict[str, Any] = {}
    if self._active:
      workdir = pathlib.Path(workdir)
      self._lines = JsonLines(workdir / "metrics.jsonl", lambda line: line.get("step", 0) <= start)
      for name in trackers:
        self._guarded(TRACKERS[name].NAME, lambda name=name: self._open(name, workdir, start, described or {}))
      if self._console.is_terminal:
        self._guarded(_BAR, lambda: self._open_bar(start))

  def _open(self, name: str, workdir: pathlib.Path, start: int, described: Mapping[str, Any]) -> None:
    kind = TRACKERS[name]
    try:
      self._trackers[kind.NAME] = kind(workdir, start, described)
    except ImportError:
      self.note(f"{kind.NAME} is not installed ({kind.INSTALL}): the run is recorded without it.")

  def _open_bar(self, start: int) -> None:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[shown]}"), TimeRemainingColumn())
    self._bar = Progress(*columns, console=self._console)
    self._task = self._bar.add_task("train", total=self._steps, completed=start, shown="")
    self._bar.start()

  def record(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    """One line in metrics.jsonl and nothing else."""
    if self._active:
      self._lines.append({"step": step, "time": time.time(), "split": split, **values})

  def log(self, step: int, split: str, numbers: Mapping[str, float]) -> None:
    """Records the numbers of one step of one split ("train", "validation", ...) and shows the headline."""
    if not self._active:
      return
    self.record(step, split, numbers)
    for name, tracker in list(self._trackers.items()):
      self._guarded(name, lambda tracker=tracker: tracker.log(step, split, numbers))
    shown = [f"{name} {numbers[name]:.4g}" for name in ("loss", self._headline) if name in numbers]
    if "clips_per_second" in numbers:
      shown.append(f"{numbers['clips_per_second']:.4g} clips/s")
    self._shown[split] = f"{split}: {', '.join(shown)}"
    if self._bar is None:
      self.note(f"step {step}/{self._steps}  {self._shown[split]}")

  def advance(self, step: int) -> None:
    """Moves the progress bar."""
    if self._bar is not None:
      shown = "  ".join(self._shown.values())
      self._guarded(_BAR, lambda: self._bar.update(self._task, completed=step, shown=shown))

  def note(self, text: str) -> None:
    """One line for the person who watches."""
    if self._active:
      self._console.print(text, markup=False, highlight=False, soft_wrap=True)

  def _guarded(self, what: str, action: Callable[[], None]) -> None:
    try:
      action()
    except Exception as error:
      _log.warning("%s failed and is switched off; training and metrics.jsonl go on: %r", what, error)
      self._trackers.pop(what, None)
      if what == _BAR:
        self._bar = None

  def __enter__(self) -> "Tracker":
    return self

  def __exit__(self, *_) -> None:
    if self._bar is not None:
      self._guarded(_BAR, self._bar.stop)
    for name, tracker in list(self._trackers.items()):
      self._guarded(name, tracker.close)
    if self._lines is not None:
      self._lines.close()
