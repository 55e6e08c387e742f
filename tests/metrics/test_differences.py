import math

import numpy as np
import pytest
from scipy import stats

from gasmcast.core.errors import ConfigError
from gasmcast.metrics.differences import exceeds, mean_and_deviation, paired


def test_mean_and_deviation_by_hand():
  assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
  assert mean_and_deviation([0.5]) == (0.5, 0.0)


def test_paired_by_hand():
  """Differences 1, 2, 3: mean 2, deviation 1, and Student's t of two degrees of freedom is 4.3027."""
  difference = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
  assert difference.mean == 2.0
  assert difference.high - 2.0 == pytest.approx(4.30265 / math.sqrt(3), abs=1e-4)
  assert difference.low == pytest.approx(4.0 - difference.high)
  assert not difference.clear and paired([2.0, 2.1, 2.2], [1.0, 1.1, 1.2]).clear


def test_what_pairs_share_cancels():
  a, b = [0.5, 0.7, 0.9], [0.4, 0.6, 0.8]
  difference = paired(a, b)
  assert difference.low == pytest.approx(0.1) and difference.high == pytest.approx(0.1)


def test_one_pair_says_nothing_of_chance():
  difference = paired([0.9], [0.4])
  assert difference.mean == 0.5 and difference.low == -math.inf and difference.high == math.inf
  assert not difference.clear


def test_the_interval_is_that_of_scipy_and_holds_the_truth_in_19_of_20_cases():
  rng, held = np.random.default_rng(0), 0
  for _ in range(500):
    a, b = rng.normal(0.3, 1, 4), rng.normal(0, 1, 4)
    difference = paired(a, b)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    np.testing.assert_allclose((difference.low, difference.high), expected, rtol=1e-9)
    held += difference.low <= 0.3 <= difference.high
  assert 460 <= held <= 490


def test_a_ceiling_is_exceeded_beyond_three_standard_errors():
  """At 1/2 of 100 examples a standard error is 5 %."""
  assert not exceeds(0.64, 0.5, 100) and exceeds(0.66, 0.5, 100)
  assert exceeds(0.51, 0.5, 100_000) and not exceeds(1.0, 1.0, 10)


def test_unequal_or_no_values_are_refused():
  with pytest.raises(ConfigError, match="2 values can't be paired with 1"):
    paired([1.0, 2.0], [1.0])
  with pytest.raises(ConfigError, match="the mean of no values"):
    mean_and_deviation([])
