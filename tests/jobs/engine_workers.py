"""Workers that the tests of jobs.engines start in other processes."""

import os
import pathlib
import signal
import time

from gasmcast.core.errors import DataError
from tests.core import shard_workers


def finish(folder, seconds=0.0):
  """Works until everything is finished."""
  shard_workers.run(pathlib.Path(folder), seconds)


def finish_but_die_once(folder, times=1):
  """Kills itself in the middle of a shard until it has done so `times` times over all workers."""
  folder = pathlib.Path(folder)
  for claim in shard_workers.open_work(folder).claims():
    with claim:
      for death in range(times):
        try:
          (folder / f"death_{death}").touch(exist_ok=False)
        except FileExistsError:
          continue
        claim.path.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
      shard_workers.work_on(claim, 0.01)


def refuse(*_):
  raise DataError("clip 7 is unreadable.")


def fail(folder):
  (pathlib.Path(folder) / f"failed {time.monotonic_ns()}").touch()
  raise KeyError("broken")


def refuse_or_hang(folder):
  """One worker refuses, the others would never end."""
  try:
    (pathlib.Path(folder) / "first").touch(exist_ok=False)
  except FileExistsError:
    (pathlib.Path(folder) / f"pid {os.getpid()}").touch()
    time.sleep(600)
  while not list(pathlib.Path(folder).glob("pid *")):
    time.sleep(0.01)
  raise DataError("clip 7 is unreadable.")


def say_what_is_visible(folder):
  (pathlib.Path(folder) / os.environ.get("CUDA_VISIBLE_DEVICES", "all")).touch()
