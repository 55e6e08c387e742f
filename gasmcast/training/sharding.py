"""Where arrays live: a mesh of (data, model) devices, parameters placed by rules, batches split over "data".

One path for 1 device, 8 devices and several processes: every array carries a NamedSharding, and the compiler inserts
the communication (Auto mesh axes).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gasmcast.core import rules
from gasmcast.core.config import require
from gasmcast.core.errors import ConfigError
from gasmcast.core.types import Batch, PyTree

REPLICATED = "replicated"
AXES = ("data", "model")


@dataclasses.dataclass(frozen=True)
class ShardingConfig:
  """How devices are arranged and parameters placed.

  Attributes:
    model: devices on the "model" axis; all others are on the "data" axis.
    fsdp: fully sharded data parallelism: what no rule names is split over "data", with its optimiser state; False puts
      a copy on every device.
    parameters: rules (regex over parameter names, placement), first match wins. "replicated" puts a copy on every
      device; "data" and "model" split the longest dimension that the axis divides.
    min_size: leaves with fewer elements are replicated whatever the rules say: splitting them costs more than it saves.
  """

  model: int = 1
  fsdp: bool = False
  parameters: tuple[tuple[str, str], ...] = ()
  min_size: int = 2**20

  def __post_init__(self):
    require(
      self.model >= 1,
      f"config.sharding.model = {self.model}: the model axis needs at least one device; use 1 or more.",
    )
    require(self.min_size >= 1, f"config.sharding.min_size = {self.min_size} is no number of elements; use 1 or more.")
    for pattern, placement in self.parameters:
      require(
        placement in (REPLICATED, *AXES),
        f"config.sharding.parameters: {pattern!r} is placed {placement!r}; known are 'replicated', 'data' and 'model'.",
      )

  def table(self) -> rules.Rules:
    """`parameters`, and last what covers every other name."""
    return (*self.parameters, (".*", "data" if self.fsdp else REPLICATED))


def make_mesh(model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh (data, model) over `devices`, by default all devices of all processes.

  Raises:
    ConfigError: the model axis does not divide the devices of a process, so that a group would span two of them.
  """
  devices = jax.devices() if devices is None else devices
  held = sum(device.process_index == devices[0].process_index for device in devices)
  require(
    held % model == 0,
    f"config.sharding.model = {model} does not divide the {held} devices of a process; use a divisor of {held}.",
  )
  # In the order of the processes, so that row after row of a batch is one process's after the other's, as what is
  # gathered from all of them; jax.make_mesh arranges the devices of a TPU as they are wired.
  ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
  arranged = np.array(ordered).reshape(len(devices) // model, model)
  return Mesh(arranged, AXES, axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
  """A copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def place_parameters(
  abstract: Mapping[str, jax.ShapeDtypeStruct], mesh: Mesh, config: ShardingConfig
) -> dict[str, NamedSharding]:
  """The placement of every parameter (flat, by name) from its shape alone.

  Raises:
    ConfigError: a pattern of `config.parameters` is no regular expression.
  """
  placements = rules.match(list(abstract), config.table(), "config.sharding.parameters")
  return {name: _split_longest(leaf, mesh, placements[name], config.min_size) for name, leaf in abstract.items()}


def _split_longest(leaf: jax.ShapeDtypeStruct, mesh: Mesh, placement: str, min_size: int) -> NamedSharding:
  if placement == REPLICATED or leaf.size < min_size:
    return replicated(mesh)
  for dimension in sorted(range(leaf.ndim), key=lambda d: -leaf.shape[d]):
    if leaf.shape[dimension] % mesh.shape[placement] == 0:
      return NamedSharding(mesh, PartitionSpec(*[None] * dimension, placement))
  return replicated(mesh)


def describe(abstract: Mapping[str, jax.ShapeDtypeStruct], mesh: Mesh, config: ShardingConfig) -> list[str]:
  """What the rules make of the parameters, as sentences; none if they are to be replicated.

  A parameter that a rule splits and whose shape can't be split is named, so that none is silently on every device.
  """
  placements = rules.match(list(abstract), config.table(), "config.sharding.parameters")
  wanted = [name for name, placement in placements.items() if placement != REPLICATED]
  if not wanted:
    return []
  placed = place_parameters(abstract, mesh, config)
  bytes_of = {name: math.prod(leaf.shape) * leaf.dtype.itemsize for name, leaf in abstract.items()}
  held = {
    name: math.prod(placed[name].shard_shape(leaf.shape)) * leaf.dtype.itemsize for name, leaf in abstract.items()
  }
  whole = [name for name in wanted if placed[name].is_fully_replicated]
  small = [name for name in whole if abstract[name].size < config.min_size]
  odd = [f"{name} {list(abstract[name].shape)}" for name in whole if name not in small]
  total, each = sum(bytes_of.values()), sum(held.values())
  lines = [
    f"Sharding: each of {mesh.size} devices holds {each / 1e6:,.1f} MB of {total / 1e6:,.1f} MB of parameters; "
    f"{len(wanted) - len(whole)} of {len(abstract)} are split, {len(small)} have fewer than "
    f"config.sharding.min_size = {config.min_size:,} elements."
  ]
  if odd:
    shape = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    lines.append(f"Not split, because the devices ({shape}) divide none of their dimensions: {'; '.join(odd)}.")
  return lines


def place_like_parameters(tree: PyTree, parameters: Mapping[str, NamedSharding], shapes: Mapping[str, Any]) -> PyTree:
  """Placements for an optimiser state: what is shaped like a parameter and stored under its name lies where it lies."""
  default = next(iter(parameters.values())).mesh

  def place(path, leaf):
    for entry in reversed(path):
      name = getattr(entry, "key", None)
      if name in parameters and leaf.shape == shapes[name].shape:
        return parameters[name]
    return replicated(default)

  return jax.tree_util.tree_map_with_path(place, tree)


def shard_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
  """The rows of this process -> global arrays [B, ...] split over "data". The transfer is asynchronous.

  Raises:
    ConfigError: the global batch is not divisible by the data axis.
  """
  processes, data = jax.process_count(), mesh.shape["data"]
  rows = next(iter(batch.values())).shape[0] * processes
  if rows % data:
    raise ConfigError(
      f"A global batch of {rows} rows ({rows // processes} on each of {processes} process(es)) can't be split evenly "
      f"over {data} devices on the data axis; use a multiple of {data} (the nearest are {rows - rows % data} and "
      f"{rows - rows % data + data}; pad evaluation batches with rows that are not ok), or fewer devices."
    )
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  return {name: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)) for name, leaf in batch.items()}
