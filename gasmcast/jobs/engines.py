"""Engines: who works on the shards of a folder.

A worker is a function that works on the claims of a shared folder until all is finished (see `core.shards`), so an
engine has nothing to hand out: it starts workers, watches them and replaces those that die.

    local       this process
    processes   so many processes of this machine
    ray         so many tasks on a Ray cluster, the one at an address or one of this machine (extra [ray])

A Slurm array or pods of Kubernetes start the same command with the engine "local" or "processes" on every machine.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from rich.console import Console

from gasmcast.core.config import require
from gasmcast.core.errors import ConfigError, UserError

RESTARTS = 3  # of each worker
_END_SECONDS = 10.0  # between SIGTERM and SIGKILL


@dataclasses.dataclass(frozen=True)
class EngineConfig:
  """Who works.

  Attributes:
    engine: "local", "processes" or "ray", see above.
    workers: how many; "local" has one.
    cpus: of each worker, which Ray places where they are free.
    gpus: of each worker. "processes" shows each its own ones, Ray places it where they are.
    address: of a Ray cluster, such as "auto" or "head:6379"; None for RAY_ADDRESS, else a cluster of this machine
      for as long as the job runs.
  """

  engine: Literal["local", "processes", "ray"] = "local"
  workers: int = 1
  cpus: float = 1.0
  gpus: float = 0.0
  address: str | None = None

  def __post_init__(self):
    require(self.workers >= 1, f"workers = {self.workers}: it must be at least 1.")
    require(self.cpus >= 0, f"cpus = {self.cpus}: it must be at least 0.")
    require(self.gpus >= 0, f"gpus = {self.gpus}: it must be at least 0.")
    require(
      self.engine != "local" or self.workers == 1,
      f"workers = {self.workers} with engine = 'local', which is this process; use engine = 'processes'.",
    )
    require(
      self.engine != "processes" or self.gpus == int(self.gpus),
      f"gpus = {self.gpus} with engine = 'processes', which gives whole ones; use a whole number or 'ray'.",
    )
    require(
      self.engine == "ray" or self.address is None,
      f"address = {self.address!r} with engine = {self.engine!r}: it is a Ray cluster's; use engine = 'ray'.",
    )


def run(
  config: EngineConfig,
  worker: Callable[..., None],
  arguments: tuple[Any, ...] = (),
  console: Console | None = None,
  watch: Callable[[], None] | None = None,
  every: float = 1.0,
  grace: float = _END_SECONDS,
) -> None:
  """Has `worker(*arguments)` run by all workers until each has returned.

  Args:
    worker: a function at the top of a module, which returns when all the work is finished, by whoever.
    arguments: what pickle can hold.
    console: for words about workers that died; None is silent.
    watch: called in this process now and then, to show the progress.
    every: seconds between two calls of `watch`.
    grace: seconds that spawned workers have to end by themselves when this process is told to stop.

  Raises:
    ConfigError: Ray is not installed, not there, or has not the resources.
    UserError: as a worker raised it; or a worker was killed more often than it is replaced.
    RuntimeError: a worker ended by another exception more often than that.
  """
  watch, console = watch or (lambda: None), console or Console(quiet=True)
  if config.engine == "local":
    with _called(watch, every):
      worker(*arguments)
  elif config.engine == "processes":
    _Processes(config, worker, arguments, console, grace).run(watch, every)
  else:
    from gasmcast.jobs import ray_engine  # it imports this module

    ray_engine.run(config, worker, arguments, watch, every)
  watch()


@contextlib.contextmanager
def _called(watch: Callable[[], None], every: float) -> Iterator[None]:
  """Calls `watch` in a thread beside the block."""
  ended = threading.Event()

  def call() -> None:
    while not ended.wait(every):
      watch()

  thread = threading.Thread(target=call, name="watch", daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()


class _Processes:
  """Spawned processes of this machine, each replaced up to RESTARTS times."""

  def __init__(
    self,
    config: EngineConfig,
    worker: Callable[..., None],
    arguments: tuple[Any, ...],
    console: Console,
    grace: float,
  ):
    self._config, self._worker, self._arguments, self._console = config, worker, arguments, console
    self._grace = grace
    self._context = multiprocessing.get_context("spawn")  # a fork would inherit the locks of jax's threads
    self._running: dict[int, tuple[multiprocessing.process.BaseProcess, Connection]] = {}
    self._deaths = [0] * config.workers

  def run(self, watch: Callable[[], None], every: float) -> None:
    try:
      for index in range(self._config.workers):
        self._start(index)
      while self._running:
        wait([process.sentinel for process, _ in self._running.values()], timeout=every)
        watch()
        for index in [index for index, (process, _) in self._running.items() if not process.is_alive()]:
          self._end(index)
    finally:
      self._stop()

  def _start(self, index: int) -> None:
    receiver, sender = self._context.Pipe(duplex=False)
    first = index * int(self._config.gpus)
    gpus = range(first, first + int(self._config.gpus))
    target = (self._worker, self._arguments, sender, _visible(gpus))
    process = self._context.Process(target=_work, args=target, name=f"worker {index}")
    process.start()
    sender.close()  # so that its end is seen here
    self._running[index] = (process, receiver)

  def _end(self, index: int) -> None:
    """What becomes of a worker that has ended: nothing, an error, or another one in its place."""
    process, receiver = self._running.pop(index)
    code, error = process.exitcode, _received(receiver)
    receiver.close()
    process.close()
    if code == 0:
      return
    if isinstance(error, UserError):
      raise error
    self._deaths[index] += 1
    how = _told(code) + (f": {error}" if error else "")
    if self._deaths[index] <= RESTARTS:
      self._console.print(f"Worker {index} {how}. Another one takes its place.", highlight=False, markup=False)
      self._start(index)
      return
    if code < 0:
      raise UserError(
        f"Worker {index} {how}, for the {self._deaths[index]}th time. SIGKILL most often means that memory was short: "
        "use fewer workers or smaller batches, and run the same command again; finished shards stay."
      )
    raise RuntimeError(f"worker {index} {how}, for the {self._deaths[index]}th time")

  def _stop(self) -> None:
    """Ends those that still run; what they were working on is as good as not begun."""
    for process, _ in self._running.values():
      process.terminate()
    for process, receiver in self._running.values():
      process.join(self._grace)
      if process.is_alive():
        process.kill()
        process.join()
      receiver.close()
      process.close()
    self._running.clear()


def _work(worker: Callable[..., None], arguments: tuple[Any, ...], sender: Connection, visible: str | None) -> None:
  """What a process does: works, and sends what went wrong."""
  threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
  if visible is not None:
    os.environ["CUDA_VISIBLE_DEVICES"] = visible
  try:
    worker(*arguments)
  except UserError as error:
    sender.send(error)
    raise SystemExit(1) from error
  except Exception as error:
    sender.send(f"{type(error).__name__}: {error}")
    raise  # for its traceback


def _end_with_parent() -> None:
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
    os._exit(1)


def _received(receiver: Connection) -> UserError | str | None:
  """What the worker sent before it ended, if it did."""
  try:
    return receiver.recv() if receiver.poll() else None
  except (EOFError, OSError, pickle.UnpicklingError):  # it died while it sent
    return None


def _visible(gpus: range) -> str | None:
  """CUDA_VISIBLE_DEVICES of a worker with these of the GPUs that are visible here; None for all."""
  if not gpus:
    return None
  names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
  if names and gpus.stop > len(names):
    raise ConfigError(
      f"The workers need {gpus.stop} GPUs or more, CUDA_VISIBLE_DEVICES shows {len(names)}; use fewer workers."
    )
  return ",".join(names[i] if names else str(i) for i in gpus)


def _told(code: int) -> str:
  if code >= 0:
    return f"ended with exit code {code}"
  names = {int(number): number.name for number in signal.Signals}
  return f"was ended by signal {-code} ({names.get(-code, 'unknown')})"
