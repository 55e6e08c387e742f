"""Made-up features that depend on the example and the view alone, and a store of them."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from gasmcast.core.manifest import hash_file
from gasmcast.store.compression import Variant, compress, name_parts
from gasmcast.store.feature_store import FeatureStore, encode_views
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


def shard(store: FeatureStore, number: int) -> pathlib.Path:
  return store.folder / "train" / f"{number:05d}.arrayrecord"


def hashes(store: FeatureStore) -> list[str]:
  return [hash_file(shard(store, number)) for number in range(4)]


def with_leaf(tree: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
  name, *rest = path
  return {**tree, name: with_leaf(tree[name], tuple(rest), value) if rest else value}
