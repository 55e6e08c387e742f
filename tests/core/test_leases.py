"""A claim holds while its worker lives and renews it; what the dead held is taken over, and only that."""

import json
import os
import subprocess
import sys
import time

import pytest

from gasmcast.core import leases
from gasmcast.core.shards import is_worked_on
from tests.core.small_work import claimed_by, finish_all, names, open_work, write


@pytest.fixture
def dead():
  """The pid of a process that has ended."""
  process = subprocess.Popen([sys.executable, "-c", ""])
  process.wait()
  return process.pid


def test_a_claim_that_nobody_works_on_ends_with_the_lease(tmp_path):
  unused = list(open_work(tmp_path).claims(wait=False))
  assert [claim.shard.number for claim in unused] == [0, 1, 2]
  os.utime(tmp_path / ".00001.claim", (time.time() - 70,) * 2)
  assert finish_all(open_work(tmp_path), wait=False) == [1]


def test_the_claim_of_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path, dead):
  work = open_work(tmp_path)
  _, part = claimed_by(tmp_path, 1, host=leases.this_host(), pid=dead)
  assert finish_all(work, wait=False) == [0, 2, 1]
  assert not part.exists() and work.file(1).read_text() == "3,4,5"


def test_a_later_process_of_the_same_pid_is_another_one(tmp_path):
  work = open_work(tmp_path)
  mine = {"host": leases.this_host(), "pid": os.getpid()}
  claimed_by(tmp_path, 1, **mine, started=leases.start_time(os.getpid()))
  assert finish_all(work, wait=False) == [0, 2]
  claimed_by(tmp_path, 1, **mine, started=leases.start_time(os.getpid()) - 1)
  assert finish_all(work, wait=False) == [1]


def test_a_killed_process_is_dead_before_its_parent_has_noticed():
  process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
  started = leases.start_time(process.pid)
  assert leases.alive(process.pid, started) and not leases.alive(process.pid, started + 1)
  process.kill()
  os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
  assert not leases.alive(process.pid, started)
  process.communicate()


def test_a_live_claim_of_another_machine_is_respected(tmp_path):
  work = open_work(tmp_path)
  path, part = claimed_by(tmp_path, 1, age=50)
  assert finish_all(work, wait=False) == [0, 2]
  assert path.exists() and part.read_text() == "half"


@pytest.mark.parametrize("age", [70, -70], ids=["not renewed", "the server's clock set back"])
def test_a_claim_that_is_not_renewed_is_taken_over(tmp_path, age):
  work = open_work(tmp_path)
  claimed_by(tmp_path, 1, age=age)
  assert finish_all(work, wait=False) == [0, 2, 1]
  assert not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "a", "pid": "x"}'])
def test_a_claim_that_cannot_be_read_ends_by_age(tmp_path, content):
  work = open_work(tmp_path)
  path, _ = claimed_by(tmp_path, 1)
  path.write_text(content)
  assert finish_all(work, wait=False) == [0, 2]
  os.utime(path, (time.time() - 70,) * 2)
  assert finish_all(work, wait=False) == [1]


def test_ages_are_told_by_the_clock_of_the_file_server(tmp_path, monkeypatch):
  work = open_work(tmp_path)
  claimed_by(tmp_path, 1, age=50)
  monkeypatch.setattr(time, "time", lambda: 0.0)
  assert finish_all(work, wait=False) == [0, 2]


def test_a_claim_is_renewed_while_it_is_worked_on(tmp_path):
  work, other = open_work(tmp_path, lease=0.4), open_work(tmp_path, lease=0.4)
  with next(work.claims()) as claim:
    write(claim)
    holder = json.loads((tmp_path / ".00000.claim").read_text())
    (tmp_path / ".00000.claim").write_text(json.dumps(holder | {"host": "elsewhere"}))  # so that only its age counts
    time.sleep(1.0)
    assert finish_all(other, wait=False) == [1, 2]
    assert claim.path.exists()
    claim.finish()
  assert work.progress() == (7, 7)


def test_a_claim_judged_stale_but_renewed_by_another_meanwhile_is_put_back(tmp_path):
  path, _ = claimed_by(tmp_path, 0)
  judged = leases.read_holder(path)
  claimed_by(tmp_path, 0, token="c" * 32)
  assert not leases.put_away(path, judged)
  assert leases.read_holder(path).token == "c" * 32
  path.unlink()
  assert not leases.put_away(path, judged)


def test_what_the_dead_were_writing_is_removed(tmp_path):
  work = open_work(tmp_path)
  old, new = tmp_path / f".00001.{'d' * 32}.part", tmp_path / f".00002.{'e' * 32}.part"
  for path, age in ((old, 70), (new, 50)):
    path.write_text("half")
    os.utime(path, (time.time() - age,) * 2)
  finish_all(work)
  assert not old.exists() and new.exists()


def test_a_claim_left_on_a_finished_shard_is_removed(tmp_path, dead):
  work = open_work(tmp_path)
  finish_all(work)
  path, part = claimed_by(tmp_path, 1, host=leases.this_host(), pid=dead)
  assert finish_all(open_work(tmp_path)) == []
  assert not path.exists() and not part.exists()


def test_work_is_worked_on_while_a_living_worker_holds_a_claim(tmp_path):
  work = open_work(tmp_path)
  assert not is_worked_on(tmp_path, 60.0)
  for claim in work.claims(wait=False):
    with claim:
      assert is_worked_on(tmp_path, 60.0)
      write(claim)
      claim.finish()
  assert not is_worked_on(tmp_path, 60.0)


def test_claims_of_the_dead_are_no_work(tmp_path, dead):
  open_work(tmp_path)
  claimed_by(tmp_path, 0, host=leases.this_host(), pid=dead)
  claimed_by(tmp_path, 1, age=70)
  assert not is_worked_on(tmp_path, 60.0)
  claimed_by(tmp_path, 2, age=50)
  assert is_worked_on(tmp_path, 60.0)


def test_a_lease_is_taken_over_from_the_dead_alone(tmp_path, dead):
  path = tmp_path / "one.claim"
  first = leases.take_over(path, 60.0)
  assert first is not None and leases.take_over(path, 60.0) is None
  said = json.loads(path.read_text())
  os.utime(path, (time.time() - 1000,) * 2)  # a process of this machine that was stopped may go on
  assert leases.take_over(path, 60.0) is None
  path.write_text(json.dumps(said | {"pid": dead, "started": None}))
  assert leases.take_over(path, 60.0) is not None
  path.write_text(json.dumps(said | {"host": "another"}))
  assert leases.take_over(path, 60.0) is None
  os.utime(path, (time.time() - 1000,) * 2)
  assert leases.take_over(path, 60.0) is not None
