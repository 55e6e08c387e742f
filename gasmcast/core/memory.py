"""What a process holds: memory, open files, threads; and how fast its memory grows.

On Linux the numbers come from /proc. Elsewhere the resource module tells the peak; what can't be told is left out.
1 MB is 1,000,000 bytes.
"""

import os
import pathlib
import sys
import threading
from collections.abc import Sequence

import numpy as np

_MEGABYTE = 1e6
_SAMPLES = 128  # kept at most; when there are more, every second one is dropped
_CLIPS = 1000
_PROC = pathlib.Path("/proc")


class Monitor:
  """Reads memory once a log interval, and remembers enough of it to tell how fast it grows."""

  def __init__(self):
    self._samples: list[tuple[float, float]] = []  # clips, bytes of this process and its children
    self._every, self._calls = 1, 0

  def read(self, clips: int | None = None) -> dict[str, float]:
    """The numbers of this moment, for a log.

    Args:
      clips: clips done so far; with it the reading counts for `growth`.

    Returns:
      "memory/rss_mb" and "memory/children_mb": resident memory of this process, and of all processes below it together
      (pages that processes share count in each of them). "memory/peak_mb": the largest rss_mb so far.
      "memory/files": open files of this process. "memory/threads": its threads.
    """
    resident, children = resident_bytes(), children_bytes()
    if clips is not None and resident is not None:
      self._remember(clips, resident + (children or 0))
    numbers = {
      "rss_mb": None if resident is None else resident / _MEGABYTE,
      "peak_mb": None if (peak := peak_bytes()) is None else peak / _MEGABYTE,
      "children_mb": None if children is None else children / _MEGABYTE,
      "files": open_files(),
      "threads": _threads(),
    }
    return {f"memory/{name}": float(number) for name, number in numbers.items() if number is not None}

  def growth(self) -> float | None:
    """MB by which memory grew for each 1,000 clips; None before two readings with different clips."""
    slope = robust_slope(self._samples)
    return None if slope is None else slope * _CLIPS / _MEGABYTE

  def _remember(self, clips: int, held: float) -> None:
    if self._calls % self._every == 0:
      self._samples.append((clips, held))
    self._calls += 1
    if len(self._samples) > _SAMPLES:
      self._samples = self._samples[::2]
      self._every *= 2


def robust_slope(points: Sequence[tuple[float, float]]) -> float | None:
  """Median of the slopes between all pairs of points (x, y); None where no two differ in x.

  Up to 29 % of the points may lie anywhere (Theil 1950, Sen 1968): a garbage collection or the memory that the first
  batches take once does not count as growth.
  """
  x, y = np.array(points, np.float64).reshape(-1, 2).T
  first, second = np.triu_indices(len(x), 1)
  differ = x[first] != x[second]
  first, second = first[differ], second[differ]
  return float(np.median((y[second] - y[first]) / (x[second] - x[first]))) if len(first) else None


def resident_bytes() -> int | None:
  """Resident memory of this process now; None where the system can't tell."""
  try:
    return int(_read(_PROC / "self/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
  except OSError:
    return None


def peak_bytes() -> int | None:
  """The largest resident memory of this process so far; None where the system can't tell."""
  if (_PROC / "self/status").exists():
    status = dict(line.partition(":")[::2] for line in _read(_PROC / "self/status").splitlines())
    if "VmHWM" in status:
      return int(status["VmHWM"].split()[0]) * 1024  # unlike getrusage, not that of the process that started this one
  try:
    import resource
  except ImportError:  # Windows
    return None
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024


def children_bytes() -> int | None:
  """Resident memory of all processes below this one, added up; None where the system can't tell."""
  processes = {}
  try:
    entries = [entry.name for entry in os.scandir(_PROC) if entry.name.isdecimal()]
  except OSError:
    return None
  for entry in entries:
    try:  # after the name, which may hold spaces and brackets: state, parent, ..., resident pages
      fields = _read(_PROC / entry / "stat").rpartition(")")[2].split()
      processes[int(entry)] = int(fields[1]), int(fields[21])
    except OSError:  # it has ended meanwhile
      continue
  if os.getpid() not in processes:
    return None
  below: dict[int, list[int]] = {}
  for process, (parent, _) in processes.items():
    below.setdefault(parent, []).append(process)
  pages, pending = 0, list(below.get(os.getpid(), []))
  while pending:
    process = pending.pop()
    pages += processes[process][1]
    pending += below.get(process, [])
  return pages * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int | None:
  """Open files, sockets and pipes of this process; None where the system can't tell."""
  for folder in (_PROC / "self/fd", pathlib.Path("/dev/fd")):
    if folder.is_dir():
      return sum(1 for _ in folder.iterdir()) - 1  # without the one that lists
  return None


def _threads() -> int:
  """Those of the system where it tells, otherwise those that Python started."""
  try:
    return sum(1 for _ in (_PROC / "self/task").iterdir())
  except OSError:
    return threading.active_count()


def _read(path: pathlib.Path) -> str:
  return path.read_text(encoding="utf-8", errors="replace")
