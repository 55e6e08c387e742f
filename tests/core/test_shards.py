"""Work in shards: nothing is lost and nothing is there twice, whoever dies when."""

import builtins
import errno
import json
import os
import pathlib
import random
import subprocess
import sys
import threading
import time

import pytest

from gasmcast.core import disk, leases
from gasmcast.core.errors import ConfigError, WorkdirError
from gasmcast.core.manifest import hash_bytes
from gasmcast.core.shards import Shard, Work, plan

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WORKERS = pathlib.Path(__file__).resolve().parent / "shard_workers.py"


def open_work(folder, items=7, size=3, identity=None, **options):
  return Work.open(folder, items, size, {"seed": 7} if identity is None else identity, suffix=".txt", **options)


def write(claim):
  claim.path.write_text(",".join(str(item) for item in range(claim.shard.first, claim.shard.last)))


def finish_all(work, wait=True):
  numbers = []
  for claim in work.claims(wait):
    with claim:
      write(claim)
      claim.finish()
    numbers.append(claim.shard.number)
  return numbers


def names(folder):
  return sorted(path.name for path in folder.iterdir() if path.name != leases.CLOCK)


def claimed_by(folder, number, age=0.0, **holder):
  """A claim as another worker would have left it, last renewed `age` seconds ago, and what it was writing."""
  said = {"host": "elsewhere", "pid": 1, "started": 1, "token": "b" * 32} | holder
  path = folder / f".{number:05d}.claim"
  path.write_text(json.dumps(said))
  part = folder / f".{number:05d}.{said['token']}.part"
  part.write_text("half")
  for file in (path, part):
    os.utime(file, (time.time() - age,) * 2)
  return path, part


@pytest.mark.parametrize(
  ("items", "size", "expected"),
  [
    (7, 3, (Shard(0, 0, 3), Shard(1, 3, 6), Shard(2, 6, 7))),
    (6, 3, (Shard(0, 0, 3), Shard(1, 3, 6))),
    (2, 3, (Shard(0, 0, 2),)),
    (0, 3, ()),
  ],
)
def test_shards_cover_the_items_in_order(items, size, expected):
  assert plan(items, size) == expected


def test_impossible_numbers_are_refused(tmp_path):
  with pytest.raises(ConfigError, match=r"^items = -1: it must be at least 0\.$"):
    plan(-1, 3)
  with pytest.raises(ConfigError, match=r"^size = 0 items of a shard: it must be at least 1\.$"):
    plan(7, 0)
  with pytest.raises(ConfigError, match=r"^lease = 0 seconds: it must be more than 0\.$"):
    open_work(tmp_path, lease=0)
  for suffix in (".json", ".part", "txt", "./x", ""):
    with pytest.raises(ConfigError, match=r"^suffix = '.*': it must be a dot and letters, and none of \.json, "):
      Work.open(tmp_path, 7, 3, {}, suffix=suffix)
  assert names(tmp_path) == []


def test_work_leaves_files_and_receipts_and_nothing_else(tmp_path):
  folder = tmp_path / "new" / "folder"
  work = open_work(folder)
  assert work.missing() == plan(7, 3)
  assert finish_all(work) == [0, 1, 2]
  assert names(folder) == ["00000.json", "00000.txt", "00001.json", "00001.txt", "00002.json", "00002.txt", "work.json"]
  assert [work.file(number).read_text() for number in range(3)] == ["0,1,2", "3,4,5", "6"]
  receipt = json.loads((folder / "00002.json").read_text())
  assert receipt.pop("work") == work.receipts()[0].work
  assert receipt == {
    "shard": 2,
    "items": [6, 7],
    "file": "00002.txt",
    "bytes": 1,
    "blake3": hash_bytes(b"6"),
    "result": None,
  }
  assert work.missing() == () and work.progress() == (7, 7) and list(work.receipts()) == [0, 1, 2]
  assert finish_all(open_work(folder)) == []


def test_a_result_comes_back_with_its_receipt(tmp_path):
  work = open_work(tmp_path, items=1)
  with next(work.claims()) as claim:
    write(claim)
    claim.finish({"failed": {"0": "öffnen"}, "sums": (0.1, 2)})
  assert work.receipts()[0].result == {"failed": {"0": "öffnen"}, "sums": [0.1, 2]}


