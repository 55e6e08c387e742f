"""Calls in worker processes with limits of time and memory, for files that nobody has looked at.

A decoder that is handed a damaged or hostile file may crash, hang or ask for all memory. Here that costs one result:

  with Isolated(probe, workers=2, limits=Limits(seconds=10, memory=300_000_000)) as pool:
    for index, outcome in pool.map(paths):
      ...  # Returned(value) or Failed(reason), in the order of `paths`

A worker that exceeds a limit or crashes is replaced at once. Workers are fresh interpreters (not forks, which would
inherit locks held by threads) that import the function's module alone, so the script that runs needs no guard. They
end with the process that started them, even if that is killed.

This protects from accidents and from files made to exhaust a machine. It is no sandbox: a file that makes a decoder
run code runs it with the rights of the user.

On systems other than Linux the memory limit does not exist; on Windows there are no workers at all, as pipes can't be
handed to a fresh interpreter there.
"""

import collections
import contextlib
import dataclasses
import math
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import Any

from gasmcast.core.errors import ConfigError

READY = "ready"  # what a worker says when it has imported the function

_AHEAD = 16  # results that each worker may be ahead of the one that is handed out next
_START_SECONDS = 120.0  # imports from a cold network disk take long
_STARTS = 3  # workers that may fail to start one after the other
_LONGEST_WAIT_SECONDS = 60.0
_DYING_SECONDS = 5.0  # between closing the pipe and the exit code
_END_SECONDS = 5.0  # even a killed process stays while it waits for a dead network disk
_SHORTEST_WAIT_SECONDS = 0.5
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclasses.dataclass(frozen=True)
class Limits:
  """What one call may take.

  Attributes:
    seconds: of wall time, without those for which the worker waited for a processor (Linux alone can tell), so that a
      busy machine makes no good file a bad one.
    memory: bytes beyond what the worker uses when idle. Exact on Linux (RLIMIT_DATA), no limit elsewhere.
  """

  seconds: float = 10.0
  memory: int = 300_000_000

  def __post_init__(self):
    if not (self.seconds > 0 and self.memory > 0):
      raise ConfigError(f"limits of {self.seconds} seconds and {self.memory} bytes: both must be above 0.")


@dataclasses.dataclass(frozen=True)
class Returned:
  """What the function returned."""

  value: Any


@dataclasses.dataclass(frozen=True)
class Failed:
  """Why there is no value, in one sentence: the message of a UserError, or what became of the worker."""

  reason: str


Outcome = Returned | Failed


