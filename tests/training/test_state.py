"""Creation of the state: what is trainable, where it lies, what it starts from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from gasmcast.core.errors import ConfigError, WeightsError
from gasmcast.training.optim import make_optimizer
from gasmcast.training.sharding import ShardingConfig, make_mesh, shard_batch
from gasmcast.training.state import fingerprint, variables
from gasmcast.training.step import compile_train_step
from tests.training.toy_system import ToySystem, batch_of, config


def test_optimiser_state_exists_for_trainable_parameters_alone(new_state):
  state = new_state()
  assert sorted(state.frozen) == ["backbone/bias", "backbone/kernel"]
  assert sorted(state.trainable) == ["head/bias", "head/kernel", "norm/bias", "norm/scale"]
  trainable = 3 + 8 * 3 + 8 + 8
  # Two moments for each trainable number, one count of Adam and one of the schedule.
  assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state)) == 2 * trainable + 2


def test_variables_are_what_the_system_made(new_state):
  tree = variables(new_state())
  assert jax.tree.map(jnp.shape, tree) == {
    "params": {
      "backbone": {"kernel": (6, 8), "bias": (8,)},
      "norm": {"scale": (8,), "bias": (8,)},
      "head": {"kernel": (8, 3), "bias": (3,)},
    },
    "batch_stats": {"norm": {"mean": (8,), "var": (8,)}},
  }


def test_a_system_without_trainable_parameters_is_refused(new_state):
  with pytest.raises(ConfigError, match="rules of the system freeze all 6 parameters.*at least one pattern"):
    new_state(ToySystem(trainable=((".*", False),)))


def test_parameters_and_their_moments_are_born_where_the_rules_put_them(new_state):
  state = new_state(sharding=ShardingConfig(parameters=(("kernel$", "data"), (".*", "replicated")), min_size=1))
  split, whole = PartitionSpec("data"), PartitionSpec()
  adam = state.opt_state[1]
  assert state.trainable["head/kernel"].sharding.spec == split
  assert adam.mu["head/kernel"].sharding.spec == adam.nu["head/kernel"].sharding.spec == split
  assert state.frozen["backbone/kernel"].sharding.spec == PartitionSpec(None, "data")
  assert state.trainable["norm/scale"].sharding.spec == adam.mu["norm/scale"].sharding.spec == whole
  assert adam.count.sharding.spec == state.step.sharding.spec == whole


def test_initial_values_do_not_depend_on_the_devices(new_state):
  sharded = new_state(sharding=ShardingConfig(parameters=((".*", "data"),), min_size=1))
  alone = new_state(mesh=make_mesh(devices=jax.devices()[:1]))
  assert fingerprint(sharded) == fingerprint(alone)


def test_pretrained_leaves_replace_fresh_ones(new_state):
  kernel = np.arange(48.0).reshape(6, 8)  # float64, as a file may hold it
  given = {"params": {"backbone": {"kernel": kernel}}, "batch_stats": {"norm": {"mean": np.full(8, 2.0)}}}
  fresh, state = new_state(), new_state(pretrained=given)
  np.testing.assert_array_equal(state.frozen["backbone/kernel"], kernel.astype(np.float32))
  assert state.frozen["backbone/kernel"].dtype == jnp.float32
  np.testing.assert_array_equal(state.collections["batch_stats"]["norm"]["mean"], 2.0)
  np.testing.assert_array_equal(state.trainable["head/kernel"], fresh.trainable["head/kernel"])


def test_pretrained_arrays_are_copied(new_state, system, mesh):
  kernel = np.ones((8, 3), np.float32)
  state = new_state(pretrained={"params": {"head": {"kernel": kernel}}})
  tx, schedule = make_optimizer(config().optim, steps=12)
  step = compile_train_step(system, tx, schedule, 0, state)
  for _ in range(2):  # the first update has no learning rate yet
    state, _ = step(state, shard_batch(batch_of(np.arange(8)), mesh))  # donates what the caller may still hold
  assert not np.array_equal(state.trainable["head/kernel"], kernel)
  np.testing.assert_array_equal(kernel, 1.0)


def test_all_pretrained_leaves_that_do_not_fit_are_named(new_state):
  given = {"params": {"backbone": {"kernel": np.zeros((6, 9))}, "stem": {"bias": np.zeros(2)}}}
  with pytest.raises(WeightsError) as error:
    new_state(pretrained=given)
  assert "2 of 2 pretrained leaves don't fit" in str(error.value)
  assert "params/backbone/kernel has the shape (6, 9), the system needs (6, 8)" in str(error.value)
  assert "params/stem/bias is no variable of this system" in str(error.value)


def test_a_fingerprint_sees_a_single_bit_a_name_and_a_type():
  tree = {"a": jnp.arange(4, dtype=jnp.int32)}
  others = (
    {"a": jnp.asarray([0, 1, 2, 2], jnp.int32)},
    {"b": tree["a"]},
    {"a": tree["a"].reshape(2, 2)},
    {"a": tree["a"].view(jnp.float32)},
  )
  hashes = {fingerprint(other) for other in (tree, *others)}
  assert len(hashes) == 5
  assert fingerprint({"a": jnp.arange(4, dtype=jnp.int32)}) == fingerprint(tree)