def test_work_of_nothing_is_finished(tmp_path):
  work = open_work(tmp_path, items=0)
  assert finish_all(work) == [] and work.progress() == (0, 0) and work.missing() == ()


def test_a_file_has_its_final_name_only_when_it_is_finished(tmp_path):
  work = open_work(tmp_path)
  claims = work.claims()
  with next(claims) as claim:
    write(claim)
    assert claim.path.parent == tmp_path and not work.file(0).exists() and work.progress() == (0, 7)
    claim.finish()
    assert work.file(0).exists() and work.progress() == (3, 7)


def test_an_exception_gives_the_shard_back(tmp_path):
  work = open_work(tmp_path)
  with pytest.raises(KeyError, match="lost"):
    for claim in work.claims():
      with claim:
        write(claim)
        raise KeyError("lost")
  assert names(tmp_path) == ["work.json"]
  assert finish_all(work) == [0, 1, 2]


def test_leaving_a_shard_unfinished_in_silence_is_a_defect(tmp_path):
  claims = open_work(tmp_path).claims()
  with next(claims) as claim:
    write(claim)
  assert names(tmp_path) == ["work.json"]
  with pytest.raises(RuntimeError, match=r"^shard 0 was left without finish\(\)$"):
    next(claims)


def test_what_json_cannot_hold_is_refused_before_anything_is_renamed(tmp_path):
  work = open_work(tmp_path)
  with pytest.raises(TypeError, match="not JSON serializable"):
    for claim in work.claims():
      with claim:
        write(claim)
        claim.finish({1, 2})
  assert names(tmp_path) == ["work.json"]


def test_nothing_written_is_an_error(tmp_path):
  work = open_work(tmp_path)
  with pytest.raises(WorkdirError, match=r"\.part is absent: shard 0 was not written, or was removed\.$"):
    for claim in work.claims():
      with claim:
        claim.finish()


def test_a_claim_that_nobody_works_on_ends_with_the_lease(tmp_path):
  unused = list(open_work(tmp_path).claims(wait=False))
  assert [claim.shard.number for claim in unused] == [0, 1, 2]
  os.utime(tmp_path / ".00001.claim", (time.time() - 70,) * 2)
  assert finish_all(open_work(tmp_path), wait=False) == [1]


def test_shards_may_be_worked_on_side_by_side(tmp_path):
  work = open_work(tmp_path)
  claims = work.claims(wait=False)
  with next(claims) as first, next(claims) as second:
    assert finish_all(open_work(tmp_path), wait=False) == [2]
    for claim in (second, first):
      write(claim)
      claim.finish()
  assert list(claims) == [] and work.progress() == (7, 7)


def test_waiting_ends_when_others_have_finished(tmp_path):
  work = open_work(tmp_path)
  claims = work.claims()
  claim = next(claims)
  other = []
  waiter = threading.Thread(target=lambda: other.extend(finish_all(open_work(tmp_path))))
  with claim:
    waiter.start()
    while work.progress() != (4, 7):
      time.sleep(0.01)
    time.sleep(0.2)
    assert waiter.is_alive()
    write(claim)
    claim.finish()
  waiter.join(10)
  assert other == [1, 2] and list(claims) == []


def test_waiting_takes_over_from_those_that_give_up(tmp_path):
  claims = open_work(tmp_path).claims()
  other = []
  waiter = threading.Thread(target=lambda: other.extend(finish_all(open_work(tmp_path))))
  with pytest.raises(KeyError), next(claims):
    waiter.start()
    time.sleep(0.2)
    raise KeyError
  waiter.join(10)
  assert other == [1, 2, 0]


def test_of_two_workers_on_one_shard_the_first_receipt_stays(tmp_path):
  one, two = open_work(tmp_path, items=1), open_work(tmp_path, items=1)
  with next(one.claims()) as slow:
    (tmp_path / ".00000.claim").unlink()  # as if it had slept for longer than the lease
    with next(two.claims()) as fast:
      write(slow)
      write(fast)
      fast.finish("fast")
    slow.finish("slow")
  assert names(tmp_path) == ["00000.json", "00000.txt", "work.json"]
  assert one.receipts()[0].result == "fast" and one.verify(full=True) == []