class Isolated:
  """A pool of workers that call one function.

  Args:
    function: a picklable callable of an importable module (not of a script or a notebook), with one picklable
      argument and a picklable result. What it prints is dropped. It may be called twice for one item: an item whose
      worker was killed from outside (SIGKILL) is tried once more.
    workers: number of processes. Their BLAS and OpenMP have one thread each.
    limits: of each call.
  """

  def __init__(self, function: Callable[[Any], Any], workers: int = 1, limits: Limits | None = None):
    if workers < 1:
      raise ConfigError(f"{workers} worker processes; at least 1 is needed.")
    self._function = pickle.dumps(function)
    self._count = workers
    self._limits = limits or Limits()
    self._workers: list[_Worker] = []
    self._failed_starts = 0

  def __enter__(self) -> "Isolated":
    self._workers = [_Worker(self._function, self._limits) for _ in range(self._count)]
    return self

  def __exit__(self, *_: object) -> None:
    for worker in self._workers:
      worker.end()
    self._workers = []

  def map(self, items: Iterable[Any]) -> Iterator[tuple[int, Outcome]]:
    """(position, outcome) of each item, in order. Items are taken lazily: at most 16 a worker ahead of the consumer.

    One `map` at a time, by one thread. Leaving the loop early ends what is still running.

    Raises:
      RuntimeError: outside of the `with` block; or workers can't be started, for example because the function can't
        be imported.
    """
    if not self._workers:
      raise RuntimeError("Isolated.map is called outside of the with block that starts the workers.")
    tasks = _Tasks(items, _AHEAD * len(self._workers))
    try:
      while True:
        for worker in self._workers:
          if worker.ready and worker.task is None and (task := tasks.take()):
            worker.give(task, self._limits.seconds)
        if tasks.finished():
          return
        self._collect(tasks)
        if tasks.has_next():
          yield tasks.hand_out()
    finally:
      for place, worker in enumerate(self._workers):
        if worker.task is not None:
          self._replace(place)

  def _collect(self, tasks: "_Tasks") -> None:
    """Waits until a worker answers, dies or is overdue, unless a result is there to be handed out."""
    deadline = min(worker.deadline for worker in self._workers)
    seconds = 0.0 if tasks.has_next() else min(max(0.0, deadline - time.monotonic()), _LONGEST_WAIT_SECONDS)
    answered = wait([worker.connection for worker in self._workers], seconds)
    for place, worker in enumerate(self._workers):
      if worker.connection in answered:
        self._receive(place, worker, tasks)
      elif time.monotonic() >= worker.deadline and worker.is_overdue():
        self._give_up(place, worker, tasks)

  def _receive(self, place: int, worker: "_Worker", tasks: "_Tasks") -> None:
    try:
      kind, content, tired = worker.connection.recv()
    except (EOFError, OSError):  # it is dead
      self._bury(place, worker, tasks)
      return
    if kind is None:
      raise RuntimeError(f"a worker process can't import the function that it is to call: {content}")
    if kind == READY:
      worker.wait_for_task()
      self._failed_starts = 0
      return
    tasks.finish(worker.task, kind(content))
    worker.wait_for_task()
    if tired:
      self._replace(place)

  def _bury(self, place: int, worker: "_Worker", tasks: "_Tasks") -> None:
    code = self._replace(place, _DYING_SECONDS)
    if not worker.ready:
      self._count_failed_start(f"it ended with {_exit_words(code)}")
    elif worker.task is None:
      return
    elif code == -signal.SIGKILL and not worker.task.repeated:
      tasks.repeat(worker.task)
    else:
      reason = f"the process that read it ended with {_exit_words(code)}: the file is damaged or hostile"
      tasks.finish(worker.task, Failed(f"{reason}, or needs more than {self._limits.memory / 1e6:.0f} MB."))

  def _give_up(self, place: int, worker: "_Worker", tasks: "_Tasks") -> None:
    self._replace(place)
    if worker.ready:
      tasks.finish(worker.task, Failed(f"reading it took more than {self._limits.seconds:g} s and was given up."))
    else:
      self._count_failed_start(f"it did not start within {_START_SECONDS:.0f} s")

  def _count_failed_start(self, why: str) -> None:
    self._failed_starts += 1
    if self._failed_starts >= _STARTS:
      raise RuntimeError(f"{_STARTS} worker processes in a row failed to start; of the last one, {why}.")

  def _replace(self, place: int, grace: float = 0.0) -> int | None:
    """Ends a worker and starts another in its place; the exit code of the ended one."""
    code = self._workers[place].end(grace)
    self._workers[place] = _Worker(self._function, self._limits)
    return code


@dataclasses.dataclass(frozen=True)
class _Task:
  position: int
  item: Any
  repeated: bool = False


