"""Workers that train, one run after the other: this process, or several of this machine, each with GPUs of its own."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend.backend
from rich.console import Console

from gasmcast.core.config import require
from gasmcast.core.errors import Stopped
from gasmcast.jobs import engines

_LOOK_SECONDS = 1.0  # between two looks for runs that have ended
_GRACE_SECONDS = 300.0  # in which workers that are told to stop finish a compilation, a step and a checkpoint


def require_gpus(where: str, workers: int, gpus: int) -> None:
  """Refuses so many `workers` with so many `gpus` each, fields of `where`, on a machine that can't share its GPUs so.

  Raises:
    ConfigError: two workers would want one GPU.
  """
  there = jax.local_device_count() if jax.default_backend() == "gpu" else 0
  require(
    not there or workers == 1 or 0 < workers * gpus <= there,
    f"{where}.workers = {workers} with {where}.gpus = {gpus} on a machine with {there} GPUs: each worker needs GPUs of "
    f"its own; use up to {there} workers with {where}.gpus=1.",
  )


def run(
  work: Callable[..., None],
  arguments: tuple[Any, ...],
  workers: int,
  gpus: int,
  console: Console,
  watch: Callable[[], None],
) -> None:
  """Has `work(*arguments)` done by all workers until each has returned, or has been told to stop.

  Args:
    work: at the top of a module; returns when everything is done by whoever, raises Stopped when told to stop.
    gpus: of each worker; 0 where there is none, or one worker has them all.
    watch: called in this process now and then.

  Raises:
    Stopped: told to stop. Of several workers the caller has to look whether something is left.
    UserError, RuntimeError: as `engines.run`.
  """
  if workers == 1 and not gpus:
    engines.run(engines.EngineConfig(), work, arguments, console, watch, _LOOK_SECONDS)
    return
  jax.extend.backend.clear_backends()  # else this process keeps the memory of a GPU that a worker needs
  engine = engines.EngineConfig("processes", workers=workers, gpus=gpus)
  with stopping():
    engines.run(engine, _in_process, (work, *arguments), console, watch, _LOOK_SECONDS, _GRACE_SECONDS)


def _in_process(work: Callable[..., None], *arguments: Any) -> None:
  """Ends in order when it is told to stop."""
  with contextlib.suppress(Stopped):
    work(*arguments)


@contextlib.contextmanager
def saying_when_stopped(console: Console) -> Iterator[None]:
  """Prints the line of a Stopped that leaves the context: what the loop has said stands in the log.txt of one run."""
  try:
    yield
  except Stopped as error:
    console.print(str(error), highlight=False, markup=False, soft_wrap=True)
    raise


@contextlib.contextmanager
def stopping() -> Iterator[None]:
  """SIGTERM ends the workers, each with a checkpoint, instead of this process alone."""

  def stop(*_: Any) -> None:
    raise Stopped("Told to stop; the same command goes on.")

  if threading.current_thread() is not threading.main_thread():
    yield
    return
  previous = signal.signal(signal.SIGTERM, stop)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, previous)
