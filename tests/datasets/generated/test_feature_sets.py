import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.datasets.generated.feature_sets import TASKS, Features, directions, load, shapes
from gasmcast.videos.batches import evaluation_batches, train_batches
from gasmcast.videos.pipeline import DataConfig

SMALL = {"task": "conjunction_in_place", "objects": 3, "time": 4, "grid": (2, 2), "train": 20, "test": 10}


def make(split="train", **options):
  options = SMALL | options
  return Features(load("", split, **options), **options)


@pytest.mark.parametrize("task", TASKS)
def test_shapes_and_types(task):
  options = {"task": task, "train": 2}
  source = Features(load("", "train", **options), **options)
  for arrays in (source.read(0), source.draw(1, np.random.default_rng(0))[0], source.empty()):
    assert {name: array.shape for name, array in arrays.items()} == shapes(**options)
    assert all(array.dtype == np.float32 for array in arrays.values())
  cells = (16,) if task in ("directions", "conjunction_in_place") else ()
  assert shapes(**options) == {"semantic": (8, 16, 32), "motion": (8, *cells, 24)}


def test_a_code_is_a_direction_of_the_amplitude_and_the_background_stands_across():
  source = make(background=0.7)
  axes, x = directions(3, 32), source.read(0)["semantic"]
  along = x @ axes[:3].T
  there = np.abs(along) > 1e-4
  np.testing.assert_allclose(along[there], 3.0, atol=1e-5)
  assert there.sum() == 4 * 2  # two objects in each of four frames
  assert (x @ axes[3:].T).std() == pytest.approx(0.7, rel=0.1)
  np.testing.assert_allclose(axes @ axes.T, np.eye(32), atol=1e-5)


def test_noise_is_added_in_all_directions():
  calm, noisy = (make(noise=noise, background=0.0, train=200) for noise in (0.0, 0.5))
  difference = np.stack([noisy.read(i)["motion"] - calm.read(i)["motion"] for i in range(50)])
  assert difference.std() == pytest.approx(0.5, rel=0.05)
  along = difference @ directions(2, 24).T
  assert along.std(axis=(0, 1, 2)).min() > 0.4


def test_evaluation_repeats_itself_and_training_does_not():
  source, rng = make(), np.random.default_rng(0)
  np.testing.assert_array_equal(source.read(3)["semantic"], make().read(3)["semantic"])
  first, second = (source.draw(3, rng)[0]["semantic"] for _ in range(2))
  codes = directions(3, 32)[:3].T
  assert np.abs(first - second).max() > 0.1
  np.testing.assert_allclose(first @ codes, second @ codes, atol=1e-5)  # the clip shows the same


def test_splits_and_seeds_differ():
  def clip(**options):
    return make(**options).read(0)["semantic"].tobytes()

  assert len({clip(), clip(split="test"), clip(seed=1)}) == 3
  prints = {load("", split, **(SMALL | {"seed": seed})).fingerprint for split in ("train", "test") for seed in (0, 1)}
  prints.add(load("", "train", **(SMALL | {"noise": 1.0})).fingerprint)
  assert len(prints) == 5


def test_batches_of_all_clips_with_their_labels():
  source = make("test")
  batches = list(evaluation_batches(source, DataConfig(global_batch=4)))
  index = np.concatenate([batch["index"] for batch in batches])
  assert index.tolist() == [*range(10), -1, -1]
  labels = np.concatenate([batch["action"] for batch in batches])[:10]
  assert labels.tolist() == [example.labels["action"] for example in source.dataset.examples]
  assert batches[0]["semantic"].shape == (4, 4, 4, 32)


def test_training_batches_are_the_same_for_any_number_of_processes():
  source, loading = make(), DataConfig(global_batch=4)
  whole = next(train_batches(source, loading, 7, start_step=3))
  halves = [next(train_batches(source, loading, 7, start_step=3, process=p, processes=2)) for p in (0, 1)]
  for name in ("semantic", "motion", "action", "index"):
    np.testing.assert_array_equal(whole[name], np.concatenate([half[name] for half in halves]))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"task": "object"}, "task = 'object' is none; use one of object_trajectory"),
    ({"kinds": None, "pairs_of_trajectories": 2}, "conjunction_in_place.pairs_of_trajectories is not a field"),
    ({"semantic_width": 3}, "semantic_width = 3: 3 codes and a background need 4 dimensions or more."),
    ({"noise": -1.0}, "noise = -1.0 is negative; use 0 or more."),
    ({"train": 0}, "train = 0: a split has at least 1 clip."),
    ({"nois": 1.0}, "config.data.options.nois is not a field; did you mean 'noise'?"),
    ({"time": 3}, "time = 3: it has two halves"),
  ],
)
def test_what_can_not_be_is_refused(options, message):
  with pytest.raises(ConfigError) as error:
    load("", "train", **(SMALL | options))
  assert message in str(error.value)
  with pytest.raises(ConfigError, match="split = 'valid' is none of"):
    load("", "valid", **SMALL)
