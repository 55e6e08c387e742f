"""One run trains in a working directory at a time.

The lock is a lease (`core.leases`): a file that names its holder, who renews it. The lock of a process of this machine
counts for as long as the process is there, even stopped; that of another machine for as long as it is renewed. A run
of several processes holds one lock, in its process 0.
"""

import os
import pathlib
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

from gasmcast.core import disk, leases
from gasmcast.core.errors import WorkdirError

NAME = ".training.lock"
LEASE_SECONDS = 60.0  # without a sign of life, after which a trainer of another machine is given up


class WorkdirLock:
  """The lock of a working directory while the context is open. With several processes each of them opens it.

  Entering raises WorkdirError if a living trainer holds the lock, or the folder can't be written; with several
  processes all of them raise.

  Attributes:
    note: a sentence about a lock that was found and belonged to nobody any more; "" if there was none.
  """

  def __init__(self, workdir: str | os.PathLike):
    self._workdir = pathlib.Path(workdir)
    self._lease: leases.Lease | None = None
    self.note = ""

  def require_held(self) -> None:
    """To be called before anything is written that another trainer could have written since.

    Raises:
      WorkdirError: the lock was taken over; this process must have stood still for long.
    """
    if self._lease is not None and not self._lease.held():
      holder = leases.read_holder(self._lease.path)
      raise WorkdirError(
        f"{self._workdir} was taken over by {'nobody known' if holder is None else _describe(holder)} while this run "
        f"stood still; it ends here and saves nothing more. The run that is there now goes on."
      )

  def _take(self) -> leases.Lease:
    path = self._workdir / NAME
    with disk.explained(self._workdir):
      self._workdir.mkdir(parents=True, exist_ok=True)
      if lease := leases.take(path, leases.new_token(), LEASE_SECONDS):
        return lease
      holder = leases.read_holder(path)
      if holder is None or (_gone(holder, self._workdir) and leases.put_away(path, holder)):
        if holder is not None:
          self.note = f"The lock of {_describe(holder)}, which is gone, was removed."
        if lease := leases.take(path, leases.new_token(), LEASE_SECONDS):
          return lease
        holder = leases.read_holder(path)  # another trainer came first
    described = "a trainer that has just begun" if holder is None else _describe(holder)
    raise WorkdirError(
      f"{self._workdir} is in use by {described}. Two trainers would spoil each other's checkpoints: wait until it has "
      f"ended, end it, or use another workdir. (A lock without a living trainer is removed by itself, of another "
      f"machine after {LEASE_SECONDS:.0f} s.)"
    )

  def __enter__(self) -> "WorkdirLock":
    problem = None
    if jax.process_index() == 0:
      try:
        self._lease = self._take().__enter__()
      except Exception as error:
        problem = error
    if jax.process_count() > 1:
      refused = multihost_utils.broadcast_one_to_all(np.int32(problem is not None))
      if refused and problem is None:
        raise WorkdirError(f"{self._workdir} is refused by process 0 of this run; its message says why.")
    if problem is not None:
      raise problem
    return self

  def __exit__(self, *unused) -> None:
    if self._lease is not None:
      self._lease.__exit__(*unused)
      self._lease.release()


def _gone(holder: leases.Holder, workdir: pathlib.Path) -> bool:
  if holder.host == leases.this_host():  # a stopped process renews nothing and may go on
    return not leases.alive(holder.pid, holder.started)
  return leases.stale(holder, leases.server_time(workdir), LEASE_SECONDS)


def _describe(holder: leases.Holder) -> str:
  if not holder.host:
    return "a trainer that has not said its name"
  since = "" if holder.since is None else time.strftime(", since %Y-%m-%d %H:%M:%S", time.localtime(holder.since))
  return f"process {holder.pid} on {holder.host.split()[0]}{since}"