def test_a_worker_whose_part_was_removed_leaves_the_shard_to_who_took_it_over(tmp_path):
  work = open_work(tmp_path, items=1)
  with next(work.claims()) as slow:
    write(slow)
    slow.path.unlink()
    path, _ = claimed_by(tmp_path, 0)
    slow.finish()
  assert path.exists() and work.progress() == (0, 1)


@pytest.fixture
def dead():
  """The pid of a process that has ended."""
  process = subprocess.Popen([sys.executable, "-c", ""])
  process.wait()
  return process.pid


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


def test_other_work_in_the_folder_is_refused_by_name(tmp_path):
  open_work(tmp_path, identity={"weights": "a", "seed": 7})
  with pytest.raises(WorkdirError) as error:
    open_work(tmp_path, items=8, identity={"weights": "b", "seed": 7})
  assert str(error.value) == (
    f"{tmp_path} holds other work; 2 field(s) differ, there -> here: work.identity.weights: 'a' -> 'b'; "
    "work.items: 7 -> 8. Restore these values to go on with it, or use another folder."
  )
  open_work(tmp_path, identity={"seed": 7, "weights": "a"})


def test_a_damaged_description_is_refused_and_its_removal_mixes_nothing(tmp_path):
  finish_all(open_work(tmp_path))
  (tmp_path / "work.json").write_text('{"format": 1')
  with pytest.raises(WorkdirError, match=r"work\.json is not valid JSON: .* Remove it and run the same command again"):
    open_work(tmp_path)
  (tmp_path / "work.json").unlink()
  assert open_work(tmp_path).progress() == (7, 7)
  (tmp_path / "work.json").unlink()
  assert open_work(tmp_path, identity={"seed": 8}).progress() == (0, 7)


@pytest.mark.parametrize(
  ("damage", "reason"),
  [
    (lambda folder: (folder / "00001.txt").write_text("3,4"), "has 3 bytes, 5 were written."),
    (lambda folder: (folder / "00001.txt").unlink(), "does not exist."),
    (lambda folder: (folder / "00001.json").write_text('{"shard'), "is not valid JSON"),
    (lambda folder: (folder / "00001.json").write_text("[]"), "is no receipt: it needs the entries blake3, bytes, "),
    (lambda folder: (folder / "00000.json").replace(folder / "00001.json"), "is the receipt of another shard"),
  ],
  ids=["cut", "absent", "half a receipt", "no receipt", "another receipt"],
)
def test_damage_is_found_on_opening_and_made_again(tmp_path, damage, reason):
  finish_all(open_work(tmp_path))
  damage(tmp_path)
  work = open_work(tmp_path)
  (note,) = work.notes
  assert note.startswith("Shard 1 is set aside and will be made again: ") and reason in note
  assert Shard(1, 3, 6) in work.missing() and not work.file(1).exists()
  assert 1 in finish_all(work)
  assert [work.file(number).read_text() for number in range(3)] == ["0,1,2", "3,4,5", "6"]
  assert work.verify(full=True) == [] and len(work.notes) == 1


def test_a_file_without_a_receipt_counts_for_nothing(tmp_path):
  work = open_work(tmp_path)
  work.file(1).write_text("3,4")
  assert work.missing() == plan(7, 3)
  finish_all(work)
  assert work.file(1).read_text() == "3,4,5"


@pytest.mark.reliability
def test_every_flipped_bit_is_found_and_the_file_made_again(tmp_path):
  work = open_work(tmp_path)
  finish_all(work)
  draw = random.Random(7)
  for _ in range(10):
    path = work.file(draw.randrange(3))
    content = bytearray(path.read_bytes())
    clean, place = bytes(content), draw.randrange(len(content))
    content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    assert open_work(tmp_path).notes == ()  # sizes are equal
    assert [shard.number for shard in work.verify(full=True)] == [int(path.stem)]
    assert work.notes[-1].endswith(f"{path} has another BLAKE3 than what was written.")
    assert path.with_name(f"{path.name}.damaged").read_bytes() == content
    assert finish_all(work) == [int(path.stem)] and path.read_bytes() == clean


