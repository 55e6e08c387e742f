"""What smaller features lose, in numbers that can be redone by hand."""

import math

import numpy as np
import pytest

from gasmcast.metrics.fidelity import answers, cosines, lost_by_pooling, lost_by_storing, moments, spread
from gasmcast.store.compression import pool_tokens


def test_the_cosine_of_each_token():
  """45 degrees, opposite, the same direction, nothing twice, nothing once."""
  reference = np.array([[[1.0, 0], [3, 4], [1, 2]], [[0, 0], [0, 0], [5, 0]]], np.float32)
  other = np.array([[[2.0, 2], [-3, -4], [10, 20]], [[0, 0], [1, 0], [0, 0]]], np.float32)
  np.testing.assert_allclose(cosines(reference, other), [math.sqrt(0.5), -1, 1, 1, 0, 0], atol=1e-12)


def test_the_cosine_knows_no_length_and_no_overflow():
  tiny = np.full((1, 4), 1e-30, np.float32)
  assert cosines(tiny, tiny * np.float32(1e30)) == pytest.approx([1])
  assert cosines(tiny * np.float32(1e38), tiny * np.float32(1e38) * np.float32(1e30)) == pytest.approx([1])


def test_the_spread_of_a_hundred_and_one_values():
  """0, 1, ... 100 in any order: the 1st percentile is 1."""
  values = np.random.default_rng(0).permutation(101).astype(float)
  assert spread(values) == {"mean": 50, "p1": 1, "min": 0}


def test_moments_add_up():
  """(1, 0), (3, 0), (2, 2), (2, -2) about (2, 0): squared distances 1, 1, 4, 4."""
  x = np.array([[1.0, 0], [3, 0], [2, 2], [2, -2]])
  assert moments(x).variance == pytest.approx(2.5)
  both = moments(x[:1]) + moments(x[1:])
  assert (both.count, both.total.tolist(), both.squares) == (4, [8, 0], 26)
  assert both.variance == pytest.approx(2.5)


def test_what_pooling_loses_is_the_variance_within_the_groups():
  """Groups (0, 2) and (10, 12): means 1 and 11, variance 25 of 26, so 1/26 is lost; into one token, all of it."""
  x = np.array([[0.0], [2], [10], [12]])
  assert lost_by_pooling(moments(x), moments(np.array([[1.0], [11]]))) == pytest.approx(1 / 26)
  assert lost_by_pooling(moments(x), moments(x.mean(0, keepdims=True))) == pytest.approx(1)
  assert lost_by_pooling(moments(x), moments(x)) == 0
  assert lost_by_pooling(moments(x * 0), moments(x * 0)) == 0


def test_what_pooling_loses_is_the_error_of_putting_the_means_back():
  x = np.random.default_rng(0).standard_normal((3, 2, 16, 5)).astype(np.float32)
  pooled = pool_tokens(x, 4)
  blocks = pooled.reshape(3, 2, 2, 1, 2, 1, 5)
  back = np.broadcast_to(blocks, (3, 2, 2, 2, 2, 2, 5)).reshape(x.shape)
  error = np.square(x - back).sum() / np.square(x - x.reshape(-1, 5).mean(0)).sum()
  assert lost_by_pooling(moments(x), moments(pooled)) == pytest.approx(error, rel=1e-5)


def test_what_storing_loses_is_the_error_as_a_share_of_the_variance():
  x = np.array([[0.0, 0], [0, 4]])  # variance 4
  assert lost_by_storing(2.0, moments(x)) == pytest.approx(0.25)
  assert lost_by_storing(0.0, moments(x * 0)) == 0
  assert lost_by_storing(1.0, moments(x * 0)) is None


def test_what_a_classifier_answers():
  """Probabilities (3/4, 1/4), (1/2, 1/2), (1/4, 3/4) become (1/4, 3/4), (1/2, 1/2), (1/4, 3/4)."""
  third = math.log(3)
  reference = np.array([[third, 0], [5, 5], [0, third]], np.float32)
  logits = np.array([[0, third], [-900, -900], [1000, 1000 + third]])
  found = answers(reference, logits, np.array([0, 0, 0]))
  assert found == {
    "top1_reference": pytest.approx(2 / 3),
    "top1": pytest.approx(1 / 3),
    "agreement": pytest.approx(2 / 3),
    "probability_difference": pytest.approx(1 / 6),
  }
