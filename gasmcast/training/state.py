"""What a run carries from step to step, and how it is created: shapes first, then rules, then bytes in their place.

Parameters are split by rules (training/treatment.py) into two flat dicts by name. Gradients, optimiser state and
checkpoints exist for the trainable part alone; the frozen part is identified by its hash.
"""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int

from gasmcast.core import rules
from gasmcast.core.errors import WeightsError
from gasmcast.core.manifest import hash_arrays
from gasmcast.core.types import Batch, PyTree, System
from gasmcast.training import treatment
from gasmcast.training.optim import OptimConfig
from gasmcast.training.sharding import ShardingConfig, place_like_parameters, place_parameters, replicated


@flax.struct.dataclass
class TrainState:
  """Everything that a train step reads and writes.

  Attributes:
    step: batches consumed, which is also the position in the data.
    skipped: those of them whose update was not applied (not finite, or no readable row).
    trainable: parameter name -> array.
    frozen: parameter name -> array; never updated, never checkpointed.
    collections: what apply updates besides parameters, for example {"batch_stats": ...}.
    opt_state: of optax, for the trainable parameters.
    average: parameter name -> running average of `trainable`; empty where the run keeps none.
    lr_scale: what the schedule's learning rate is multiplied by, see training/plateau.py.
  """

  step: Int[Array, ""]
  skipped: Int[Array, ""]
  trainable: dict[str, Array]
  frozen: dict[str, Array]
  collections: dict[str, PyTree]
  opt_state: PyTree
  average: dict[str, Array]
  lr_scale: Float[Array, ""]


def averaged(state: TrainState) -> TrainState:
  """The state that is validated and kept as the best: with the averaged parameters, where the run keeps them."""
  return state.replace(trainable=state.average, average={}) if state.average else state


def variables(state: TrainState) -> dict[str, PyTree]:
  """{"params": ..., "batch_stats": ...} as `System.apply` takes them."""
  return {"params": rules.unflatten(state.trainable | state.frozen), **state.collections}


def create_state(
  system: System,
  tx: optax.GradientTransformation,
  rng: Array,
  batch: Batch,
  mesh: Mesh,
  config: ShardingConfig,
  pretrained: Mapping[str, PyTree] | None = None,
  average: bool = False,
  optim: OptimConfig | None = None,
) -> TrainState:
  """The state before the first step. Every array is created where its rule puts it, never whole on one device.

  Args:
    batch: any batch of the right shapes; its values are not used.
    pretrained: leaves that replace the fresh ones, as a part of the variables: {"params": {"motion": ...}, ...}.
    average: whether the state keeps a running average of the trainable parameters.
    optim: whose rules say, with `system.trainable`, what is trained; None for the defaults.

  Raises:
    ConfigError: what `treatment.treat` refuses.
    WeightsError: a pretrained leaf is unknown or has another shape.
  """
  given = rules.flatten(pretrained or {})

  def initialize(rng):
    zeros = {name: jnp.zeros(np.shape(leaf), leaf.dtype) for name, leaf in batch.items()}
    return system.init(rng, zeros)

  abstract = jax.eval_shape(initialize, rng)
  trainable, frozen = treatment.partition(abstract["params"], system.trainable, optim or OptimConfig())
  parameters, abstract = trainable | frozen, rules.flatten(abstract)
  _check_pretrained(abstract, given)
  placed = place_parameters(parameters, mesh, config)
  shardings = {name: placed.get(name.removeprefix("params/"), replicated(mesh)) for name in abstract}

  # Only what is not given is returned, so the compiler drops the random numbers of a pretrained backbone.
  fresh = jax.jit(
    lambda rng: {name: leaf for name, leaf in rules.flatten(initialize(rng)).items() if name not in given},
    out_shardings={name: sharding for name, sharding in shardings.items() if name not in given},
  )(rng)
  flat = fresh | {
    name: _to_devices(np.array(leaf, abstract[name].dtype), shardings[name]) for name, leaf in given.items()
  }
  trainable = {name: flat[f"params/{name}"] for name in trainable}
  opt_placed = place_like_parameters(jax.eval_shape(tx.init, trainable), placed, parameters)
  zero = lambda: _to_devices(np.zeros((), np.int32), replicated(mesh))
  copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings={name: placed[name] for name in trainable})
  return TrainState(
    step=zero(),
    skipped=zero(),
    trainable=trainable,
    frozen={name: flat[f"params/{name}"] for name in frozen},
    collections=rules.unflatten({name: leaf for name, leaf in flat.items() if not name.startswith("params/")}),
    opt_state=jax.jit(tx.init, out_shardings=opt_placed)(trainable),
    average=copy(trainable) if average else {},
    lr_scale=place_scale(1.0, mesh),
  )


def place_scale(scale: float, mesh: Mesh) -> Float[Array, ""]:
  """`TrainState.lr_scale` of this value."""
  return _to_devices(np.asarray(scale, np.float32), replicated(mesh))


def _to_devices(array: np.ndarray, sharding: NamedSharding) -> Array:
  # Each process places its own shards; device_put would first compare the whole array across processes.
  return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _check_pretrained(abstract: Mapping[str, jax.ShapeDtypeStruct], given: Mapping[str, Any]) -> None:
  problems = []
  for name, leaf in given.items():
    if name not in abstract:
      problems.append(f"{name} is no variable of this system")
    elif np.shape(leaf) != abstract[name].shape:
      problems.append(f"{name} has the shape {np.shape(leaf)}, the system needs {abstract[name].shape}")
  if problems:
    raise WeightsError(
      f"{len(problems)} of {len(given)} pretrained leaves don't fit: {'; '.join(problems)}. "
      "Use the weights of the configured network, or configure the network of these weights."
    )


def fingerprint(tree: PyTree) -> str:
  """BLAKE3 of names, types, shapes and values of all leaves: equal hashes mean equal bits, wherever the arrays lie."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return hash_arrays((jax.tree_util.keystr(path), _to_host(leaf)) for path, leaf in leaves)


def _to_host(leaf: Array) -> np.ndarray:
  if leaf.is_fully_addressable or leaf.is_fully_replicated:
    return np.asarray(leaf)
  return multihost_utils.process_allgather(leaf, tiled=True)