def test_damage_that_somebody_mends_just_now_is_left_to_him(tmp_path):
  work = open_work(tmp_path)
  finish_all(work)
  work.file(1).write_text("3,4")
  path, _ = claimed_by(tmp_path, 1)
  assert work.verify(full=True) == [] and work.notes == ()
  path.unlink()
  assert [shard.number for shard in work.verify(full=False)] == [1]


def test_a_receipt_damaged_after_opening_is_refused(tmp_path):
  work = open_work(tmp_path)
  finish_all(work)
  (tmp_path / "00002.json").write_text("")
  with pytest.raises(WorkdirError, match=r"00002\.json is not valid JSON: .* Run the same command again: it makes "):
    work.receipts()


def test_files_of_others_in_the_folder_are_left_alone(tmp_path):
  work = open_work(tmp_path)
  for name in ("00009.json", "123.json", "index.json", "00001.txt.damaged"):
    (tmp_path / name).write_text("mine")
  finish_all(work)
  assert work.progress() == (7, 7) and (tmp_path / "00009.json").read_text() == "mine"


def test_progress_opens_no_file(tmp_path, monkeypatch):
  work = open_work(tmp_path, items=199, size=1)
  for number in range(100, 199):
    (tmp_path / f"{number:05d}.json").touch()
  for module, call in ((builtins, "open"), (os, "open"), (os, "stat")):
    monkeypatch.setattr(module, call, None)
  done = work.progress()
  monkeypatch.undo()
  assert done == (99, 199)


def full_disk(*_, **__):
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


ROOM = (
  r": no space is left on the disk\. \d+ bytes are free\. 2 bytes of shard 1 were written\. The 2 missing shards need "
  r"about 10 bytes\. Free some and run the same command again\.$"
)


def library_error():
  raise RuntimeError("write() failed: No space left on device; writing")


def wrapped_error():
  try:
    full_disk()
  except OSError as error:
    raise WorkdirError("the file can't be written") from error


@pytest.mark.reliability
@pytest.mark.parametrize("fail", [full_disk, library_error, wrapped_error])
def test_a_full_disk_while_writing_is_told_in_numbers_and_leaves_nothing_behind(tmp_path, fail):
  work = open_work(tmp_path)
  claims = work.claims()
  with next(claims) as claim:
    write(claim)
    claim.finish()
  with pytest.raises(WorkdirError, match=ROOM), next(claims) as claim:
    claim.path.write_text("3,")
    fail()
  assert names(tmp_path) == ["00000.json", "00000.txt", "work.json"]
  assert finish_all(work) == [1, 2]


def test_a_full_disk_elsewhere_is_not_ours(tmp_path):
  with pytest.raises(OSError, match="/elsewhere/frame"), next(open_work(tmp_path).claims()):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/elsewhere/frame")


@pytest.mark.reliability
@pytest.mark.parametrize("call", ["fsync", "replace", "link"])
def test_a_full_disk_while_finishing_leaves_the_shard_unfinished(tmp_path, monkeypatch, call):
  work = open_work(tmp_path)
  with (
    pytest.raises(WorkdirError, match=r"no space is left on the disk\. \d+ bytes are free\. \d bytes of shard 0 were "),
    next(work.claims()) as claim,
  ):
    write(claim)
    monkeypatch.setattr(pathlib.Path if call == "replace" else os, call, full_disk)
    claim.finish()
  monkeypatch.undo()
  assert work.progress() == (0, 7)
  assert finish_all(work) == [0, 1, 2] and not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.reliability
