"""Features are found by what made them, read at random, and never mixed, half there or silently wrong."""

import functools
import json
import pathlib
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from gasmcast.core.errors import DataError, WorkdirError
from gasmcast.core.manifest import hash_file, hash_json, write_json
from gasmcast.store.compression import Variant, compress, name_parts
from gasmcast.store.feature_store import FeatureStore, create, encode_views, find, store_key
from gasmcast.store.records import write_records

DESCRIPTION = {
  "clips": {"frames": 16, "size": 224, "short_side": 256, "reading": 1},
  "semantic": {"name": "dinov3_vitb16", "weights": "0a1b", "dtype": "bfloat16", "variant": {"tokens": 49}},
  "motion": {"name": "r3d18", "weights": "2c3d", "dtype": "float32", "variant": {"tokens": 0}},
  "data": {"train": "4e5f"},
}


def ids(count: int) -> list[str]:
  return [f"clip {i}" for i in range(count)]


@functools.cache
def views_of(position: int, views: int) -> list[dict[str, np.ndarray]]:
  """The features of one example, 50 KB a view, which depend on its position and on the view alone."""
  found = []
  for view in range(views):
    rng = np.random.default_rng([position, view])
    semantic = compress(rng.normal(size=(8, 49, 128)).astype(np.float32), Variant(precision="int8"))
    motion = compress(rng.normal(size=(2, 32)).astype(np.float32), Variant())
    found.append(name_parts("semantic", semantic) | name_parts("motion", motion))
  return found


def extract(
  store: FeatureStore, split: str, count: int, shard: int, views: int = 1, failed: Mapping[int, str] | None = None,
  stop_after: int | None = None,
) -> list[int]:  # fmt: skip
  """What job extract does, with made-up features; the numbers of the shards that it made."""
  failed, made = failed or {}, []
  for claim in store.begin(split, ids(count), shard, views).claims():
    with claim:
      positions = range(claim.shard.first, claim.shard.last)
      write_records(claim.path, (encode_views([] if i in failed else views_of(i, views)) for i in positions))
      claim.finish({"failed": {str(i): failed[i] for i in positions if i in failed}})
    made.append(claim.shard.number)
    if len(made) == stop_after:
      break
  return made


def assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
  assert list(found) == list(expected)
  for name, array in expected.items():
    assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found[name], array)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> FeatureStore:
  """With a split "train" of 10 examples in 4 shards, two views each; not to be changed."""
  store = create(tmp_path_factory.mktemp("store") / store_key("dinov3", "r3d18", DESCRIPTION), DESCRIPTION)
  assert extract(store, "train", 10, 3, views=2) == [0, 1, 2, 3]
  return store


@pytest.fixture
def store(tmp_path, finished) -> FeatureStore:
  """A copy of it for one test."""
  return find(shutil.copytree(finished.folder, tmp_path / finished.folder.name), {})


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


def damage_examples(store: FeatureStore, **changes: Any) -> None:
  file = store.folder / "train" / "examples.json"
  file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("changes", [{"format": 2}, {"ids": "abc"}, {"ids": [1]}, {"views": 0}, {"shard": True}])
def test_a_damaged_list_of_examples_is_refused(store, changes):
  damage_examples(store, **changes)
  with pytest.raises(DataError, match=r"examples\.json is not of format 1 with ids, views and shard; remove .*train"):
    store.reader("train")
  with pytest.raises(DataError, match=r"examples\.json was written for other work \(another format\)"):
    store.begin("train", ids(10), 3, 2)


def test_an_exchanged_id_is_noticed(store):
  damage_examples(store, ids=["clip 1", "clip 0", *ids(10)[2:]])
  with pytest.raises(WorkdirError, match="holds other work; .*examples"):
    store.reader("train")


def test_damaged_receipts_are_refused(store):
  file = store.folder / "train" / "00001.json"
  receipt = json.loads(file.read_text())
  for result, reason in (
    ({"failed": {"2": "unread"}}, "examples 3 to 5, names failures of others; remove both and run the same"),
    ({"failed": {"three": "unread"}}, "says of failures .*three.*; remove both and run the same"),
    ({"failed": [3]}, "says of failures .3.; remove both and run the same"),
  ):
    write_json(file, receipt | {"result": result})
    with pytest.raises(DataError, match=rf"train: the receipt of 00001\.arrayrecord.* {reason}"):
      store.reader("train")


def shard(store: FeatureStore, number: int) -> pathlib.Path:
  return store.folder / "train" / f"{number:05d}.arrayrecord"


def hashes(store: FeatureStore) -> list[str]:
  return [hash_file(shard(store, number)) for number in range(4)]


