"""Norms by module group, by hand."""

import jax.numpy as jnp
import numpy as np

from gasmcast.training.groups import group_names, group_norms, group_of, squares

PARAMETERS = {
  "head/kernel": jnp.array([3.0]),
  "fusion/bcast_1/attention/out/kernel": jnp.array([[1.0, 2.0]]),
  "fusion/bcast_1/norm/scale": jnp.array([2.0], jnp.bfloat16),
  "head/bias": jnp.array([-4.0]),
  "position": jnp.zeros(2),
}


def test_a_group_is_the_first_two_levels_of_modules():
  assert group_of("fusion/bcast_1/attention/out/kernel") == "fusion/bcast_1"
  assert group_of("fusion/position") == "fusion"
  assert group_of("position") == "position"
  assert group_names(list(PARAMETERS)) == ("fusion/bcast_1", "head", "position")


def test_norms_of_groups_by_hand():
  squared = squares(PARAMETERS)  # bcast_1/attention, bcast_1/norm, head/bias, head/kernel, position
  np.testing.assert_array_equal(squared, [5, 4, 16, 9, 0])
  assert squared.dtype == jnp.float32
  np.testing.assert_array_equal(group_norms(squared, list(PARAMETERS)), [3, 5, 0])


def test_groups_whose_names_interleave_are_not_mixed():
  parameters = {"norm/bias": jnp.ones(1), "norm/inner/kernel": jnp.full(1, 2.0), "norm/scale": jnp.ones(1)}
  assert group_names(list(parameters)) == ("norm", "norm/inner")
  np.testing.assert_allclose(group_norms(squares(parameters), list(parameters)), [2**0.5, 2])


def test_infinity_stays_in_its_group():
  parameters = {"a/kernel": jnp.array([jnp.inf]), "b/kernel": jnp.array([1.0])}
  np.testing.assert_array_equal(group_norms(squares(parameters), list(parameters)), [jnp.inf, 1])
