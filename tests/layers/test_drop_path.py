import jax
import jax.numpy as jnp
import numpy as np

from gasmcast.layers.drop_path import DropPath

X = jnp.ones((1000, 2, 3))


def test_examples_are_kept_or_dropped_whole_and_scaled():
  y = np.asarray(DropPath(0.75).apply({}, X, train=True, rngs={"dropout": jax.random.key(0)}))
  per_example = y.reshape(1000, -1)
  assert set(np.unique(y)) == {0.0, 4.0}  # 1 / (1 - 0.75)
  np.testing.assert_array_equal(per_example.min(1), per_example.max(1))
  assert abs(y.mean() - 1) < 0.2  # the mean stays; its standard deviation is sqrt(3 / 1000) = 0.055


def test_nothing_happens_in_evaluation_or_at_rate_zero():
  np.testing.assert_array_equal(DropPath(0.75).apply({}, X, train=False), X)
  np.testing.assert_array_equal(DropPath(0.0).apply({}, X, train=True), X)