def test_extracting_again_makes_equal_bytes(store, tmp_path):
  again = create(tmp_path / "again", DESCRIPTION)
  extract(again, "train", 10, 3, views=2)
  assert hashes(again) == hashes(store)


@pytest.mark.reliability
@pytest.mark.parametrize("damage", ["cut", "emptied", "longer", "missing"])
def test_a_shard_of_another_size_is_named_left_alone_and_made_anew(store, damage):
  before, path = hashes(store), shard(store, 1)
  content = path.read_bytes()
  if damage == "missing":
    path.unlink()
    reason = r"00001\.arrayrecord is missing though it was finished"
  else:
    path.write_bytes({"cut": content[:-1], "emptied": b"", "longer": content + b"\0"}[damage])
    reason = rf"00001\.arrayrecord has \d+ bytes and was finished with {len(content)}: it was cut or half copied"
  for _ in range(2):  # reading changes nothing: the file may just be being copied
    with pytest.raises(DataError, match=rf"{reason}; run the same extract command, which makes what is missing"):
      store.reader("train")
  assert extract(store, "train", 10, 3, views=2) == [1]
  assert hashes(store) == before
  assert_same(store.reader("train").read(4), views_of(4, 2)[0])


def test_a_shard_that_goes_while_it_is_read_is_named(store):
  reader = store.reader("train")
  shard(store, 2).unlink()
  assert_same(reader.read(0), views_of(0, 2)[0])
  with pytest.raises(
    DataError, match=r"record 0 of .*00002\.arrayrecord can't be read \(No such .*\)\. Remove .* and run "
  ):
    reader.read(6)


def test_a_record_without_the_view_is_named(store):
  reader = store.reader("train")
  write_records(shard(store, 1), [encode_views(views_of(i, 1)) for i in range(3, 6)])
  assert_same(reader.read(4), views_of(4, 1)[0])
  with pytest.raises(
    DataError, match=r"record 1 of .*00001\.arrayrecord holds nothing of view 1 of clip 4\. Remove .*"
  ):
    reader.read(4, 1)


def flip_a_bit(path: pathlib.Path, rng: random.Random) -> None:
  content = bytearray(path.read_bytes())
  content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  path.write_bytes(content)


def flips(store: FeatureStore, count: int, seed: int) -> int:
  """Flips bits, one at a time, and returns how many reading alone noticed.

  Whatever is read is right or an error. A bit that nothing is read from (ArrayRecord fills its files up to whole
  blocks) is found by the hash, as is every other, and the shard is made anew as it was.
  """
  before, rng, noticed = hashes(store), random.Random(seed), 0
  for _ in range(count):
    number = rng.randrange(4)
    flip_a_bit(shard(store, number), rng)
    reader = store.reader("train")
    try:
      for position in range(10):
        for view in range(2):
          assert_same(reader.read(position, view), views_of(position, 2)[view])
    except DataError as error:
      assert str(shard(store, number)) in str(error)
      noticed += 1
    (note,) = store.verify("train", full=True)
    assert str(shard(store, number)) in note
    damaged = shard(store, number).with_suffix(".arrayrecord.damaged")
    assert damaged.exists() and not shard(store, number).exists()
    damaged.unlink()
    assert extract(store, "train", 10, 3, views=2) == [number]
    assert hashes(store) == before
  return noticed


@pytest.mark.reliability
def test_no_flipped_bit_is_silent(store):
  assert flips(store, 10, 0) >= 5


@pytest.mark.long
@pytest.mark.reliability
def test_none_of_100_flipped_bits_is_silent(store):
  noticed = flips(store, 100, 1)
  assert noticed >= 50
  print(f"100 bits flipped in shards: {noticed} noticed by reading, the others where nothing is read; 100 by verify")


def test_an_undamaged_store_has_nothing_to_set_aside(store):
  assert store.verify("train", full=True) == ()


def test_the_name_of_a_folder_tells_the_backbones_and_the_fingerprint():
  digits = hash_json(DESCRIPTION)[:12]
  assert store_key("dinov3", "r3d18", DESCRIPTION) == f"dinov3-r3d18-{digits}"
  assert store_key("dinov3", "", DESCRIPTION) == f"dinov3-{digits}"


def test_a_store_is_made_once_and_told_from_others(tmp_path):
  made = create(tmp_path / "a", DESCRIPTION)
  assert made.fingerprint == hash_json(DESCRIPTION)
  assert create(tmp_path / "a", json.loads(json.dumps(DESCRIPTION))) == made
  other = DESCRIPTION | {"motion": DESCRIPTION["motion"] | {"dtype": "bfloat16"}}
  with pytest.raises(
    DataError,
    match=r"a holds features made otherwise \(description\.motion\.dtype: 'float32' -> 'bfloat16'\); extract into",
  ):
    create(tmp_path / "a", other)
  with pytest.raises(DataError, match=r"a holds features made otherwise \(1 and 1\.0 are not the same here\)"):
    create(tmp_path / "a", DESCRIPTION | {"clips": DESCRIPTION["clips"] | {"reading": 1.0}})


def leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
  for name, value in tree.items():
    yield from leaves(value, (*path, name)) if isinstance(value, Mapping) else [(*path, name)]


def with_leaf(tree: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
  name, *rest = path
  return {**tree, name: with_leaf(tree[name], tuple(rest), value) if rest else value}


@pytest.mark.reliability
@pytest.mark.parametrize("path", list(leaves(DESCRIPTION)), ids=".".join)
def test_a_change_of_anything_that_features_depend_on_misses(store, path):
  """Weights, decoder, resize, dtype, variant, data set: whichever changes, nothing old is found."""
  changed = with_leaf(DESCRIPTION, path, "changed")
  assert hash_json(changed) != store.fingerprint
  assert store_key("dinov3", "r3d18", changed) != store.folder.name
  with pytest.raises(DataError, match=rf"differs \(there -> needed\): description\.{'.'.join(path)}: .* -> 'changed'"):
    find(store.folder.parent, changed)
  with pytest.raises(DataError, match="holds features made otherwise"):
    create(store.folder, changed)
  new = create(store.folder.parent / store_key("dinov3", "r3d18", changed), changed)
  assert new.splits == ()
  assert find(store.folder.parent, DESCRIPTION).folder == store.folder
  assert find(store.folder.parent, changed).folder == new.folder


def test_shards_of_another_store_are_refused(store, tmp_path):
  """A folder that was copied into the wrong store holds work of another fingerprint."""
  other = create(tmp_path / "other", with_leaf(DESCRIPTION, ("semantic", "weights"), "ffff"))
  shutil.copytree(store.folder / "train", other.folder / "train")
  with pytest.raises(WorkdirError, match="holds other work"):
    other.reader("train")


def test_a_store_is_found_by_a_part_of_its_description(store, tmp_path):
  other = create(tmp_path / "other", with_leaf(DESCRIPTION, ("semantic", "variant", "tokens"), 196))
  assert find(tmp_path, {"semantic": {"variant": {"tokens": 196}}}).folder == other.folder
  assert find(tmp_path, {"semantic": {"variant": {"tokens": 49}}}).folder == store.folder
  assert find(store.folder, {"clips": {"frames": 16}}) == store
  assert find(str(store.folder), {}) == store


def test_a_store_that_does_not_agree_is_refused_with_the_nearest(store, tmp_path):
  create(tmp_path / "far", {"clips": {"frames": 8}})
  with pytest.raises(DataError) as error:
    find(tmp_path, {"clips": {"frames": 32, "size": 224}, "motion": {"name": "r3d18"}, "new": 1})
  assert str(error.value) == (
    f"none of 2 feature stores in {tmp_path} was made as needed; the nearest, {store.folder.name}, differs (there -> "
    "needed): description.clips.frames: 16 -> 32; description.new: None -> 1. Extract for this configuration, or "
    "change it."
  )


def test_several_that_agree_are_named(store, tmp_path):
  create(tmp_path / "other", with_leaf(DESCRIPTION, ("semantic", "variant", "tokens"), 196))
  with pytest.raises(DataError, match=rf"holds 2 stores that agree: {store.folder.name}, other; give the folder of"):
    find(tmp_path, {"clips": {"frames": 16}})


def test_a_folder_without_a_store_is_named(tmp_path):
  for folder in (tmp_path, tmp_path / "absent"):
    with pytest.raises(
      DataError, match=rf"{folder.name} holds no feature store \(a folder with store\.json\); extract"
    ):
      find(folder, {})


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    ("{", r"store\.json is not valid JSON"),
    ("[]", r"store\.json is no description of format 1; extract the features anew into another folder\."),
    ('{"format": 2, "description": {}}', "is no description of format 1"),
    ('{"format": 1, "description": 5}', "is no description of format 1"),
    ('{"format": 1, "description": {}, "fingerprint": "12"}', "has the fingerprint .* and not 12, so it was changed"),
    ('{"format": 1, "description": {}}', "has the fingerprint .* and not None, so it was changed after the features"),
  ],
)
def test_a_damaged_or_edited_description_is_refused(store, content, reason):
  (store.folder / "store.json").write_text(content)
  for attempt in (
    lambda: find(store.folder, {}),
    lambda: find(store.folder.parent, {}),
    lambda: create(store.folder, {}),
  ):
    with pytest.raises(DataError, match=reason):
      attempt()


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
