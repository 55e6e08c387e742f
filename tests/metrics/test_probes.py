"""Linear probes: what a line can separate they separate, on the scale of any feature."""

import importlib.util
import sys

import numpy as np
import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.metrics.probes import linear_probe

needs_sklearn = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")


def clouds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Three clouds of points at (0, 0), (8, 0), (0, 8), of standard deviation 1, and their numbers."""
  rng = np.random.default_rng(seed)
  labels = np.arange(count) % 3
  return np.array([(0, 0), (8, 0), (0, 8)])[labels] + rng.normal(size=(count, 2)), labels


@needs_sklearn
def test_clouds_far_apart_are_told_from_each_other():
  train, labels = clouds(60, seed=0)
  test, answers = clouds(60, seed=1)
  np.testing.assert_array_equal(linear_probe(train, labels, test, 1.0), answers)


@needs_sklearn
def test_the_scale_and_the_place_of_a_feature_do_not_matter():
  train, labels = clouds(60, seed=2)
  test, _ = clouds(200, seed=3)
  plain = linear_probe(train, labels, test, 0.1)
  stretch = lambda x: x * np.array([1000.0, 0.001]) + np.array([-7.0, 50.0])
  np.testing.assert_array_equal(linear_probe(stretch(train), labels, stretch(test), 0.1), plain)


@needs_sklearn
def test_a_strong_penalty_leaves_the_most_frequent_class():
  train, labels = clouds(60, seed=4)
  often = np.concatenate([train, train[labels == 1], train[labels == 1]])
  names = np.concatenate([labels, np.ones(40, np.int64)])
  assert set(linear_probe(often, names, train, 1e-9).tolist()) == {1}


@needs_sklearn
def test_examples_of_one_class_are_refused():
  train, _ = clouds(4, seed=5)
  with pytest.raises(
    DataError, match=r"^all 4 examples of a linear probe are of class 2; it needs two classes or more"
  ):
    linear_probe(train, np.full(4, 2), train, 1.0)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
  for name in ("sklearn", "sklearn.linear_model"):
    monkeypatch.setitem(sys.modules, name, None)
  train, labels = clouds(6, seed=6)
  with pytest.raises(
    ConfigError, match=r'^linear probes need scikit-learn; pip install -e "\.\[report\]" brings it\.$'
  ):
    linear_probe(train, labels, train, 1.0)
