"""Damage to anything in a feature store is told by file, made anew, and never silently wrong features."""

import json
import pathlib
import random
from typing import Any

import pytest

from gasmcast.core.errors import DataError, WorkdirError
from gasmcast.core.manifest import write_json
from gasmcast.store.feature_store import FeatureStore, encode_views
from gasmcast.store.records import write_records
from tests.store.made_up_features import assert_same, extract, hashes, ids, shard, views_of


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


@pytest.mark.reliability(7)
def test_no_flipped_bit_is_silent(store, figure):
  noticed = flips(store, 10, 0)
  assert noticed >= 5
  figure(f"10 bits flipped: {noticed} noticed by reading, 10 by verify; made again identically each time")


@pytest.mark.long
@pytest.mark.reliability(7)
def test_none_of_100_flipped_bits_is_silent(store, figure):
  noticed = flips(store, 100, 1)
  assert noticed >= 50
  figure(
    f"100 bits flipped: {noticed} noticed by reading, the others where nothing is read; 100 by verify; made again "
    "identically each time"
  )


def test_an_undamaged_store_has_nothing_to_set_aside(store):
  assert store.verify("train", full=True) == ()