class _Tasks:
  """The items of one `map`: taken in order, finished in any order, handed out in order."""

  def __init__(self, items: Iterable[Any], ahead: int):
    self._source = enumerate(items)
    self._ahead = ahead
    self._to_repeat: collections.deque[_Task] = collections.deque()
    self._outcomes: dict[int, Outcome] = {}
    self._taken = 0
    self._handed_out = 0
    self._exhausted = False

  def finished(self) -> bool:
    return self._exhausted and self._handed_out == self._taken

  def take(self) -> _Task | None:
    """The next task; None where there is none or the consumer is too far behind."""
    if self._to_repeat:
      return self._to_repeat.popleft()
    if self._exhausted or self._taken - self._handed_out >= self._ahead:
      return None
    for position, item in self._source:
      self._taken += 1
      return _Task(position, item)
    self._exhausted = True
    return None

  def repeat(self, task: _Task) -> None:
    self._to_repeat.append(dataclasses.replace(task, repeated=True))

  def finish(self, task: _Task, outcome: Outcome) -> None:
    self._outcomes[task.position] = outcome

  def has_next(self) -> bool:
    return self._handed_out in self._outcomes

  def hand_out(self) -> tuple[int, Outcome]:
    position, self._handed_out = self._handed_out, self._handed_out + 1
    return position, self._outcomes.pop(position)


class _Worker:
  """A process, the pipe to it, and the task that it works on."""

  def __init__(self, function: bytes, limits: Limits):
    self.connection, other = multiprocessing.Pipe()
    code = f"import sys; sys.path[:] = {sys.path!r}; from gasmcast.core.isolation_worker import serve; "
    self._process = subprocess.Popen(
      [sys.executable, "-c", f"{code}serve({other.fileno()}, {os.getpid()})"],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      pass_fds=[other.fileno()],
      env={**os.environ, **dict.fromkeys(_THREADS, "1")},
    )
    other.close()
    self.ready = False
    self.task: _Task | None = None
    self._limit = _START_SECONDS
    self._began = time.monotonic()
    self._ran, self._waited = 0.0, 0.0
    self.deadline = self._began + self._limit
    self._send((function, limits))

  def give(self, task: _Task, seconds: float) -> None:
    self.task = task
    self._limit = seconds
    self._send(task.item)
    self._ran, self._waited = self._processor_seconds()
    self._began = time.monotonic()  # after sending, because this process may be the one that waits for a processor
    self.deadline = self._began + self._limit

  def wait_for_task(self) -> None:
    self.ready = True
    self.task = None
    self.deadline = math.inf

  def is_overdue(self) -> bool:
    """At the deadline: whether the limit is spent, not counting waits for a processor; if not, sets a new deadline.

    A wait is counted when it ends, so of a process that has one to wait for only the time that it ran counts.
    """
    ran, waited = self._processor_seconds()
    used = time.monotonic() - self._began - (waited - self._waited)
    if self._wants_processor():
      used = min(used, ran - self._ran)
    self.deadline = time.monotonic() + max(self._limit - used, _SHORTEST_WAIT_SECONDS)
    return used >= self._limit and not self.connection.poll()  # it may have answered since it was asked

  def _processor_seconds(self) -> tuple[float, float]:
    """For how long the process has run and has waited to run; zeros where the system can't tell."""
    try:
      ran, waited, _ = pathlib.Path(f"/proc/{self._process.pid}/schedstat").read_text(encoding="ascii").split()
    except (OSError, ValueError):
      return 0.0, 0.0
    return int(ran) / 1e9, int(waited) / 1e9

  def _wants_processor(self) -> bool:
    try:
      text = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
      return False
    return text.rpartition(")")[2].split()[0] == "R" and self._processor_seconds() != (0.0, 0.0)

  def end(self, grace: float = 0.0) -> int | None:
    """Waits `grace` seconds for its own end, then kills it; the exit code (minus a signal), None if it stays."""
    self.connection.close()
    if grace:
      with contextlib.suppress(subprocess.TimeoutExpired):
        return self._process.wait(grace)
    self._process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
      return self._process.wait(_END_SECONDS)
    return None

  def _send(self, value: Any) -> None:
    with contextlib.suppress(ConnectionError):  # a worker that is dead is noticed when it is asked for its answer
      self.connection.send(value)


def _exit_words(code: int | None) -> str:
  if code is None or code >= 0:
    return f"exit code {code}"
  return f"signal {signal.Signals(-code).name}" if -code in signal.valid_signals() else f"signal {-code}"
