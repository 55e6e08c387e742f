"""Functions that workers call in the tests of isolation: well behaved and not."""

import os
import pathlib
import signal
import sys
import threading
import time

from gasmcast.core.errors import DataError

kept = []


def square(number):
  return number * number


def act(order):
  """Does what a string such as "sleep 0.1" says, and returns it."""
  word, _, rest = order.partition(" ")
  ACTS[word](rest)
  return order


def environment(_):
  return {
    "pid": os.getpid(),
    "threads": os.environ["OMP_NUM_THREADS"],
    "main": getattr(sys.modules["__main__"], "__file__", None),
    "core": __import__("resource").getrlimit(__import__("resource").RLIMIT_CORE)[0],
  }


def fail(message):
  raise DataError(message)


def wrong(message):
  raise ValueError(f"{message}\nand a second line")


def noisy(_):
  print("out")
  print("error", file=sys.stderr)
  os.write(2, b"error from native code")


def killed_once(mark):
  if not pathlib.Path(mark).exists():
    pathlib.Path(mark).touch()
    os.kill(os.getpid(), signal.SIGKILL)


def allocate(megabytes):
  bytearray(int(megabytes) * 1_000_000)


def keep(megabytes):
  kept.append(bytearray(int(megabytes) * 1_000_000))


def hold_lock(_):
  """Hangs in a call that no Python thread and no polite signal can interrupt."""
  signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
  threading.Event().wait()


def leave(code):
  os._exit(int(code))


ACTS = {
  "pass": lambda _: None,
  "sleep": lambda seconds: time.sleep(float(seconds)),
  "hang": hold_lock,
  "kill": lambda number: os.kill(os.getpid(), int(number)),
  "once": killed_once,
  "allocate": allocate,
  "keep": keep,
  "fail": fail,
  "wrong": wrong,
  "noisy": noisy,
  "exit": sys.exit,
  "leave": leave,
}


def lock(_):
  return threading.Lock()  # can't be sent back


def inner_result(_):
  class Local:
    pass

  return Local()


def act_and_tell(mark_and_order):
  mark, order = mark_and_order
  pathlib.Path(mark).write_text(str(os.getpid()))
  return act(order)


def calls_so_far(_):
  kept.append(None)
  return len(kept)
