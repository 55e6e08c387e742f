"""Meshes, placements by rule, and batches split over devices."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from configs import common
from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError
from gasmcast.training.optim import OptimConfig, make_optimizer
from gasmcast.training.sharding import (
  ShardingConfig,
  describe,
  make_mesh,
  place_like_parameters,
  place_parameters,
  shard_batch,
)


def abstract(**shapes):
  return {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}


def held(tree, device):
  """Bytes that one device holds of a tree of arrays."""
  shards = [shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]
  return sum(shard.data.nbytes for shard in shards if shard.device == device)


def test_devices_are_arranged_as_data_by_model():
  assert dict(make_mesh().shape) == {"data": 8, "model": 1}
  assert dict(make_mesh(model=2).shape) == {"data": 4, "model": 2}
  assert dict(make_mesh(devices=jax.devices()[:1]).shape) == {"data": 1, "model": 1}


def test_a_model_axis_that_does_not_divide_the_devices_is_refused():
  with pytest.raises(
    ConfigError, match=r"config.sharding.model = 3 does not divide the 8 devices of a process; use a divisor"
  ):
    make_mesh(model=3)


def test_the_longest_divisible_dimension_is_split():
  shapes = abstract(long=(3, 16), first=(32, 16), odd=(7, 9), small=(8,), kept=(64, 64))
  config = ShardingConfig(fsdp=True, parameters=(("^kept$", "replicated"),), min_size=16)
  placed = {name: sharding.spec for name, sharding in place_parameters(shapes, make_mesh(), config).items()}
  assert placed == {
    "long": PartitionSpec(None, "data"),
    "first": PartitionSpec("data"),
    "odd": PartitionSpec(),  # neither 7 nor 9 is divisible by 8
    "small": PartitionSpec(),  # fewer than min_size elements
    "kept": PartitionSpec(),
  }


def test_without_fsdp_only_what_a_rule_names_is_split():
  shapes, mesh = abstract(qkv=(32, 48), mlp=(32, 64), norm=(64,)), make_mesh(model=2)
  config = ShardingConfig(model=2, parameters=(("^qkv$", "model"), ("^mlp$", "data")), min_size=1)
  placed = {name: sharding.spec for name, sharding in place_parameters(shapes, mesh, config).items()}
  assert placed == {"qkv": PartitionSpec(None, "model"), "mlp": PartitionSpec(None, "data"), "norm": PartitionSpec()}
  assert all(sharding.is_fully_replicated for sharding in place_parameters(shapes, mesh, ShardingConfig()).values())


def test_the_fields_of_the_configs_are_those_of_the_library():
  assert parse(ShardingConfig, common.sharding()) == ShardingConfig()


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"parameters": ((".*", "fsdp"),)}, r"config.sharding.parameters: '.\*' is placed 'fsdp'; known are 'replicated'"),
    ({"model": 0}, r"config.sharding.model = 0: the model axis needs at least one device; use 1 or more\."),
    ({"min_size": 0}, r"config.sharding.min_size = 0 is no number of elements; use 1 or more\."),
  ],
)
def test_an_impossible_placement_is_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    ShardingConfig(**fields)


def test_what_rules_make_of_parameters_is_said_and_what_cannot_be_split_is_named():
  shapes, mesh = abstract(first=(32, 16), odd=(7, 9), small=(8,)), make_mesh()
  assert describe(shapes, mesh, ShardingConfig()) == []
  # Of 512 + 63 + 8 = 583 numbers a device holds 64 + 63 + 8 = 135, which are 540 bytes.
  first, second = describe(shapes, mesh, ShardingConfig(fsdp=True, min_size=16))
  assert first == (
    "Sharding: each of 8 devices holds 0.0 MB of 0.0 MB of parameters; 1 of 3 are split, 1 have fewer than "
    "config.sharding.min_size = 16 elements."
  )
  assert second == "Not split, because the devices (data 8, model 1) divide none of their dimensions: odd [7, 9]."
  big = abstract(matrix=(8000, 1000))
  assert "each of 8 devices holds 4.0 MB of 32.0 MB" in describe(big, mesh, ShardingConfig(fsdp=True))[0]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_the_optimiser_state_lies_where_its_parameters_lie_and_a_device_holds_an_eighth(optimizer):
  shapes, mesh = abstract(**{"block/kernel": (32, 16), "block/bias": (16,)}), make_mesh()
  config = ShardingConfig(fsdp=True, min_size=1)
  placed = place_parameters(shapes, mesh, config)
  zeros = lambda: {name: np.zeros(leaf.shape, np.float32) for name, leaf in shapes.items()}
  parameters = jax.device_put(zeros(), placed)
  tx, _ = make_optimizer(OptimConfig(optimizer=optimizer), steps=4000)
  layout = place_like_parameters(jax.eval_shape(tx.init, parameters), placed, shapes)
  state = jax.jit(tx.init, out_shardings=layout)(parameters)
  counts = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 0]
  moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
  assert len(moments) == {"adamw": 4, "sgd": 2, "muon": 3}[optimizer]  # Muon: one of the matrix, Adam's two of the bias
  assert {leaf.sharding.spec for leaf in moments} == {PartitionSpec("data")}
  assert all(leaf.sharding.is_fully_replicated for leaf in counts)
  for tree in (parameters, moments):
    assert held(tree, jax.devices()[3]) == sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) / 8


def test_every_structure_of_optax_that_mirrors_the_parameters_is_placed_with_them():
  shapes, mesh = abstract(kernel=(16, 8)), make_mesh()
  placed = place_parameters(shapes, mesh, ShardingConfig(fsdp=True, min_size=1))
  parameters = {"kernel": np.zeros((16, 8), np.float32)}
  transformations = {
    "ema": optax.ema(0.9),
    "trace": optax.trace(0.9),
    "masked": optax.masked(optax.scale_by_adam(), {"kernel": True}),
    "partition": optax.partition({"a": optax.adam(1e-3)}, {"kernel": "a"}),
    "muon": optax.contrib.muon(1e-3),
    "multi_steps": optax.MultiSteps(optax.adam(1e-3), 2).gradient_transformation(),
  }
  for name, tx in transformations.items():
    layout = jax.tree.leaves(place_like_parameters(jax.eval_shape(tx.init, parameters), placed, shapes))
    leaves = jax.tree.leaves(jax.eval_shape(tx.init, parameters))
    split = [sharding.spec == PartitionSpec("data") for sharding in layout]
    assert split == [leaf.shape == (16, 8) for leaf in leaves] and any(split), name


def test_a_state_with_fsdp_is_smaller_on_every_device_and_only_small_or_odd_leaves_are_copied(new_state):
  copies, split = new_state(), new_state(sharding=ShardingConfig(fsdp=True, min_size=8))
  names = {name: leaf for name, leaf in (split.trainable | split.frozen).items()}
  # backbone/kernel [6, 8], backbone/bias [8], norm/scale [8], norm/bias [8], head/kernel [8, 3]; head/bias [3] is small
  assert sorted(name for name, leaf in names.items() if leaf.sharding.is_fully_replicated) == ["head/bias"]
  for device in jax.devices():
    parameters = held((copies.trainable, copies.frozen), device)
    assert parameters == 4 * (48 + 8 + 8 + 8 + 24 + 3)
    assert held((split.trainable, split.frozen), device) == 4 * ((48 + 8 + 8 + 8 + 24) // 8 + 3)
  moments = [leaf for leaf in jax.tree.leaves(split.opt_state) if leaf.size >= 8]
  assert len(moments) == 6 and not any(leaf.sharding.is_fully_replicated for leaf in moments)  # two each of three


def test_a_batch_is_split_by_rows():
  batch = shard_batch({"vector": np.arange(16.0).reshape(8, 2)}, make_mesh(model=2))
  shards = {shard.device.id: np.asarray(shard.data) for shard in batch["vector"].addressable_shards}
  assert len(shards) == 8
  np.testing.assert_array_equal(shards[2], [[4.0, 5.0], [6.0, 7.0]])  # second of four data groups
  np.testing.assert_array_equal(shards[3], shards[2])  # both devices of a model group hold the same rows


def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_sizes():
  message = r"global batch of 12 rows \(12 on each of 1 process\(es\)\).*8 devices.*the nearest are 8 and 16"
  with pytest.raises(ConfigError, match=message):
    shard_batch({"vector": np.zeros((12, 2))}, make_mesh())


@dataclasses.dataclass(frozen=True)
class Device:
  """What a mesh wants to know of a device."""

  process_index: int
  id: int
  platform: str = "tpu"
  device_kind: str = "TPU v4"


def test_the_rows_of_a_process_lie_side_by_side_however_the_devices_are_wired():
  """Scores are gathered process by process."""
  wired = [Device(process, id) for process, id in ((0, 0), (1, 2), (1, 3), (0, 1))]
  mesh = make_mesh(devices=wired)
  assert [(each.process_index, each.id) for each in mesh.devices.flat] == [(0, 0), (0, 1), (1, 2), (1, 3)]
