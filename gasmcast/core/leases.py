"""Files in a shared folder that say who works on what, for as long as the worker lives.

A lease is a file made with O_EXCL that names its holder: machine, process, a random token. The holder renews the
file's mtime; it is stale when it was not renewed for some seconds, or at once when its process on this machine is gone.
Ages are differences between mtimes that the file server wrote, so the clocks of the machines don't matter.

A lease saves work, it protects nothing: in rare cases (a machine that slept, a file server that repeated a request)
two workers hold one, and whoever uses leases must come to the same result then.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import socket
import threading
import time
import uuid

CLOCK = ".clock"
RENEWAL_SECONDS = 5.0  # at the latest, so that workers with different ideas of the lease agree on who lives


@dataclasses.dataclass(frozen=True)
class Holder:
  """What a lease file says.

  Attributes:
    host: see `this_host`; "" when the file can't be read yet (its worker died before writing it, or is just writing).
    pid: of the process.
    started: its start time, which tells it from a later process of the same pid; None where the system can't tell.
    token: random, "" when the file can't be read.
    renewed: the file's mtime in seconds, by the clock of the file server.
    since: when it took the lease, in seconds by the clock of its machine, for people; None where the file does not say.
  """

  host: str
  pid: int
  started: int | None
  token: str
  renewed: float
  since: float | None = None


class Lease:
  """A lease that this process holds. A context manager: inside it a thread renews the lease.

  Args:
    beside: a file that is renewed too when it is there.
  """

  def __init__(self, path: pathlib.Path, token: str, seconds: float, beside: pathlib.Path | None = None):
    self.path, self.token, self._beside = path, token, beside
    self._interval = min(seconds / 4, RENEWAL_SECONDS)
    self._left = threading.Event()
    self._renewer = threading.Thread(target=self._renew_until_left, name=f"lease {path.name}", daemon=True)

  def held(self) -> bool:
    """Whether the file is still there and this one's."""
    holder = read_holder(self.path)
    return holder is not None and holder.token == self.token

  def release(self) -> None:
    """Removes the file unless another worker has taken it over."""
    if self.held():
      self.path.unlink(missing_ok=True)

  def _renew_until_left(self) -> None:
    while not self._left.wait(self._interval):
      # A renewal that fails is made up for by the next; if none succeeds, another worker repeats the work.
      with contextlib.suppress(OSError):
        if self.held():
          os.utime(self.path)
      if self._beside is not None:
        with contextlib.suppress(OSError):
          os.utime(self._beside)

  def __enter__(self) -> "Lease":
    self._renewer.start()
    return self

  def __exit__(self, *_) -> None:
    self._left.set()
    self._renewer.join()


def take(path: pathlib.Path, token: str, seconds: float, beside: pathlib.Path | None = None) -> Lease | None:
  """The lease, or None if another worker holds it, stale or not.

  Raises:
    OSError: the folder can't be written.
  """
  try:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
  except FileExistsError:
    return None
  try:
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
      pid = os.getpid()
      said = {"host": this_host(), "pid": pid, "started": start_time(pid), "token": token, "since": time.time()}
      json.dump(said, file)
  except OSError:
    path.unlink(missing_ok=True)
    raise
  return Lease(path, token, seconds, beside)


def take_over(path: pathlib.Path, seconds: float) -> Lease | None:
  """The lease, whether it was free or its holder is gone; None while a living worker has it.

  A process of this machine that was stopped renews nothing and may go on, so here only the dead are gone; of another
  machine, those that have not renewed for so many seconds.

  Raises:
    OSError: the folder can't be written.
  """
  if lease := take(path, new_token(), seconds):
    return lease
  holder = read_holder(path)
  if holder is not None:
    if holder.host == this_host():
      gone = not alive(holder.pid, holder.started)
    else:
      gone = stale(holder, server_time(path.parent), seconds)
    if not gone or not put_away(path, holder):
      return None
  return take(path, new_token(), seconds)


def new_token() -> str:
  """Random and unique."""
  return uuid.uuid4().hex


def read_holder(path: pathlib.Path) -> Holder | None:
  """Who holds the lease, None if nobody does.

  Opening the file, other than asking for its status, makes an NFS client fetch the mtime afresh.
  """
  try:
    with open(path, "rb") as file:
      renewed = os.fstat(file.fileno()).st_mtime
      content = file.read()
  except FileNotFoundError:
    return None
  try:
    said = json.loads(content)
    since = said.get("since")
    since = None if since is None else float(since)
    return Holder(str(said["host"]), int(said["pid"]), said["started"], str(said["token"]), renewed, since)
  except (ValueError, KeyError, TypeError, AttributeError):
    return Holder("", 0, None, "", renewed)


def stale(holder: Holder, now: float, seconds: float) -> bool:
  """Whether the holder is gone. `now`: see `server_time`."""
  if holder.host == this_host() and not alive(holder.pid, holder.started):
    return True
  return abs(now - holder.renewed) > seconds  # in the future: the server's clock was set back since it was renewed


def put_away(path: pathlib.Path, holder: Holder) -> bool:
  """Removes the stale lease of `holder`; False if somebody else did, or has taken it over, meanwhile."""
  aside = path.with_name(f"{path.name}.{new_token()}.part")
  try:
    path.rename(aside)  # of several workers that found it stale one succeeds
  except FileNotFoundError:
    return False
  moved = read_holder(aside)
  if moved is not None and moved.token != holder.token:  # not the one that was judged: a live one's
    aside.rename(path)
    return False
  aside.unlink(missing_ok=True)
  return True


def server_time(folder: pathlib.Path) -> float:
  """Seconds, by the clock that gives the files of the folder their mtimes.

  Raises:
    OSError: the folder can't be written.
  """
  clock = folder / CLOCK
  descriptor = os.open(clock, os.O_CREAT | os.O_WRONLY, 0o666)
  try:
    os.utime(descriptor)
    return os.fstat(descriptor).st_mtime
  finally:
    os.close(descriptor)


@functools.cache
def this_host() -> str:
  """Within which a pid means one process: the machine's name and, on Linux, its boot and the pid namespace.

  Containers may share a name, and a pid of one container says nothing in another.
  """
  parts = [socket.gethostname()]
  with contextlib.suppress(OSError):
    parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    parts.append(str(pathlib.Path("/proc/self/ns/pid").readlink()))
  return " ".join(parts)


def alive(pid: int, started: int | None) -> bool:
  """Whether the process of this machine that had `pid` and began at `started` still runs; True if nobody can tell."""
  if os.name != "posix":
    return True  # there, asking with signal 0 would end it
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    return True  # another user's
  if started is None:
    return True
  return start_time(pid) in (started, None)


def start_time(pid: int) -> int | None:
  """When the process began, in ticks since the machine did; -1 if it has ended, None if the system can't tell."""
  if not pathlib.Path("/proc/self/stat").exists():
    return None
  try:
    content = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
  except (FileNotFoundError, ProcessLookupError):
    return -1
  except OSError:
    return None
  state, *fields = content.rpartition(")")[2].split()  # the name in parentheses may hold spaces and parentheses
  return -1 if state in "ZX" else int(fields[18])
