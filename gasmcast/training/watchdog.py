"""Ends a run in which nothing moves any more, and says who stands still.

A process that is stopped, or waits for a disk that does not answer, leaves all others waiting in their next collective
operation, for ever and without a word. In each process a thread looks at when the training thread last began something
else. When that is too long ago it writes the stacks of all threads to a file, says which process is behind, and ends
its process: nothing gentler gets a thread out of a collective operation.

With several processes each one writes what it does to watchdog/process_<number>.json in the working directory. One that
no longer does is stopped as a whole, or its machine is gone; one that does, but is at an earlier step than the others,
hangs where it says.
"""

import collections
import contextlib
import dataclasses
import faulthandler
import json
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from gasmcast.core import leases
from gasmcast.core.errors import EXIT_DEFECT

FIRST_SECONDS = 1800.0  # the least that is allowed where something is done for the first times and compiles
_FIRST_TIMES = 3  # what a step gives is waited for two steps later, when another process may still compile it
LOADING = "waiting for data"
_LONGEST_INTERVAL = 10.0  # seconds between two looks


@dataclasses.dataclass(frozen=True)
class _Place:
  """What the training thread does: `count` tells a place from the next one."""

  count: int
  what: str
  step: int
  allowed: float


def _end_process(message: str) -> None:
  os.write(sys.__stderr__.fileno(), message.encode("utf-8", errors="replace"))  # the file objects may be locked
  flush = threading.Thread(target=lambda: (sys.stdout.flush(), sys.stderr.flush()), daemon=True)
  flush.start()
  flush.join(1.0)
  os._exit(EXIT_DEFECT)


class Watchdog:
  """A context manager around training.

  Args:
    seconds: without any progress after which the run is ended; 0 switches it off. The first three times that something
      is done, at least `FIRST_SECONDS` are allowed.
    workdir: gets watchdog/ when something is to be said there.
    end: what is done with the message at the end.
  """

  def __init__(self, seconds: float, workdir: str | os.PathLike, end: Callable[[str], None] = _end_process):
    self._seconds, self._folder, self._end = seconds, pathlib.Path(workdir) / "watchdog", end
    self._interval = min(max(seconds / 10, 0.05), _LONGEST_INTERVAL)
    self._done: collections.Counter[str] = collections.Counter()
    self._place = _Place(0, "starting", 0, max(seconds, FIRST_SECONDS))
    self._looks = 0
    self._left = threading.Event()
    self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

  def at(self, what: str, step: int) -> None:
    """The training thread begins something: a sign of progress."""
    self._done[what] += 1
    first = self._done[what] <= _FIRST_TIMES
    allowed = max(self._seconds, FIRST_SECONDS) if first else self._seconds
    self._place = _Place(self._place.count + 1, what, step, allowed)

  @contextlib.contextmanager
  def loading(self, step: int) -> Iterator[None]:
    """Around waiting for data; what was done before goes on afterwards."""
    before = self._place
    self.at(LOADING, step)
    yield
    self._place = dataclasses.replace(before, count=self._place.count + 1)

  def _watch(self) -> None:
    seen, still, before = self._place, 0.0, time.monotonic()
    self._publish()
    while not self._left.wait(self._interval):
      now = time.monotonic()
      # While the process is stopped (a shell's Ctrl-Z, a suspended Slurm job) time goes on and is not counted.
      still, before = still + min(now - before, 2 * self._interval), now
      self._publish()
      if self._place.count != seen.count:
        seen, still = self._place, 0.0
      elif still > seen.allowed:
        self._give_up(seen, still)
        still = 0.0

  def _give_up(self, place: _Place, still: float) -> None:
    stacks = self._folder / f"stacks_{jax.process_index()}.txt"
    with contextlib.suppress(OSError):  # a full disk must not keep the run from ending
      stacks.parent.mkdir(parents=True, exist_ok=True)
      with open(stacks, "a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {place.what}, step {place.step}\n")
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)
    who = self._who(place)
    if self._place.count == place.count:  # it may have moved while the others were looked at
      self._end(
        f"error: No progress for {still:.0f} s (config.train.watchdog = {self._seconds:g}): {who}. {stacks} shows "
        "where this process stands. The run ends here; the same command resumes it from its last checkpoint.\n"
      )

  def _who(self, place: _Place) -> str:
    """Which process is behind, in words."""
    if jax.process_count() == 1:
      return f"this process is {place.what}, step {place.step}"
    before = self._read()
    self._left.wait(2.5 * self._interval)
    self._publish()
    return blame(before, self._read())

  def _publish(self) -> None:
    if jax.process_count() == 1:
      return
    self._looks += 1
    process, place = jax.process_index(), self._place
    said = {"host": leases.this_host().split()[0], "pid": os.getpid(), "looks": self._looks}
    path = self._folder / f"process_{process}.json"
    with contextlib.suppress(OSError):
      self._folder.mkdir(parents=True, exist_ok=True)
      part = path.with_suffix(".part")
      part.write_text(json.dumps(said | {"what": place.what, "step": place.step}), encoding="utf-8")
      part.replace(path)

  def _read(self) -> dict[int, Mapping[str, Any]]:
    """What each process says; {} of one that says nothing."""
    said = {}
    for process in range(jax.process_count()):
      said[process] = {}
      with contextlib.suppress(OSError, ValueError):
        said[process] = json.loads((self._folder / f"process_{process}.json").read_text(encoding="utf-8"))
    return said

  def __enter__(self) -> "Watchdog":
    if self._seconds > 0:
      self._thread.start()
    return self

  def __exit__(self, *_) -> None:
    self._left.set()
    if self._seconds > 0:
      self._thread.join()


def blame(before: Mapping[int, Mapping[str, Any]], after: Mapping[int, Mapping[str, Any]]) -> str:
  """Which of several processes stands still, in words.

  Args:
    before, after: what each says ("host", "pid", "looks", "what", "step"), at two times between which each should have
      said something new.
  """
  name = lambda process: (
    f"process {process} ({after[process]['host']}, pid {after[process]['pid']})"
    if after[process]
    else f"process {process}"
  )
  silent = [process for process in after if after[process].get("looks") in (before[process].get("looks"), None)]
  if silent:
    return f"{', '.join(map(name, silent))} shows no sign of life"
  rank = lambda process: (after[process]["step"], after[process]["what"] != LOADING)
  first, last = min(map(rank, after)), max(map(rank, after))
  if first == last:
    some = after[0]
    return f"all {len(after)} processes are {some['what']}, step {some['step']}"
  behind = [process for process in after if rank(process) == first]
  places = [f"{name(process)} is {after[process]['what']}, step {after[process]['step']}" for process in behind]
  return f"{', '.join(places)}, and the others are ahead"
