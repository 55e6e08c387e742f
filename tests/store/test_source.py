"""Stored features in the place of clips: by id, with the labels of their view, or with the reason why not."""

import pickle

import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.core.manifest import hash_json
from gasmcast.core.types import Dataset, Example
from gasmcast.store.compression import Variant, compress, name_parts
from gasmcast.store.feature_store import FAILED, create, encode_views
from gasmcast.store.records import write_records
from gasmcast.store.source import StoredFeatures, split_name

CLASSES = {"action": ("Moving left", "Moving right"), "object": ("cup", "pen", "box")}
INT8 = Variant(precision="int8")


def features(position, view):
  """Semantic [2, 4, 3] in int8 and motion [2, 5], all of them the number 10 * position + view."""
  value = np.float32(10 * position + view)
  semantic = name_parts("semantic", compress(np.full((2, 4, 3), value, np.float32), INT8))
  return semantic | {"motion": np.full((2, 5), value, np.float32)}


def make_dataset(split, names):
  labels = [{"action": i % 2, "object": i % 3} for i in range(len(names))]
  examples = tuple(Example(name, f"{name}.webm", own) for name, own in zip(names, labels, strict=True))
  return Dataset("set", split, examples, CLASSES, hash_json([split, *names]))


def fill(store, dataset, views=1, failed=()):
  """View 1 is mirrored: its action is the other one."""
  ids = [example.id for example in dataset.examples]
  for claim in store.begin(split_name(dataset), ids, 2, views).claims():
    with claim:
      records, reasons = [], {}
      for position in range(claim.shard.first, claim.shard.last):
        own = dataset.examples[position].labels
        if position in failed:
          reasons[str(position)] = f"{ids[position]}.webm is cut."
          records.append([])
        else:
          labels = [np.array([(own["action"] + view) % 2, own["object"]], np.int32) for view in range(views)]
          records.append([features(position, view) | {"labels": labels[view]} for view in range(views)])
      write_records(claim.path, map(encode_views, records))
      claim.finish({FAILED: reasons})
  return store.reader(split_name(dataset))


@pytest.fixture
def store(tmp_path):
  return create(tmp_path / "store", {"made": "by hand"})


def test_an_example_is_found_by_its_id_in_whatever_order_and_split(store):
  train, validation = make_dataset("train", ["a", "b", "c"]), make_dataset("validation", ["d", "e"])
  readers = (fill(store, train), fill(store, validation))
  source = StoredFeatures(make_dataset("part", ["e", "c", "d"]), readers)
  for index, value in enumerate((10, 20, 0)):
    arrays = source.read(index)
    assert list(arrays) == ["semantic", "semantic_scale", "motion"]
    assert (arrays["motion"] == value).all() and arrays["motion"].shape == (2, 5)
    dense = arrays["semantic"].astype(np.float32) * arrays["semantic_scale"].astype(np.float32)
    np.testing.assert_allclose(dense, value, rtol=1e-3)


def test_evaluation_reads_the_first_view_and_training_all_of_them_with_their_labels(store):
  dataset = make_dataset("train", ["a", "b"])
  source = StoredFeatures(dataset, (fill(store, dataset, views=2),))
  assert source.read(1)["motion"][0, 0] == 10
  rng, seen = np.random.default_rng(0), set()
  for _ in range(20):
    arrays, labels = source.draw(1, rng)
    seen.add((float(arrays["motion"][0, 0]), labels["action"], labels["object"]))
  assert seen == {(10.0, 1, 1), (11.0, 0, 1)}


def test_what_could_not_be_read_is_its_reason_and_zeros_stand_in_its_place(store):
  dataset = make_dataset("train", ["a", "b", "c"])
  source = StoredFeatures(dataset, (fill(store, dataset, failed=(0,)),))
  for ask in (source.read, lambda index: source.draw(index, np.random.default_rng(0))):
    with pytest.raises(DataError, match=r"^a\.webm is cut\.$"):
      ask(0)
  empty = source.empty()
  like = source.read(1)
  assert {name: (array.shape, array.dtype) for name, array in empty.items()} == {
    name: (array.shape, array.dtype) for name, array in like.items()
  }
  assert not any(array.any() for array in empty.values())


def test_a_store_without_any_feature_says_so(store):
  dataset = make_dataset("train", ["a", "b"])
  source = StoredFeatures(dataset, (fill(store, dataset, failed=(0, 1)),))
  with pytest.raises(
    DataError, match=r"^the store has features of none of the 2 examples; see why extraction failed\.$"
  ):
    source.empty()


def test_examples_that_were_not_extracted_are_named(store):
  reader = fill(store, make_dataset("train", ["a", "b"]))
  with pytest.raises(
    DataError, match=r"^the store has no features of 2 of 3 examples of 'other', the first being 'x'; extract this sp"
  ):
    StoredFeatures(make_dataset("other", ["a", "x", "y"]), (reader,))


def test_another_data_set_of_the_same_name_has_another_folder():
  first, second = make_dataset("train", ["a"]), make_dataset("train", ["b"])
  assert split_name(first).startswith("train-") and split_name(first) != split_name(second)
  assert split_name(first) == split_name(make_dataset("train", ["a"]))


def test_a_source_can_be_sent_to_a_worker_process(store):
  dataset = make_dataset("train", ["a", "b"])
  source = pickle.loads(pickle.dumps(StoredFeatures(dataset, (fill(store, dataset),))))
  assert source.read(1)["motion"][0, 0] == 10
