import json

import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.metrics.feature_quality import effective_rank
from gasmcast.metrics.feature_statistics import (
  EDGES,
  covariance,
  drift,
  empty,
  frechet_distance,
  merge,
  participation_ratio,
  summarize,
  update,
)

NAN, INF = float("nan"), float("inf")
ROWS = np.array([[1.0, 0.0, 5.0], [3.0, 0.0, NAN], [5.0, 0.0, -INF], [7.0, 0.0, 9.0]])


def drawn(rows, width=4, seed=0):
  return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def test_numbers_by_hand():
  found = summarize(update(empty(3, edges=(0, 4)), ROWS))
  assert found["rows"] == 4
  assert found["channels"] == {
    "mean": [4.0, 0.0, 7.0],
    "variance": [5.0, 0.0, 4.0],  # (9 + 1 + 1 + 9) / 4 and (4 + 4) / 2
    "min": [1.0, 0.0, 5.0],
    "max": [7.0, 0.0, 9.0],
    "zero_share": [0.0, 1.0, 0.0],
    "nonfinite_share": [0.0, 0.0, 0.5],
  }
  assert found["histogram"] == {"edges": [0.0, 4.0], "counts": [0, 6, 4]}  # 0 0 0 0 1 3 | 5 7 5 9
  assert (found["mean"], found["min"], found["max"]) == (3.0, 0.0, 9.0)
  assert found["std"] == pytest.approx(np.sqrt(10.0))  # squares 1 9 25 49 25 81 are 190 / 10 - 9
  assert (found["zero_share"], found["nonfinite_share"]) == (0.4, 2 / 12)
  assert (found["constant_channels"], found["dead_channels"]) == (1, 1)
  json.dumps(found, allow_nan=False)


def test_bins_are_half_open_and_the_outer_ones_have_no_end():
  values = np.array([[-9.0], [-2.0], [-1.0], [0.0], [0.5], [1.0], [1e30]])
  found = update(empty(1, edges=(-2, 0, 1)), values)
  assert found["counts"].tolist() == [1, 2, 2, 2]  # -9 | -2 -1 | 0 0.5 | 1 1e30


def test_the_standard_edges_part_zero_from_the_smallest_numbers():
  found = update(None, np.array([[0.0, -1e-9, 2.0**-11, 1.0, 1.5, 2000.0]]).T)["counts"]
  middle = EDGES.index(0.0)
  assert len(found) == len(EDGES) + 1 == 44
  assert found[middle] == 1 and found[middle + 1] == 2  # the negative one; 0 and 2**-11
  assert found[EDGES.index(1.0) + 1] == 2 and found[-1] == 1


@pytest.mark.parametrize("parts", [1, 2, 7, 50])
def test_however_rows_are_batched_and_merged_the_numbers_are_the_same(parts):
  rows = drawn(50)
  rows[3, 1], rows[20, :] = NAN, INF
  whole = update(None, rows)
  pieces = [update(None, part) for part in np.array_split(rows, parts)]
  growing = None
  for part in np.array_split(rows, parts):
    growing = update(growing, part)
  left, right = pieces[0], pieces[-1]
  for piece in pieces[1:]:
    left = merge(left, piece)
  for piece in pieces[-2::-1]:
    right = merge(piece, right)
  for other in (growing, left, right):
    assert other.keys() == whole.keys()
    for name in ("rows", "complete", "finite", "zeros", "min", "max", "edges", "counts"):
      np.testing.assert_array_equal(other[name], whole[name], name)
    for name in ("sum", "squares", "complete_sum", "products"):
      np.testing.assert_allclose(other[name], whole[name], rtol=1e-12, atol=1e-12)


def test_sums_that_need_no_rounding_merge_to_the_same_bits():
  rows = np.random.default_rng(1).integers(-64, 64, (10_000, 3)) / 8  # more than one piece of rows inside
  whole, parts = update(None, rows), [update(None, part) for part in np.array_split(rows, 13)]
  merged = parts[5]
  for number in (12, 0, 7, 1, 11, 2, 6, 3, 10, 4, 9, 8):
    merged = merge(parts[number], merged)
  for name, array in whole.items():
    np.testing.assert_array_equal(merged[name], array, name)
  np.testing.assert_allclose(covariance(whole)[1], np.cov(rows.T, bias=True))


def test_nothing_is_changed_in_place():
  sums = update(None, drawn(5))
  before = {name: array.copy() for name, array in sums.items()}
  update(sums, drawn(5, seed=1))
  merge(sums, update(None, drawn(5, seed=2)))
  for name, array in sums.items():
    np.testing.assert_array_equal(array, before[name])


def test_leading_axes_are_rows_and_other_types_are_converted():
  features = drawn(24).reshape(2, 3, 4, 4)
  np.testing.assert_array_equal(update(None, features)["products"], update(None, features.reshape(24, 4))["products"])
  half = update(None, features.astype(np.float16))
  assert half["rows"] == 24 and half["sum"].dtype == np.float64


def test_a_large_mean_does_not_hide_a_small_variance():
  rows = (1000 + drawn(20_000, 2) / 10).astype(np.float32)
  found = summarize(update(None, rows))["channels"]["variance"]
  np.testing.assert_allclose(found, rows.astype(np.float64).var(0), rtol=1e-6)