def test_a_disk_that_is_really_full_is_told_and_the_work_goes_on_when_there_is_room(tmp_path):
  mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("mounting a small tmpfs is not permitted here")
  try:
    work = open_work(tmp_path, items=4, size=1)
    ballast = tmp_path / "ballast"
    ballast.write_bytes(bytes(100_000))
    write_big = lambda claim: claim.path.write_bytes(bytes([claim.shard.first]) * 30_000)
    with pytest.raises(
      WorkdirError, match=r"\d+ bytes of shard 3 were written\. The 1 missing shards need about 30000"
    ):
      for claim in work.claims():
        with claim:
          if claim.shard.number == 3:
            (tmp_path / "more").write_bytes(bytes(os.statvfs(tmp_path).f_bavail * 4096 - 8192))
          write_big(claim)
          claim.finish()
    assert [shard.number for shard in work.missing()] == [3]
    ballast.unlink()
    for claim in open_work(tmp_path, items=4, size=1).claims():
      with claim:
        write_big(claim)
        claim.finish()
    assert work.progress() == (4, 4) and work.verify(full=True) == []
  finally:
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_made_or_written_is_refused(tmp_path, monkeypatch):
  (tmp_path / "file").touch()
  with pytest.raises(WorkdirError, match=r"/file/work can't be used: Not a directory .*/file/work\)\. Give this user "):
    open_work(tmp_path / "file" / "work")
  with monkeypatch.context() as patch:
    patch.setattr(os, "link", full_disk)
    with pytest.raises(WorkdirError, match=r"^/.*: no space is left on the disk\. \d+ bytes are free\. Free some and "):
      open_work(tmp_path / "new")
  work = open_work(tmp_path / "new")

  def refuse(*_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "here")

  monkeypatch.setattr(os, "open", refuse)
  with pytest.raises(
    WorkdirError, match=r"^/.*/new can't be used: Permission denied \(here\)\. Give this user the rig"
  ):
    next(work.claims())


def test_a_folder_that_is_gone_is_named(tmp_path):
  work = open_work(tmp_path / "new")
  (tmp_path / "new" / "work.json").unlink()
  (tmp_path / "new").rmdir()
  with pytest.raises(WorkdirError, match=r"/new can't be read: No such file or directory\.$"):
    work.progress()


def test_a_file_system_without_links_will_do(tmp_path, monkeypatch):
  def refuse(*_, **__):
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

  monkeypatch.setattr(os, "link", refuse)
  assert finish_all(open_work(tmp_path)) == [0, 1, 2]
  disk.create(tmp_path / "00000.json", b"second", tmp_path / "part")
  assert open_work(tmp_path).verify(full=True) == [] and "part" not in names(tmp_path)


def start(*arguments):
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  return subprocess.Popen(
    [sys.executable, str(WORKERS), *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True
  )


def kill_workers(folder, kills, seed):
  """Three workers, of which `kills` die at random instants while they hold a claim; each is replaced."""
  draw, workers = random.Random(seed), [start("work", folder, 0.06) for _ in range(3)]
  for _ in range(kills):
    holding = []
    while not holding:
      holders = [leases.read_holder(path) for path in folder.glob(".*.claim")]
      pids = {holder.pid for holder in holders if holder is not None}
      holding = [worker for worker in workers if worker.pid in pids and worker.poll() is None]
      assert any(worker.poll() is None for worker in workers), "all was done before all were killed"
    victim = draw.choice(holding)
    time.sleep(draw.uniform(0.0, 0.1))
    victim.kill()
    victim.communicate()
    workers[workers.index(victim)] = start("work", folder, 0.06)
  for worker in workers:
    worker.communicate(timeout=100)
    assert worker.returncode == 0


@pytest.mark.reliability
@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.long)])
def test_workers_killed_at_random_instants_make_what_a_clean_run_makes(tmp_path, kills):
  clean, killed = tmp_path / "clean", tmp_path / "killed"
  worker = start("work", clean, 0.0)
  worker.communicate(timeout=100)
  killed.mkdir()
  kill_workers(killed, kills, seed=kills)
  files = {name: (clean / name).read_bytes() for name in names(clean)}
  assert {name: (killed / name).read_bytes() for name in files} == files
  assert [name for name in set(names(killed)) - set(files) if not name.endswith(".part")] == []
  lines = "".join((killed / name).read_text() for name in sorted(files) if name.endswith(".txt")).splitlines()
  assert lines == [f"item {item}" for item in range(50)]


@pytest.mark.reliability
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the worker is a fork")
@pytest.mark.parametrize("step", [31, pytest.param(1, marks=pytest.mark.long)])
def test_a_worker_killed_before_any_line_loses_and_leaves_nothing(tmp_path, step):
  worker = start("lines", tmp_path, 1, step)
  killed, _ = worker.communicate(timeout=600)
  assert worker.returncode == 0 and int(killed) * step > 400
