"""What of a state must be finite, and what may be infinite."""

import jax.numpy as jnp
import pytest

from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.finite import NonFinite, require_finite


def spoil(tree, name, value):
  return {**tree, name: tree[name].at[(0,) * tree[name].ndim].set(value)}


def test_a_fresh_state_is_finite(new_state):
  require_finite(new_state(average=True))


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_one_value_of_a_parameter_is_found_and_named(new_state, value):
  state = new_state()
  with pytest.raises(NonFinite, match=r"^1 of the \d+ arrays of the state after step 0 .*: head/kernel\. It is not"):
    require_finite(state.replace(trainable=spoil(state.trainable, "head/kernel", value)))


def test_averages_statistics_and_moments_are_looked_at(new_state):
  state = new_state(average=True)
  statistics = {"batch_stats": {"norm": {"mean": jnp.full(8, jnp.nan), "var": jnp.ones(8)}}}
  for changed, name in (
    (state.replace(average=spoil(state.average, "head/bias", jnp.nan)), r"head/bias \(average\)"),
    (state.replace(collections=statistics), "batch_stats/norm/mean"),
    (state.replace(opt_state=spoil_moment(state.opt_state, "mu")), "optimizer.*mu.*"),
    (state.replace(opt_state=spoil_moment(state.opt_state, "nu")), "optimizer.*nu.*"),
  ):
    with pytest.raises(NonFinite, match=f"^1 of .* not finite: {name}. It is not saved"):
      require_finite(changed)


def spoil_moment(opt_state, moment):
  """With a nan in one array of this moment, wherever the moments stand."""
  if hasattr(opt_state, moment):
    return opt_state._replace(**{moment: spoil(getattr(opt_state, moment), "head/bias", jnp.nan)})
  if isinstance(opt_state, dict):
    return {name: spoil_moment(leaf, moment) for name, leaf in opt_state.items()}
  if isinstance(opt_state, tuple):
    parts = [spoil_moment(leaf, moment) for leaf in opt_state]
    return type(opt_state)(*parts) if hasattr(opt_state, "_fields") else tuple(parts)
  return opt_state


def test_more_than_five_are_counted(new_state):
  state = new_state()
  with pytest.raises(NonFinite, match=r"^(\d+) of the \d+ arrays .*, \.\.\.\. It is not saved"):
    nothing = {name: leaf * jnp.nan for name, leaf in state.trainable.items()}
    require_finite(state.replace(trainable=nothing, average=nothing))


def test_scalars_of_the_optimizer_may_be_infinite(new_state):
  state = new_state()
  require_finite(state.replace(opt_state=(state.opt_state, jnp.array(jnp.inf))))


def test_a_state_that_is_not_finite_is_never_saved(new_state, tmp_path):
  state = new_state()
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(NonFinite):
      checkpoints.save(state.replace(trainable=spoil(state.trainable, "head/bias", jnp.nan)), {"identity": {}})
    assert checkpoints.steps() == []
