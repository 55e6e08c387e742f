"""A store is found by what made its features; whatever differs, it is not found, and nothing is mixed."""

import json
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from gasmcast.core.errors import DataError, WorkdirError
from gasmcast.core.manifest import hash_json
from gasmcast.store.feature_store import create, find, store_key
from tests.store.made_up_features import DESCRIPTION, with_leaf


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


@pytest.mark.reliability(20)
@pytest.mark.parametrize("path", list(leaves(DESCRIPTION)), ids=".".join)
def test_a_change_of_anything_that_features_depend_on_misses(store, path, figure):
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
  figure(f"each of {len(list(leaves(DESCRIPTION)))} fields of a store's description changed: not found, a folder apart")


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
