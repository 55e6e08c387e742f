import jax
import jax.numpy as jnp
import numpy as np

from gasmcast.fusion.merge import TokenMerge, children

GRID = jnp.arange(24.0).reshape(1, 1, 24, 1)  # rows 0..3 of 6 columns


def test_children_of_the_squares():
  squares = children(GRID, (4, 6))
  assert squares.shape == (1, 1, 6, 4, 1)
  np.testing.assert_array_equal(squares[0, 0, :2, :, 0], [[0, 1, 6, 7], [2, 3, 8, 9]])
  np.testing.assert_array_equal(squares[0, 0, 3, :, 0], [12, 13, 18, 19])  # the second row of squares


def test_is_the_mean_at_the_start():
  x = np.random.default_rng(0).normal(size=(2, 3, 24, 5)).astype(np.float32)
  (y, weights), variables = jax.jit(TokenMerge((4, 6)).init_with_output)(jax.random.key(1), x)
  np.testing.assert_allclose(y, children(x, (4, 6)).mean(-2), atol=1e-6)
  np.testing.assert_array_equal(weights, np.full((2, 3, 6, 4), 0.25))
  assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 3 * 5


def test_a_high_score_chooses_one_child():
  """With u along the first channel, the child whose first channel is largest takes (nearly) all."""
  x = np.random.default_rng(0).normal(size=(1, 1, 4, 8)).astype(np.float32)
  params = {"norm": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}, "score": {"kernel": jnp.eye(8, 1) * 100}}
  y, weights = jax.jit(TokenMerge((2, 2)).apply)({"params": params}, x)
  standard = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
  best = int(standard[0, 0, :, 0].argmax())
  assert weights[0, 0, 0, best] > 0.99
  np.testing.assert_allclose(y[0, 0, 0], x[0, 0, best], atol=0.05)
