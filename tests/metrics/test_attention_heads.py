"""Heads drawn by hand: uniform, one-hot, alive."""

import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.metrics.attention_heads import idle, summaries

UNIFORM, ONE_HOT, ALIVE = (0.25, 0.25, 0.25, 0.25), (0.0005, 0.0005, 0.9985, 0.0005), (0.5, 0.25, 0.125, 0.125)


def judged(attention):
  return idle({name: np.asarray(leaf) for name, leaf in summaries(attention).items()})


def test_entropy_is_a_share_of_the_largest_possible():
  # (1/2 + 2/4 + 3/8 + 3/8) ln 2 = 1.75 ln 2 of ln 4 = 2 ln 2.
  found = summaries({"pool": jnp.array([[ALIVE, UNIFORM]])})["pool"]
  np.testing.assert_allclose(found, [[[0.875, 0.5], [1.0, 0.25]]], rtol=1e-6)


def test_uniform_and_one_hot_heads_are_named():
  weights = jnp.array([[[ALIVE] * 3, [UNIFORM] * 3, [ONE_HOT] * 3, [UNIFORM] * 3]])  # [1, 4, 3, 4]
  assert judged({"bcast_1": {"motion_to_semantic": weights}}) == (
    "bcast_1/motion_to_semantic: 2 of 4 heads attend to all tokens alike (2, 4).",
    "bcast_1/motion_to_semantic: 1 of 4 heads attend to one token alone, whatever the query (3).",
  )


@pytest.mark.parametrize("bad", [UNIFORM, ONE_HOT])
def test_one_query_of_one_example_that_differs_is_enough(bad):
  weights = np.array([[[bad, bad]], [[bad, bad]]])  # [2, 1, 2, 4]
  assert len(judged({"x": jnp.asarray(weights)})) == 1
  weights[1, 0, 1] = ALIVE
  assert judged({"x": jnp.asarray(weights)}) == ()


def test_tokens_that_may_not_be_looked_at_do_not_count():
  within = jnp.array([[[(0.5, 0.5, 0.0, 0.0), (0.0, 0.0, 0.5, 0.5)]]])  # uniform over what is allowed
  assert judged({"x": within}) == ("x: 1 of 1 heads attend to all tokens alike (1).",)
  alone = jnp.array([[[(1.0, 0.0, 0.0, 0.0)]]])  # there is nothing to choose
  assert judged({"x": alone}) == ()


def test_heads_lie_before_queries_and_tokens_whatever_comes_first():
  weights = np.broadcast_to(np.array([ALIVE, UNIFORM])[:, None], (5, 7, 2, 3, 4))  # [B, T, K, Q, S]
  found = summaries({"graph": jnp.asarray(weights)})["graph"]
  assert found.shape == (5, 2, 2)
  assert judged({"graph": jnp.asarray(weights)}) == ("graph: 1 of 2 heads attend to all tokens alike (2).",)