def test_sums_survive_a_file(tmp_path):
  sums = update(None, drawn(9))
  np.savez(tmp_path / "sums.npz", **sums)
  with np.load(tmp_path / "sums.npz") as file:
    assert summarize(dict(file)) == summarize(sums)


def test_without_rows_or_finite_values_there_are_no_numbers():
  for sums in (empty(2), update(None, np.full((3, 2), NAN))):
    found = summarize(sums)
    assert found["mean"] is None and found["channels"]["variance"] == [None, None]
    assert found["participation_ratio"] is None
    assert (found["constant_channels"], found["dead_channels"]) == (0, 0)
    json.dumps(found, allow_nan=False)
  assert summarize(empty(2))["nonfinite_share"] is None
  assert found["nonfinite_share"] == 1.0
  assert summarize(update(None, np.empty((0, 3))))["rows"] == 0


def test_rows_that_are_not_finite_throughout_are_in_no_covariance():
  mean, matrix = covariance(update(None, ROWS))
  np.testing.assert_array_equal(mean, [4, 0, 7])  # of the first and the last row
  np.testing.assert_array_equal(matrix, [[9, 0, 6], [0, 0, 0], [6, 0, 4]])


def test_participation_ratio_by_hand():
  corners = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]) + 7.0
  assert participation_ratio(update(None, corners)) == pytest.approx(2)
  stretched = corners * [3, 1, 1]  # variances 9 : 1, so 100 / 82
  assert participation_ratio(update(None, stretched)) == pytest.approx(100 / 82)
  assert participation_ratio(update(None, np.full((5, 3), 0.1))) == 0
  assert participation_ratio(update(None, stretched)) < effective_rank(stretched)


def test_frechet_distance_by_hand():
  first = np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]])  # variances 1/2 and 2
  second = first[:, ::-1] + [3, 4]  # variances 2 and 1/2
  expected = 25 + 2 * (2**0.5 - 0.5**0.5) ** 2  # diagonal covariances: squared differences of standard deviations
  assert frechet_distance(update(None, first), update(None, second)) == pytest.approx(expected)
  assert frechet_distance(update(None, second), update(None, first)) == pytest.approx(expected)


def test_frechet_distance_of_covariances_that_do_not_commute():
  a, b = update(None, drawn(500) @ drawn(4, seed=5)), update(None, drawn(500, seed=1) @ drawn(4, seed=6))
  values = np.linalg.eigvals(covariance(a)[1] @ covariance(b)[1])
  (mean, one), (other_mean, other) = covariance(a), covariance(b)
  expected = ((mean - other_mean) ** 2).sum() + np.trace(one + other) - 2 * np.sqrt(values.real).sum()
  assert frechet_distance(a, b) == pytest.approx(expected)


def test_the_same_features_have_no_distance():
  few = update(None, drawn(3, 8))  # fewer rows than channels: a singular covariance
  assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
  assert drift(few, few) == {"frechet": pytest.approx(0, abs=1e-6), "mean_shift": 0.0, "histogram": 0.0}


def test_drift_by_hand():
  before = update(empty(2, edges=(0,)), np.array([[1.0, 5], [-1, 5], [1, 5], [-1, 5]]))
  after = update(empty(2, edges=(0,)), np.array([[3.0, 5], [1, 5]]))
  found = drift(before, after)  # means 0 and 2, both with variance 1; the second channel is constant
  assert found == {"frechet": pytest.approx(4), "mean_shift": 2.0, "histogram": 0.25}  # 2 of 8 values were below 0
  plain = [update(empty(2, (0,), covariance=False), drawn(5, 2, seed)) for seed in (0, 1)]
  assert drift(*plain)["frechet"] is None
  constant = update(None, np.ones((3, 2)))
  assert drift(constant, update(None, drawn(5, 2)))["mean_shift"] is None


def test_without_covariance_the_matrix_is_left_out():
  sums = update(empty(4, covariance=False), drawn(10))
  assert "products" not in sums
  assert summarize(sums)["participation_ratio"] is None
  assert summarize(sums)["channels"] == summarize(update(None, drawn(10)))["channels"]


def test_what_does_not_fit_together_is_refused():
  sums = update(None, drawn(5))
  with pytest.raises(DataError, match="features of width 3 can't be added to sums of width 4"):
    update(sums, drawn(5, 3))
  with pytest.raises(DataError, match="sums of widths 4 and 3 can't be merged"):
    merge(sums, update(None, drawn(5, 3)))
  with pytest.raises(DataError, match="histograms have other edges"):
    merge(sums, empty(4, edges=(0, 1)))
  with pytest.raises(DataError, match="with and without covariance"):
    drift(sums, empty(4, covariance=False))
  with pytest.raises(DataError, match="made without covariance"):
    frechet_distance(sums, empty(4, covariance=False))
  with pytest.raises(DataError, match="1 of 2 rows of features are finite throughout; a covariance needs 2"):
    participation_ratio(update(None, np.array([[1.0, 2], [NAN, 2]])))
  with pytest.raises(DataError, match="features of widths 4 and 3 can't be compared"):
    frechet_distance(sums, update(None, drawn(5, 3)))
  with pytest.raises(DataError, match="without a finite value"):
    drift(sums, empty(4))
  for width, edges in ((0, (0,)), (2, ()), (2, (1, 0)), (2, (1, 1))):
    with pytest.raises(ValueError, match="a channel and rising edges are needed"):
      empty(width, edges)
