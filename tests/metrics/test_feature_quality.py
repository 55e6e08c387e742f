"""Numbers of features that can be redone by hand."""

import math

import numpy as np
import pytest

from gasmcast.metrics.feature_quality import (
  effective_rank,
  held_still,
  pixel_change,
  relative_change,
  self_similarity,
  statistics,
)


def test_statistics_of_four_vectors():
  features = np.array([[[3.0, 4.0, 7.0], [-3.0, 4.0, 7.0]], [[0.0, 4.0, 7.0], [0.0, 4.0, 7.0]]], np.float32)
  found = statistics(features)
  assert found["shape"] == [2, 2, 3] and found["finite"]
  assert found["mean"] == pytest.approx(44 / 12)
  assert (found["min"], found["max"], found["constant_channels"]) == (-3, 7, 2)
  assert found["norm"] == pytest.approx((2 * math.sqrt(74) + 2 * math.sqrt(65)) / 4)
  assert found["std"] == pytest.approx(math.sqrt((9 + 9 + 4 * 16 + 4 * 49) / 12 - (44 / 12) ** 2))
  assert found["effective_rank"] == pytest.approx(1)


def test_values_that_are_not_finite_are_said_and_not_averaged():
  features = np.ones((2, 3))
  features[1, 2] = np.nan
  assert statistics(features) == {"shape": [2, 3], "finite": False}


def test_the_effective_rank_counts_directions_that_vary_equally():
  """Corners of a cube in 3 of 5 dimensions; with one axis shrunk to nothing, of a square."""
  corners = np.array([[x, y, z, 5, 5] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
  assert effective_rank(corners) == pytest.approx(3)
  assert effective_rank(corners * [1, 1, 0, 1, 1]) == pytest.approx(2)
  assert effective_rank(corners[:, :3]) == pytest.approx(3)  # as many channels as directions
  assert effective_rank(np.ones((4, 2))) == 0


def test_the_effective_rank_weighs_by_singular_values():
  """Singular values 3 and 1: shares 3/4 and 1/4."""
  vectors = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
  assert effective_rank(vectors) == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))


def test_self_similarity_is_the_cosine():
  matrix = self_similarity(np.array([[1.0, 0], [5, 5], [0, -2], [0, 0]]))
  half = math.sqrt(0.5)
  np.testing.assert_allclose(matrix, [[1, half, 0, 0], [half, 1, -half, 0], [0, -half, 1, 0], [0, 0, 0, 0]], atol=1e-12)


def test_relative_change():
  features = np.array([[3.0, 0], [0, 4]])
  assert relative_change(features + np.array([[0, 0], [1, 0]]), features) == pytest.approx(1 / 5)
  assert relative_change(np.zeros((2, 2)), np.zeros((2, 2))) == 0


def grey(*levels):
  return np.array(levels, np.uint8)[:, None, None, None] * np.ones((2, 2, 3), np.uint8)


def test_pixel_change_counts_where_it_arrives():
  """Frames 10, 20, 250, 250: +10 arrives in segment 1, 230 and 0 in segment 2; brightening or darkening is the same."""
  assert pixel_change(grey(10, 20, 250, 250), 2).tolist() == [10, 115]
  assert pixel_change(grey(250, 20, 10, 10), 1).tolist() == [80]


def test_pixel_change_needs_two_frames_a_segment():
  with pytest.raises(ValueError, match="4 frames have no 3 segments of two or more"):
    pixel_change(grey(1, 2, 3, 4), 3)


@pytest.mark.parametrize(
  ("segment", "levels"), [(0, (3, 3, 3, 4, 5, 6)), (1, (1, 2, 2, 2, 5, 6)), (2, (1, 2, 3, 4, 4, 4))]
)
def test_a_segment_is_held_at_the_frame_before_it(segment, levels):
  frames = grey(1, 2, 3, 4, 5, 6)
  np.testing.assert_array_equal(held_still(frames, segment, 3), grey(*levels))
  np.testing.assert_array_equal(frames, grey(1, 2, 3, 4, 5, 6))


def test_a_clip_of_one_segment_is_held_at_its_first_frame():
  np.testing.assert_array_equal(held_still(grey(1, 2, 3), 0, 1), grey(1, 1, 1))
