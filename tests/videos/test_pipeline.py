"""The same global batches for any number of processes and workers, from any step; failures keep their place."""

import dataclasses
import itertools

import numpy as np
import pytest

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError, DataError
from gasmcast.core.types import Dataset
from gasmcast.videos import batches
from gasmcast.videos.batches import ERROR_LENGTH
from gasmcast.videos.pipeline import AugmentationConfig, Clips, DataConfig

PLAIN = AugmentationConfig(scale=(1, 1), ratio=(1, 1), brightness=0, contrast=0, saturation=0, flip=0)
CONFIG = DataConfig(global_batch=4, frames=4, size=32, short_side=32, augmentation=PLAIN)
FULL = dataclasses.replace(CONFIG, size=16, augmentation=AugmentationConfig())


def train_batches(dataset, config, seed, **place):
  return batches.train_batches(Clips(dataset, config, augmented=True), config, seed, **place)


def evaluation_batches(dataset, config, **place):
  return batches.evaluation_batches(Clips(dataset, config, augmented=False), config, **place)


def take(iterator, count):
  batches = list(itertools.islice(iterator, count))
  iterator.close()
  return batches


def assert_equal(ours, theirs):
  assert ours.keys() == theirs.keys()
  for key in ours:
    np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


def test_a_batch_has_the_arrays_of_the_contract(dataset):
  (batch,) = take(train_batches(dataset, FULL, 0), 1)
  assert {key: (value.shape, str(value.dtype)) for key, value in batch.items()} == {
    "frames": ((4, 4, 16, 16, 3), "uint8"),
    "ok": ((4,), "bool"),
    "index": ((4,), "int32"),
    "action": ((4,), "int32"),
    "error": ((4,), f"<U{ERROR_LENGTH}"),
  }


def test_a_number_that_is_not_published_is_nan(dataset):
  first, *others = dataset.examples
  examples = (dataclasses.replace(first, values={"openness": 0.5}), *others)
  asked = dataclasses.replace(dataset, examples=examples, values=("openness",))
  (batch,) = take(evaluation_batches(asked, CONFIG), 1)
  assert batch["openness"].dtype == np.float32 and batch["openness"][0] == 0.5 and np.isnan(batch["openness"][1:]).all()


def test_the_order_of_one_seed_is_pinned(dataset):
  index = np.concatenate([batch["index"] for batch in take(train_batches(dataset, CONFIG, 5), 7)]).reshape(4, 7)
  assert index.tolist() == [[3, 2, 4, 5, 1, 0, 6], [3, 6, 1, 5, 2, 0, 4], [6, 1, 4, 0, 5, 2, 3], [4, 0, 3, 2, 6, 5, 1]]
  assert all(sorted(epoch) == list(range(7)) for epoch in index.tolist())


