"""Features are written once by split and read at random, by position or id, and never half there."""

import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from gasmcast.core.errors import DataError, WorkdirError
from gasmcast.store.feature_store import create, find
from tests.store.made_up_features import DESCRIPTION, assert_same, extract, hashes, ids, views_of


def test_every_example_and_view_is_read_at_random(store):
  reader = store.reader("train")
  assert len(reader) == 10 and reader.views == 2 and reader.failed == {}
  for position in (9, 0, 5, 2, 3, 9):
    for view in (1, 0):
      assert_same(reader.read(position, view), views_of(position, 2)[view])
  assert list(reader.read(0)) == ["semantic", "semantic_scale", "motion"]


def test_examples_are_found_by_their_ids(store):
  reader = store.reader("train")
  assert [reader.positions[f"clip {i}"] for i in range(10)] == list(range(10))
  assert reader.ids == tuple(ids(10))


def test_what_is_out_of_range_is_refused(store):
  reader = store.reader("train")
  for position in (-1, 10):
    with pytest.raises(IndexError, match=f"position {position} of 10 examples"):
      reader.read(position)
  for view in (-1, 2):
    with pytest.raises(IndexError, match=f"view {view} of 2"):
      reader.read(0, view)


def test_splits_are_told_apart(store):
  extract(store, "validation", 4, 3)
  assert store.splits == ("train", "validation")
  assert len(store.reader("validation")) == 4 and store.reader("validation").views == 1
  assert find(store.folder, {}).splits == ("train", "validation")


def test_a_failed_example_has_a_reason_and_no_features(store):
  reasons = {1: "clip 1.webm holds no frames.", 4: "clip 4.webm can't be opened."}
  extract(store, "test", 5, 2, failed=reasons)
  reader = store.reader("test")
  assert reader.failed == reasons
  for position, reason in reasons.items():
    with pytest.raises(DataError, match=f"^clip {position} has no features: {reason}"):
      reader.read(position)
  assert_same(reader.read(3), views_of(3, 1)[0])


def test_a_reader_is_pickled_without_what_it_has_open_or_can_make(store):
  reader = store.reader("train")
  before = len(pickle.dumps(reader))
  assert reader.positions["clip 3"] == 3
  reader.read(3)
  copy = pickle.loads(pickle.dumps(reader))
  assert len(pickle.dumps(reader)) == before
  assert_same(copy.read(8, 1), views_of(8, 2)[1])
  assert copy.positions == reader.positions


def test_a_spawned_process_reads_the_same(store, tmp_path):
  (tmp_path / "reader").write_bytes(pickle.dumps(store.reader("train")))
  code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).read(7, 1)['motion'].astype(float).sum())"
  done = subprocess.run([sys.executable, "-c", code, tmp_path / "reader"], capture_output=True, text=True, check=True)
  assert float(done.stdout) == views_of(7, 2)[1]["motion"].astype(float).sum()


def test_several_threads_read_the_same_as_one(store):
  reader = store.reader("train")
  places = [(position, view) for position in range(10) for view in range(2)] * 5
  random.Random(0).shuffle(places)
  with ThreadPoolExecutor(8) as pool:
    for (position, view), found in zip(places, pool.map(lambda place: reader.read(*place), places), strict=True):
      assert_same(found, views_of(position, 2)[view])


def test_a_split_that_is_not_there_is_named_with_those_that_are(store):
  with pytest.raises(DataError, match=r"holds no features of the split 'test' but of train; extract them first\."):
    store.reader("test")
  with pytest.raises(DataError, match="holds no features of the split 'test' but of train"):
    store.verify("test", full=True)


def test_an_unfinished_split_is_refused_and_finished_by_the_same_command(store):
  assert extract(store, "test", 7, 2, stop_after=3) == [0, 1, 2]
  with pytest.raises(DataError, match=r"test: 3 of 4 shards are finished; run the same extract command, which makes w"):
    store.reader("test")
  assert extract(store, "test", 7, 2) == [3]
  assert_same(store.reader("test").read(6), views_of(6, 1)[0])


def test_a_split_begun_otherwise_is_refused(store):
  for arguments, reason in (
    ((ids(9), 3, 2), r"examples\.ids: 10 -> 9"),
    ((ids(10)[::-1], 3, 2), "other ids"),
    ((ids(10), 4, 2), r"examples\.shard: 3 -> 4"),
    ((ids(10), 3, 1), r"examples\.views: 2 -> 1"),
  ):
    with pytest.raises(DataError, match=rf"examples\.json was written for other work \({reason}\); extract into anot"):
      store.begin("train", *arguments)


def test_extracting_again_makes_equal_bytes(store, tmp_path):
  again = create(tmp_path / "again", DESCRIPTION)
  extract(again, "train", 10, 3, views=2)
  assert hashes(again) == hashes(store)


def test_a_folder_that_can_not_be_written_is_told(store, tmp_path):
  (tmp_path / "file").write_text("in the way")
  with pytest.raises(WorkdirError, match="store can't be used: Not a directory .* Give this user the right to"):
    create(tmp_path / "file" / "store", DESCRIPTION)
  (store.folder / "test").write_text("in the way")
  with pytest.raises(WorkdirError, match="test can't be used: .*Give this user the right to write there, or use anoth"):
    store.begin("test", ids(3), 1)


def test_nothing_is_written_by_reading(store):
  written = lambda: {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
  before = written()
  assert_same(find(store.folder, {}).reader("train").read(1), views_of(1, 2)[0])
  assert written() == before
