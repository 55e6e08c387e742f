"""The side of `core.isolation` that runs in a worker process: answers one call after the other, within limits."""

import contextlib
import os
import pathlib
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from gasmcast.core.errors import UserError
from gasmcast.core.isolation import READY, Failed, Limits, Returned

CALLS = 5_000  # after so many a worker ends and is replaced, because libraries leak

_ALARM_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_STATUS = pathlib.Path("/proc/self/status")
_OUT_OF_MEMORY = ("insufficient memory", "failed to allocate", "cannot allocate memory")


def serve(pipe: int, parent: int) -> None:
  """The life of a worker: answers what comes through the file descriptor `pipe` while process `parent` lives."""
  _prepare_process()
  threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
  with Connection(pipe) as connection, contextlib.suppress(EOFError, ConnectionError):
    content, limits = connection.recv()
    try:
      function = pickle.loads(content)
    except BaseException as error:
      connection.send((None, _words(error), False))
      return
    connection.send((READY, None, False))
    idle = data_bytes()
    for calls in range(1, CALLS + 1):
      kind, content = _call(function, connection.recv(), limits)
      tired = calls == CALLS or data_bytes() > idle + limits.memory // 4
      try:
        connection.send((kind, content, tired))
      except (pickle.PicklingError, AttributeError, TypeError) as error:
        connection.send((Failed, f"the result can't be sent back: {_words(error)}", tired))


def _prepare_process() -> None:
  for name in ("SIGINT", "SIGTERM"):  # sent to the whole group; the parent decides what becomes of its workers
    signal.signal(getattr(signal, name), signal.SIG_IGN)
  import resource  # not on Windows

  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # thousands of damaged files must not leave as many core dumps


def _end_with(parent: int) -> None:
  while os.getppid() == parent:
    time.sleep(_LOOK_SECONDS)
  os._exit(1)


def _call(function: Callable[[Any], Any], item: Any, limits: Limits) -> tuple[type, Any]:
  # The parent keeps the time. The alarm, which ends a process that runs for so long, is for a parent that has died.
  signal.setitimer(signal.ITIMER_PROF, limits.seconds + _ALARM_SECONDS)
  try:
    with _limited_memory(limits.memory):
      return Returned, function(item)
  except UserError as error:
    reason = _words(error)
  except MemoryError:
    return Failed, f"reading it needs more than {limits.memory / 1e6:.0f} MB."
  except BaseException as error:
    reason = f"an internal error, {type(error).__name__}: {_words(error)}"
  finally:
    signal.setitimer(signal.ITIMER_PROF, 0)
  if any(words in reason.lower() for words in _OUT_OF_MEMORY):
    reason += f" At most {limits.memory / 1e6:.0f} MB are allowed."
  return Failed, reason


@contextlib.contextmanager
def _limited_memory(limit: int) -> Iterator[None]:
  """Lets the process grow by `limit` bytes of data. Its files and code, and what others share, don't count."""
  import resource  # not on Windows

  _, hard = resource.getrlimit(resource.RLIMIT_DATA)
  soft = data_bytes() + limit if _STATUS.exists() else hard
  resource.setrlimit(resource.RLIMIT_DATA, (soft if hard < 0 else min(soft, hard), hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def data_bytes() -> int:
  """Private writable memory of this process, what RLIMIT_DATA counts; 0 where the system can't tell."""
  if _STATUS.exists():
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
      if line.startswith("VmData:"):
        return int(line.split()[1]) * 1024
  return 0


def _words(error: BaseException) -> str:
  return " ".join(str(error).split())
