"""Folds: no group is divided, sizes and classes are about equal, and a seed tells one division from another."""

import collections

import numpy as np
import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.datasets.folds import grouped_folds


def test_the_largest_group_comes_first_and_each_goes_where_its_classes_are_fewest():
  """Group a of three clips fills one fold; b, the next one, the other; c and d, one clip each, both go to b's."""
  labels, groups = [0, 0, 0, 0, 0, 0, 0], ["a", "a", "a", "b", "b", "c", "d"]
  folds = grouped_folds(labels, groups, 2, seed=0).tolist()
  assert folds[:3] == [0, 0, 0] and folds[3:5] == [1, 1]
  assert sorted(folds[5:]) == [0, 1]  # c makes it 3 and 3, so d goes to the first of two equal ones


def test_classes_are_spread_before_sizes_are_evened():
  """Two groups of class 0 and two of class 1: one of each in each fold."""
  folds = grouped_folds([0, 0, 1, 1], ["a", "b", "c", "d"], 2, seed=3)
  assert folds[0] != folds[1] and folds[2] != folds[3]


@pytest.mark.parametrize("seed", range(8))
def test_no_group_is_divided_and_folds_are_balanced(seed):
  """Random groups of 1 to 4 clips of one class each: the folds differ by less than the largest group, per class."""
  rng = np.random.default_rng(seed)
  labels, groups = [], []
  for group in range(60):
    size = int(rng.integers(1, 5))
    groups += [f"film {group}"] * size
    labels += [group % 3] * size
  folds = grouped_folds(labels, groups, 5, seed)
  found = collections.defaultdict(set)
  for group, fold in zip(groups, folds.tolist(), strict=True):
    found[group].add(fold)
  assert all(len(one) == 1 for one in found.values())
  for label in range(3):
    counts = np.bincount(folds[np.array(labels) == label], minlength=5)
    assert counts.sum() == labels.count(label) and counts.max() - counts.min() <= 4, counts


def test_every_fold_has_a_group_even_where_each_is_of_a_class_of_its_own():
  assert sorted(grouped_folds([0, 1, 2, 3], ["a", "b", "c", "d"], 4, seed=1).tolist()) == [0, 1, 2, 3]


def test_a_seed_gives_the_same_division_again_in_whatever_order_groups_are_named():
  groups = [f"film {i}" for i in range(30)]
  labels = [i % 2 for i in range(30)]
  first = grouped_folds(labels, groups, 3, seed=5)
  np.testing.assert_array_equal(grouped_folds(labels, groups, 3, seed=5), first)
  np.testing.assert_array_equal(grouped_folds(labels[::-1], groups[::-1], 3, seed=5)[::-1], first)
  assert (grouped_folds(labels, groups, 3, seed=6) != first).any()


def test_what_cannot_be_divided_is_refused():
  with pytest.raises(ConfigError, match=r"^folds = 1: at least 2 are needed\.$"):
    grouped_folds([0, 1], ["a", "b"], 1, 0)
  with pytest.raises(DataError, match=r"^2 of 3 examples have no group, so folds could share a source; name the gro"):
    grouped_folds([0, 1, 0], ["a", "", ""], 2, 0)
  with pytest.raises(DataError, match=r"^2 groups can't be divided into 3 folds; use 2 folds or fewer\.$"):
    grouped_folds([0, 1, 0], ["a", "b", "a"], 3, 0)
  with pytest.raises(DataError, match=r"^0 groups can't be divided into 2 folds"):
    grouped_folds([], [], 2, 0)