def test_the_draws_of_one_seed_are_pinned(dataset, numbers):
  batches = take(train_batches(dataset, CONFIG, 5), 4)
  drawn = {}
  for batch in batches:
    for index, ok, frames in zip(batch["index"].tolist(), batch["ok"], batch["frames"], strict=True):
      if ok:
        drawn.setdefault(index, []).append(numbers(frames))
  assert {index: drawn[index] for index in (0, 1)} == {
    0: [[0, 9, 12, 15], [0, 8, 12, 15]],
    1: [[2, 7, 13, 15], [4, 7, 14, 17], [4, 5, 11, 17]],
  }
  for frames in itertools.chain.from_iterable(drawn.values()):
    assert [number // 5 for number in frames] == [0, 1, 2, 3]  # one of each quarter of 20 frames


def test_another_seed_gives_another_order(dataset):
  (ours,), (theirs,) = (take(train_batches(dataset, CONFIG, seed), 1) for seed in (5, 6))
  assert ours["index"].tolist() != theirs["index"].tolist()


def test_a_clip_that_cannot_be_read_keeps_its_place(dataset):
  batches = take(train_batches(dataset, CONFIG, 0), 7)
  for batch in batches:
    np.testing.assert_array_equal(batch["ok"], batch["index"] != 3)
    np.testing.assert_array_equal(batch["action"], batch["index"] % 3)
    for ok, frames, error in zip(batch["ok"], batch["frames"], batch["error"], strict=True):
      assert bool(frames.any()) == ok
      assert (error == "") == ok
  errors = {str(error) for batch in batches for error in batch["error"] if error}
  (error,) = errors
  assert dataset.examples[3].path in error and "it begins with b'not a video'" in error


def test_a_long_error_keeps_its_beginning_and_its_end(dataset):
  path = "/".join(["folder"] * 100) + "/x.webm"
  examples = (dataclasses.replace(dataset.examples[0], path=path),)
  (batch,) = take(evaluation_batches(dataclasses.replace(dataset, examples=examples), CONFIG), 1)
  error = str(batch["error"][0])
  assert len(error) == ERROR_LENGTH
  assert error.startswith("folder/folder/") and " ... " in error and error.endswith("from an existing regular file.")


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_hold_the_rows_of_the_same_global_batch(dataset, processes):
  whole = take(train_batches(dataset, FULL, 1), 4)
  parts = [take(train_batches(dataset, FULL, 1, process=p, processes=processes), 4) for p in range(processes)]
  for step, batch in enumerate(whole):
    joined = {key: np.concatenate([part[step][key] for part in parts]) for key in batch}
    assert_equal(joined, batch)


def test_worker_processes_change_nothing_and_hand_over_the_errors(dataset):
  config = dataclasses.replace(FULL, workers=2, threads=1, prefetch=1)
  for ours, theirs in zip(
    take(train_batches(dataset, config, 1), 4), take(train_batches(dataset, FULL, 1), 4), strict=True
  ):
    assert_equal(ours, theirs)


@pytest.mark.parametrize("start", [1, 5])
def test_any_step_can_be_the_first(dataset, start):
  (ours,) = take(train_batches(dataset, FULL, 1, start_step=start), 1)
  assert_equal(ours, take(train_batches(dataset, FULL, 1), start + 1)[-1])


def test_a_balanced_order_is_the_same_for_any_process_worker_and_step(dataset):
  """3, 2 and 2 examples of three classes; 7 places an epoch."""
  config = dataclasses.replace(FULL, sampling="balanced")
  whole = take(train_batches(dataset, config, 1), 7)
  parts = [take(train_batches(dataset, config, 1, process=p, processes=2), 7) for p in range(2)]
  working = dataclasses.replace(config, workers=2, threads=1, prefetch=1)
  resumed = take(train_batches(dataset, working, 1, start_step=3), 4)
  for step, batch in enumerate(whole):
    assert_equal({key: np.concatenate([part[step][key] for part in parts]) for key in batch}, batch)
    if step >= 3:
      assert_equal(resumed[step - 3], batch)
  index = np.concatenate([batch["index"] for batch in whole])
  counts = np.array([np.bincount(epoch % 3, minlength=3) for epoch in index.reshape(4, 7)])
  assert set(counts.ravel().tolist()) == {2, 3} and abs(counts.sum(0) - 28 / 3).max() < 1


def test_the_cache_changes_nothing_and_spares_the_files(dataset, tmp_path):
  examples = []
  for example in dataset.examples:
    path = tmp_path / f"{example.id}.webm"
    with open(example.path, "rb") as file:
      path.write_bytes(file.read())
    examples.append(dataclasses.replace(example, path=str(path)))
  copied = dataclasses.replace(dataset, examples=tuple(examples))
  iterator = train_batches(copied, dataclasses.replace(FULL, cache_bytes=10**8, threads=1, prefetch=1), 1)
  first = list(itertools.islice(iterator, 2))  # 8 of 7 examples: all were read once
  for example in copied.examples:
    (tmp_path / f"{example.id}.webm").unlink()
  second = take(iterator, 5)
  for ours, theirs in zip(first + second, take(train_batches(dataset, FULL, 1), 7), strict=True):
    assert_equal({**ours, "error": ours["error"] != ""}, {**theirs, "error": theirs["error"] != ""})


def test_a_flip_mirrors_the_frames_and_exchanges_left_and_right(dataset, numbers):
  config = dataclasses.replace(CONFIG, augmentation=dataclasses.replace(PLAIN, flip=1.0))
  for batch in take(train_batches(dataset, config, 0), 3):
    for index, ok, frames, action in zip(
      batch["index"].tolist(), batch["ok"], batch["frames"], batch["action"], strict=True
    ):
      if ok:
        assert action == {0: 1, 1: 0, 2: 2}[index % 3]
        assert all(number % 50 == 0 for number in numbers(frames))  # the half with number // 50 = 0 is now left
        assert max(numbers(frames[:, :, ::-1])) < 20


def test_a_flip_without_mirror_classes_is_refused_before_training(dataset):
  one_sided = dataclasses.replace(dataset, classes={"action": ("Pushing left", "Pushing up", "Waving")})
  with pytest.raises(ConfigError, match=r"'pushing left' has a direction.*turn the horizontal flip off"):
    train_batches(one_sided, FULL, 0)
  take(train_batches(one_sided, CONFIG, 0), 1)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_evaluation_takes_every_example_once_in_order(dataset, numbers, processes):
  parts = [take(evaluation_batches(dataset, CONFIG, process=p, processes=processes), 9) for p in range(processes)]
  assert [len(part) for part in parts] == [2] * processes
  batches = [{key: np.concatenate([part[step][key] for part in parts]) for key in parts[0][0]} for step in range(2)]
  joined = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
  assert joined["index"].tolist() == [0, 1, 2, 3, 4, 5, 6, -1]
  assert joined["ok"].tolist() == [True, True, True, False, True, True, True, False]
  assert joined["action"].tolist() == [0, 1, 2, 0, 1, 2, 0, 0]
  assert [bool(error) for error in joined["error"]] == [False, False, False, True, False, False, False, False]
  for ok, frames in zip(joined["ok"], joined["frames"], strict=True):
    assert numbers(frames) == ([2, 7, 12, 17] if ok else [0, 0, 0, 0])


def test_evaluation_shrinks_and_crops_the_centre(dataset):
  (batch, _) = take(evaluation_batches(dataset, dataclasses.replace(CONFIG, size=16)), 3)
  assert batch["frames"].shape == (4, 4, 16, 16, 3)


def test_impossible_divisions_are_refused(dataset):
  with pytest.raises(ConfigError, match="global_batch = 4 can't be divided among 3 processes; use a multiple"):
    train_batches(dataset, CONFIG, 0, processes=3)
  with pytest.raises(ConfigError, match="process 2 of 2: the index must be 0 to 1"):
    evaluation_batches(dataset, CONFIG, process=2, processes=2)


@pytest.mark.parametrize("batches", [lambda d: train_batches(d, CONFIG, 0), lambda d: evaluation_batches(d, CONFIG)])
def test_an_empty_split_is_refused(batches):
  with pytest.raises(DataError, match="the split 'test' of nothing is empty"):
    batches(Dataset("nothing", "test", (), {"action": ("a",)}, ""))


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"global_batch": 0}, r"data.global_batch = 0: it must be at least 1"),
    ({"threads": 0}, r"data.threads = 0: it must be at least 1"),
    ({"sampling": "balancd"}, r"data.sampling = 'balancd' is not one of 'uniform', 'balanced', 'square_root'"),
    ({"prefetch": 1}, r"data.prefetch = 1 is less than data.threads = 2.*use prefetch = 2 or more"),
    ({"cache_bytes": -1}, r"data.cache_bytes = -1: it must be at least 0"),
    ({"short_side": 100}, r"short_side = 100 is less than data.size = 224.*use 224 or more, or 0"),
    ({"cache_bytes": 9, "workers": 2}, r"use workers = 0 or cache_bytes = 0"),
    (
      {"augmentation": {"scale": [0.0, 1.0]}},
      r"augmentation.scale = \(0.0, 1.0\): two bounds with 0 < low <= high <= 1",
    ),
    ({"augmentation": {"scale": [0.5, 1.5]}}, r"augmentation.scale = "),
    ({"augmentation": {"ratio": [2.0, 1.0]}}, r"augmentation.ratio = \(2.0, 1.0\)"),
    ({"augmentation": {"flip": 1.5}}, r"augmentation.flip = 1.5: it must lie in \[0, 1\]"),
  ],
)
def test_impossible_configurations_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    parse(DataConfig, {"global_batch": 8, **fields}, "data")
