"""A train step on one batch, again and again, as benchmarks measure it: the very step that the loop calls."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from gasmcast.core import rules
from gasmcast.core.timing import Side
from gasmcast.core.types import Batch
from gasmcast.jobs.benchmark_training_fusion import Fusion
from gasmcast.training.optim import OptimConfig, make_optimizer
from gasmcast.training.sharding import ShardingConfig, make_mesh, shard_batch
from gasmcast.training.state import TrainState, create_state
from gasmcast.training.step import CompiledStep, compile_train_step

_STEPS = 10**6  # of the run that a step belongs to


class MeasuredStep:
  """A training state and the compiled step that replaces it at each call."""

  def __init__(
    self,
    fusion: Fusion,
    optim: OptimConfig,
    drawn: Mapping[str, np.ndarray],
    batch: Batch,
    remat: bool = False,
    accumulate: int = 1,
  ):
    if remat:
      fusion = dataclasses.replace(fusion, options={**fusion.options, "remat": True})
    mesh = make_mesh(devices=jax.devices()[:1])
    system, (tx, schedule) = fusion.system, make_optimizer(optim, _STEPS)
    pretrained = {"params": rules.unflatten(drawn)}
    self._state = create_state(system, tx, jax.random.key(0), batch, mesh, ShardingConfig(), pretrained)
    self._batch = shard_batch(batch, mesh)
    self.compiled: CompiledStep = compile_train_step(system, tx, schedule, 0, self._state, accumulate=accumulate)

  def __call__(self) -> tuple[TrainState, Mapping[str, Any]]:
    """One step; the state it gives is valid until the next."""
    self._state, metrics = self.compiled(self._state, self._batch)
    return jax.block_until_ready((self._state, metrics))

  def side(self, name: str) -> Side:
    """The step as a side. A CPU's memory is seen from outside."""
    return Side(name, self, _arrays, None if jax.default_backend() == "cpu" else self.planned_memory)

  def planned_memory(self, arguments: bool = False) -> int | None:
    """Bytes of workspace and of outputs that replace no input, by the compiler's plan, and of what it is given."""
    return self.compiled.memory(self._state, self._batch, arguments)


def _arrays(result: tuple[TrainState, Mapping[str, Any]]) -> dict[str, np.ndarray]:
  state, metrics = result
  numbers = {name: metrics[name] for name in ("loss", "grad_norm")}
  return {name: np.asarray(value, np.float32) for name, value in (numbers | state.trainable).items()}
