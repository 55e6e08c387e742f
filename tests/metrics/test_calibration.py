import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.metrics import calibration
from gasmcast.metrics.sums import merge

SUMS = jax.jit(calibration.sums)


def measure(probabilities, labels, counted=None):
  counted = np.ones(len(labels), bool) if counted is None else np.asarray(counted)
  batch = SUMS(jnp.asarray(probabilities, jnp.float32), jnp.asarray(labels), counted)
  return merge(None, batch)


# confidences .9 (right), .9 (wrong) and .6 (right)
THREE = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]], [0, 1, 1]


def test_bins_by_hand():
  total = measure(*THREE)
  count = np.zeros(15)
  count[13], count[8] = 2, 1  # .9 lies in (13/15, 14/15], .6 = 9/15 in (8/15, 9/15]
  np.testing.assert_array_equal(total["count"], count)
  assert total["correct"][13] == 1
  assert total["confidence"][13] == pytest.approx(1.8)


def test_numbers_by_hand():
  numbers = calibration.summarize(measure(*THREE))
  assert numbers["ece"] == pytest.approx((abs(1 - 1.8) + abs(1 - 0.6)) / 3, abs=1e-6)
  assert numbers["mce"] == pytest.approx(0.4, abs=1e-6)  # both bins: |.5 - .9| and |1 - .6|
  # (.1^2 + .1^2), (.9^2 + .9^2), (.4^2 + .4^2)
  assert numbers["brier"] == pytest.approx((0.02 + 1.62 + 0.32) / 3, abs=1e-6)


def test_certainty_is_in_the_last_bin():
  total = measure([[1.0, 0.0], [0.0, 1.0]], [0, 0])
  assert (total["count"][14], total["correct"][14], total["brier"]) == (2, 1, 2)


def test_brier_and_ece_of_extremes():
  right = calibration.summarize(measure([[1.0, 0.0]], [0]))
  wrong = calibration.summarize(measure([[1.0, 0.0]], [1]))
  assert right == {"ece": 0.0, "mce": 0.0, "brier": 0.0}
  assert wrong == {"ece": 1.0, "mce": 1.0, "brier": 2.0}


def test_rows_that_do_not_count_may_hold_anything():
  probabilities, labels = THREE
  padded = measure([*probabilities, [np.nan, np.nan]], [*labels, -1], [True, True, True, False])
  jax.tree.map(np.testing.assert_array_equal, padded, measure(probabilities, labels))


def test_any_split_merges_to_the_whole():
  generator = np.random.default_rng(0)
  probabilities = generator.dirichlet(np.ones(4), 10)
  labels = generator.integers(0, 4, 10)
  whole = measure(probabilities, labels)
  for cut in (1, 5, 9):
    parts = merge(measure(probabilities[:cut], labels[:cut]), measure(probabilities[cut:], labels[cut:]))
    np.testing.assert_array_equal(parts["count"], whole["count"])
    np.testing.assert_array_equal(parts["correct"], whole["correct"])
    np.testing.assert_allclose(parts["confidence"], whole["confidence"], rtol=1e-6)
    np.testing.assert_allclose(parts["brier"], whole["brier"], rtol=1e-6)
