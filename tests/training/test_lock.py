"""Who trains in a working directory, who is refused, and what is left by the dead."""

import json
import os
import subprocess
import sys
import time

import pytest

from gasmcast.core import leases
from gasmcast.core.errors import WorkdirError
from gasmcast.training.lock import NAME, WorkdirLock


def lock_of(folder, age=0.0, **said):
  """A lock file as a trainer of another machine leaves it, not renewed for `age` seconds."""
  holder = {"host": "node7 boot ns", "pid": 4321, "started": 5, "token": "t", "since": 0.0} | said
  path = folder / NAME
  path.write_text(json.dumps(holder))
  os.utime(path, (time.time() - age,) * 2)
  return path


@pytest.fixture
def process():
  """A process that lives until the test ends."""
  process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
  yield process
  process.kill()
  process.communicate()


def test_a_lock_is_there_while_the_context_is_open(tmp_path):
  with WorkdirLock(tmp_path / "run") as lock:
    holder = leases.read_holder(tmp_path / "run" / NAME)
    assert (holder.pid, holder.host) == (os.getpid(), leases.this_host()) and lock.note == ""
    assert abs(holder.since - time.time()) < 60
    lock.require_held()
  assert list((tmp_path / "run").iterdir()) == []


def test_the_second_is_refused_in_one_line_that_names_the_first(tmp_path):
  with WorkdirLock(tmp_path):
    with pytest.raises(WorkdirError) as error, WorkdirLock(tmp_path):
      pass
    assert leases.read_holder(tmp_path / NAME).pid == os.getpid()  # the refusal has taken nothing away
  host = leases.this_host().split()[0]
  message = str(error.value)
  assert message.startswith(f"{tmp_path} is in use by process {os.getpid()} on {host}, since 20")
  assert "wait until it has ended, end it, or use another workdir." in message and "\n" not in message


def test_the_lock_of_a_dead_process_of_this_machine_is_removed_at_once_and_told(tmp_path, process):
  lock_of(tmp_path, host=leases.this_host(), pid=process.pid, started=leases.start_time(process.pid))
  with pytest.raises(WorkdirError, match=f"is in use by process {process.pid} on "), WorkdirLock(tmp_path):
    pass
  process.kill()
  process.wait()
  with WorkdirLock(tmp_path) as lock:
    assert lock.note.startswith(f"The lock of process {process.pid} on ") and lock.note.endswith("gone, was removed.")


def test_a_stopped_process_of_this_machine_keeps_its_lock_however_long(tmp_path, process):
  lock_of(tmp_path, age=1e6, host=leases.this_host(), pid=process.pid, started=leases.start_time(process.pid))
  with pytest.raises(WorkdirError, match="is in use"), WorkdirLock(tmp_path):
    pass


def test_the_lock_of_another_machine_ends_when_it_is_not_renewed(tmp_path):
  lock_of(tmp_path, age=50)
  with pytest.raises(WorkdirError, match="is in use by process 4321 on node7, since 1970-01-0"), WorkdirLock(tmp_path):
    pass
  lock_of(tmp_path, age=70)
  with WorkdirLock(tmp_path) as lock:
    assert lock.note.startswith("The lock of process 4321 on node7, since ")


@pytest.mark.parametrize("content", ["", "[]", '{"host": "a", "pid": 1, "started": 2, "token": "t", "since": "x"}'])
def test_a_lock_that_says_nothing_ends_by_age(tmp_path, content):
  path = lock_of(tmp_path)
  path.write_text(content)
  with pytest.raises(WorkdirError, match="in use by a trainer that has not said its name"), WorkdirLock(tmp_path):
    pass
  os.utime(path, (time.time() - 70,) * 2)
  with WorkdirLock(tmp_path) as lock:
    assert lock.note == "The lock of a trainer that has not said its name, which is gone, was removed."


def test_who_lost_the_lock_is_told_and_leaves_it_to_the_other(tmp_path):
  with WorkdirLock(tmp_path) as lock:
    lock_of(tmp_path)
    with pytest.raises(WorkdirError, match=r"taken over by process 4321 on node7, .* saves nothing more"):
      lock.require_held()
  assert (tmp_path / NAME).exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(WorkdirError, match="can't be used: Not a directory"), WorkdirLock(tmp_path / "file" / "run"):
    pass
