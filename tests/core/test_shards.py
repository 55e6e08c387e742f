"""Work in shards: every item is done once, in files that have their names when they are finished."""

import builtins
import json
import os
import threading
import time

import pytest

from gasmcast.core.errors import ConfigError, WorkdirError
from gasmcast.core.manifest import hash_bytes
from gasmcast.core.shards import Shard, Work, plan
from tests.core.small_work import claimed_by, finish_all, names, open_work, write


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
