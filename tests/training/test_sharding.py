"""Meshes, placements by rule, and batches split over devices."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from gasmcast.core.errors import ConfigError
from gasmcast.training.sharding import ShardingConfig, make_mesh, place_parameters, shard_batch


def test_devices_are_arranged_as_data_by_model():
  assert dict(make_mesh().shape) == {"data": 8, "model": 1}
  assert dict(make_mesh(model=2).shape) == {"data": 4, "model": 2}
  assert dict(make_mesh(devices=jax.devices()[:1]).shape) == {"data": 1, "model": 1}


def test_a_model_axis_that_does_not_divide_the_devices_is_refused():
  with pytest.raises(
    ConfigError, match=r"sharding.model = 3 does not divide the 8 devices of a process; use a divisor"
  ):
    make_mesh(model=3)


def test_the_longest_divisible_dimension_is_split():
  shapes = {"long": (3, 16), "first": (32, 16), "odd": (7, 9), "small": (8,), "kept": (64, 64)}
  abstract = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
  config = ShardingConfig(parameters=(("^kept$", "replicated"), (".*", "data")), min_size=16)
  placed = {name: sharding.spec for name, sharding in place_parameters(abstract, make_mesh(), config).items()}
  assert placed == {
    "long": PartitionSpec(None, "data"),
    "first": PartitionSpec("data"),
    "odd": PartitionSpec(),  # neither 7 nor 9 is divisible by 8
    "small": PartitionSpec(),  # fewer than min_size elements
    "kept": PartitionSpec(),
  }


def test_an_unknown_placement_is_refused():
  with pytest.raises(ConfigError, match=r"'.\*' is placed 'fsdp'; known are 'replicated', 'data' and 'model'"):
    ShardingConfig(parameters=((".*", "fsdp"),))


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
