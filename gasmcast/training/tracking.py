"""What a run says while it goes: metrics.jsonl always, TensorBoard where it is installed, a progress bar or log lines.

metrics.jsonl is the record of the run: one object a line with step, time, split and numbers. On resume its lines beyond
the resumed step are dropped, so that it reads as if the run had never stopped. TensorBoard and the progress bar are
conveniences: their failure is reported once and never stops the training. Process 0 alone writes.
"""

import json
import logging
import math
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gasmcast.core.manifest import atomic_file

_log = logging.getLogger(__name__)


class JsonLines:
  """A file of one JSON object a line, appended line by line. A line torn by a crash is dropped on opening.

  Attributes:
    kept: the objects that were in the file and satisfied `keep`.
  """

  def __init__(self, path: str | os.PathLike, keep: Callable[[Mapping[str, Any]], bool] = lambda _: True):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.exists() else b""
    self.kept = [value for value in map(_parse, before.splitlines()) if value is not None and keep(value)]
    after = b"".join(_line(value).encode() for value in self.kept)
    if after != before:
      with atomic_file(path) as file:
        file.write(after)
    self._file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115  (closed by close())

  def append(self, value: Mapping[str, Any]) -> None:
    """Writes one line; numbers that JSON can't hold (nan, inf) become null."""
    self._file.write(_line(value))

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


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
    workdir: gets metrics.jsonl and tensorboard/.
    start: the step that the run goes on from; 0 for a fresh run.
    steps: the step that it ends at.
    headline: the metric shown beside the loss.
    console: where progress goes; a bar if it is a terminal, else a line for each `log`.
  """

  def __init__(self, workdir: str | os.PathLike, start: int, steps: int, headline: str, console: Console | None = None):
    self._active = jax.process_index() == 0
    self._console = console or Console()
    self._headline, self._steps = headline, steps
    self._shown: dict[str, str] = {}
    self._lines = self._tensorboard = self._bar = None
    if self._active:
      workdir = pathlib.Path(workdir)
      self._lines = JsonLines(workdir / "metrics.jsonl", lambda line: line.get("step", 0) <= start)
      self._guarded("TensorBoard", lambda: self._open_tensorboard(workdir / "tensorboard", start))
      if self._console.is_terminal:
        self._guarded("The progress bar", lambda: self._open_bar(start))

  def _open_tensorboard(self, folder: pathlib.Path, start: int) -> None:
    try:
      import tensorboardX
    except ImportError:
      self.note("tensorboardX is not installed: the run is recorded in metrics.jsonl alone.")
      return
    self._tensorboard = tensorboardX.SummaryWriter(str(folder), purge_step=start + 1 if start else None)

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
    self._guarded("TensorBoard", lambda: self._to_tensorboard(step, split, numbers))
    shown = [f"{name} {numbers[name]:.4g}" for name in ("loss", self._headline) if name in numbers]
    if "clips_per_second" in numbers:
      shown.append(f"{numbers['clips_per_second']:.4g} clips/s")
    self._shown[split] = f"{split}: {', '.join(shown)}"
    if self._bar is None:
      self.note(f"step {step}/{self._steps}  {self._shown[split]}")

  def _to_tensorboard(self, step: int, split: str, numbers: Mapping[str, float]) -> None:
    if self._tensorboard is not None:
      for name, value in numbers.items():
        self._tensorboard.add_scalar(f"{split}/{name}", value, step)

  def advance(self, step: int) -> None:
    """Moves the progress bar."""
    if self._bar is not None:
      shown = "  ".join(self._shown.values())
      self._guarded("The progress bar", lambda: self._bar.update(self._task, completed=step, shown=shown))

  def note(self, text: str) -> None:
    """One line for the person who watches."""
    if self._active:
      self._console.print(text, markup=False, highlight=False, soft_wrap=True)

  def _guarded(self, what: str, action: Callable[[], None]) -> None:
    try:
      action()
    except Exception as error:
      _log.warning("%s failed and is switched off; training and metrics.jsonl go on: %r", what, error)
      if what == "TensorBoard":
        self._tensorboard = None
      else:
        self._bar = None

  def __enter__(self) -> "Tracker":
    return self

  def __exit__(self, *_) -> None:
    if self._bar is not None:
      self._guarded("The progress bar", self._bar.stop)
    if self._tensorboard is not None:
      self._guarded("TensorBoard", self._tensorboard.close)
    if self._lines is not None:
      self._lines.close()
