"""Weights of classes, by hand and as scikit-learn and the paper have them."""

import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.systems.class_weights import class_weights


def test_none_is_no_weight():
  assert class_weights((), "none", 0.9) is None


def test_inverse_by_hand():
  """90 and 10 examples: together they weigh 50 each."""
  np.testing.assert_allclose(class_weights((90, 10), "inverse", 0.9), [50 / 90, 50 / 10], rtol=1e-6)


def test_effective_by_hand():
  """beta = 0.5: 1 and 3 examples are effectively 1 and 1.75; 4 / (1/1 + 3/1.75) of their inverses."""
  factor = 4 / (1 + 3 / 1.75)
  np.testing.assert_allclose(class_weights((1, 3), "effective", 0.5), [factor, factor / 1.75], rtol=1e-6)


@pytest.mark.parametrize("kind", ["inverse", "effective"])
@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_the_mean_over_the_examples_is_1_and_rare_classes_weigh_more(kind, beta):
  counts = np.array([500, 20, 1, 0, 79])
  weights = class_weights(tuple(counts), kind, beta)
  assert weights.dtype == np.float32 and weights[3] == 1
  assert np.average(weights, weights=counts) == pytest.approx(1, rel=1e-6)
  assert (np.diff(weights[[0, 4, 1, 2]]) >= 0).all()


def test_the_ends_of_beta():
  counts = (30, 7, 2)
  np.testing.assert_array_equal(class_weights(counts, "effective", 0.0), np.ones(3))
  inverse = class_weights(counts, "inverse", 0.0)
  np.testing.assert_allclose(class_weights(counts, "effective", 1 - 1e-9), inverse, rtol=1e-5)


def test_inverse_is_what_scikit_learn_calls_balanced():
  module = pytest.importorskip("sklearn.utils.class_weight", reason="compares with scikit-learn")
  labels = np.repeat([0, 1, 2, 4], [5, 11, 2, 7])  # nothing of class 3
  expected = module.compute_class_weight("balanced", classes=np.array([0, 1, 2, 4]), y=labels)
  np.testing.assert_allclose(class_weights(np.bincount(labels), "inverse", 0.9)[[0, 1, 2, 4]], expected, rtol=1e-6)


@pytest.mark.parametrize("counts", [(), (0, 0)])
def test_weights_without_examples_are_refused(counts):
  with pytest.raises(ConfigError, match=r"config.model.class_weights = 'inverse' needs the number of examples of each"):
    class_weights(counts, "inverse", 0.9)
