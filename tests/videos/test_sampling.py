"""Orders with rare classes more often: their shares, that nothing repeats too early, that any position can be had."""

import pickle

import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.core.types import Dataset, Example
from gasmcast.videos.batches import train_batches
from gasmcast.videos.pipeline import DataConfig
from gasmcast.videos.sampling import SHARES, ClassOrder

NAMES = ("often", "never", "rare", "once")
COUNTS = (16, 0, 4, 1)
LABELS = np.repeat(range(4), COUNTS)


def dataset_of(labels, names=NAMES):
  examples = tuple(
    Example(str(i), f"{i}.webm", {} if label is None else {"kind": 0, "action": int(label)})
    for i, label in enumerate(labels)
  )
  return Dataset("set", "train", examples, {"kind": ("one",), "action": names}, "")


def order(sampling="balanced", labels=LABELS, seed=0):
  return ClassOrder(dataset_of(labels), "action", sampling, seed)


def stream(made, epochs):
  return np.array([made[position] for position in range(epochs * len(LABELS))])


def test_balanced_gives_every_class_the_same_share_of_every_epoch():
  """21 places for the 3 classes that have examples: 7 each, however many they have."""
  drawn = stream(order(), 5).reshape(5, 21)
  assert [np.bincount(LABELS[epoch], minlength=4).tolist() for epoch in drawn] == [[7, 0, 7, 7]] * 5


def test_square_root_is_between():
  """Roots 4, 2 and 1 of 21 places: 12, 6 and 3."""
  drawn = stream(order("square_root"), 4).reshape(4, 21)
  assert [np.bincount(LABELS[epoch], minlength=4).tolist() for epoch in drawn] == [[12, 0, 6, 3]] * 4


@pytest.mark.parametrize("sampling", SHARES)
def test_shares_that_do_not_divide_come_out_over_the_epochs(sampling):
  """Never more than one example from its share, after any number of epochs."""
  labels = np.repeat(range(4), (9, 1, 4, 2))
  weights = np.array([SHARES[sampling](count) for count in (9, 1, 4, 2)])
  made = order(sampling, labels)
  counts = np.cumsum([np.bincount(labels[made.epoch(epoch)], minlength=4) for epoch in range(30)], axis=0)
  expected = 16 * np.arange(1, 31)[:, None] * weights / weights.sum()
  assert abs(counts - expected).max() <= 1
  assert (counts.sum(1) == 16 * np.arange(1, 31)).all()


@pytest.mark.parametrize("sampling", SHARES)
def test_every_example_of_a_class_is_used_before_one_repeats(sampling):
  drawn = stream(order(sampling), 12)
  for index, count in enumerate(COUNTS):
    own = drawn[LABELS[drawn] == index]
    passes = [own[first : first + count] for first in range(0, len(own), max(count, 1))]
    assert all(len(set(passed)) == len(passed) for passed in passes)
    if count > 1:
      assert len({tuple(passed) for passed in passes if len(passed) == count}) > 1  # each in another order


def test_epochs_are_shuffled_and_differ_by_seed():
  drawn = stream(order(), 2).reshape(2, 21)
  assert (np.diff(LABELS[drawn[0]]) < 0).any()
  assert drawn[0].tolist() != drawn[1].tolist()
  assert stream(order(seed=1), 1).tolist() != drawn[0].tolist()


def test_the_order_of_one_seed_is_pinned():
  assert order(labels=[0, 0, 0, 0, 2, 3]).epoch(0).tolist() == [5, 4, 1, 4, 5, 2]
  assert order(labels=[0, 0, 0, 0, 2, 3]).epoch(1).tolist() == [5, 4, 0, 3, 4, 5]


def test_any_position_is_found_without_those_before_it():
  whole = stream(order("square_root"), 6)
  for position in (125, 0, 64, 21, 20):
    assert order("square_root")[position] == whole[position]
  made = order("square_root")
  assert [made[position] for position in reversed(range(126))] == whole[::-1].tolist()
  assert pickle.loads(pickle.dumps(made))[77] == whole[77]


class Stored:
  """A source of made-up features that can all be read."""

  def __init__(self, dataset):
    self.dataset = dataset

  def draw(self, index, rng):
    return {"motion": np.full(2, rng.random(), np.float32)}, self.dataset.examples[index].labels

  def empty(self):
    return {"motion": np.zeros(2, np.float32)}


def test_batches_of_any_source_follow_the_order_of_the_named_label():
  loading = DataConfig(global_batch=7, frames=1, size=1, short_side=0, sampling="balanced")
  batches = train_batches(Stored(dataset_of(LABELS)), loading, 0, label="action")
  index, drawn = (
    np.concatenate(column)
    for column in zip(*((b["index"], b["motion"]) for b, _ in zip(batches, range(6), strict=False)), strict=True)
  )
  batches.close()
  assert index.tolist() == stream(order(), 2).tolist()
  once = drawn[index == 20, 0]
  assert len(once) == len(set(once.tolist())) == 14  # the same example 7 times an epoch, changed each time


def test_it_has_no_end():
  made = order()
  assert len(made) > 10**18 and len(made) % 21 == 0
  assert made[10**15] in range(21)


def test_the_first_label_counts_where_none_is_named():
  made = ClassOrder(dataset_of([0, 0, 0, 2]), None, "balanced", 0)  # "kind": all of one class
  assert sorted(made.epoch(0).tolist()) == [0, 1, 2, 3]


def test_examples_without_the_label_are_refused():
  with pytest.raises(
    DataError, match=r"config.data.sampling = 'balanced' needs the class of every example: 2 of 4.*no action"
  ):
    order(labels=[0, None, 2, None])
