"""One step: (state, batch) -> (state, metrics), and the same for evaluation.

Randomness: the key of a stream is the run's seed folded with the stream's name, then with the step, so that step k
draws the same numbers whether or not the run was interrupted before it.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from gasmcast.core.rng import stream_id
from gasmcast.core.types import PyTree, System
from gasmcast.training.gradients import in_parts, whole
from gasmcast.training.groups import group_norms, squares
from gasmcast.training.sharding import replicated
from gasmcast.training.state import TrainState, averaged, variables
from gasmcast.training.throughput import memory, tflops

STREAMS = ("dropout", "mixing")  # what modules draw from by make_rng, and what `System.mix` draws from

DeviceBatch = Mapping[str, Array]


def step_rngs(seed: int, step: Int[Array, ""]) -> dict[str, Array]:
  """Stream name -> key for this step."""
  key = jax.random.key(seed)
  return {name: jax.random.fold_in(jax.random.fold_in(key, stream_id(name)), step) for name in STREAMS}


def train_step(
  state: TrainState,
  batch: DeviceBatch,
  *,
  system: System,
  tx: optax.GradientTransformation,
  schedule: optax.Schedule,
  seed: int,
  accumulate: int = 1,
  average_decay: float = 0.0,
) -> tuple[TrainState, dict[str, PyTree]]:
  """One update of the trainable parameters, by `tx` times `state.lr_scale`.

  An update is applied only if the loss, the gradient and the update are finite and at least one row is ok; otherwise
  parameters, collections, average and optimiser state (with its count of updates) stay bit for bit as they were.

  Args:
    accumulate: parts in which the batch is taken, see `gradients.in_parts`.
    average_decay: share of the old value that a running average of the parameters keeps, if the state has one. The
      first averages are over less: update t keeps at most (1 + t) / (10 + t).

  Returns:
    The next state, and as replicated scalars: "loss" and its "parts"; the global norms "grad_norm" (before clipping),
    "update_norm" (as applied) and "param_norm" (before the step); "lr"; "finite"; "rows" (clips in the batch),
    "failed" (those that could not be read) and "not_ok" (the share of rows that carry no loss); "skipped", as in the
    next state. "groups" holds the three norms of each module group in the order of `groups.group_names`, "no_gradient"
    whether the gradient of a parameter is exactly 0, in the order of sorted names. "sums" is `system.metrics` of the
    training outputs, "index" that of the batch: int32 [B], the rows of all processes.
  """
  rngs = step_rngs(seed, state.step)
  batch = system.mix(batch, rngs["mixing"])  # whole: the partners of a row lie in any part
  if accumulate == 1:
    loss, parts, gradients, collections, sums = whole(state, batch, system, rngs)
  else:
    loss, parts, gradients, collections, sums = in_parts(state, batch, system, rngs, accumulate)
  updates, opt_state = tx.update(gradients, state.opt_state, state.trainable)
  updates = jax.tree.map(lambda update: update * state.lr_scale.astype(update.dtype), updates)
  squared = {"grad_norm": squares(gradients), "update_norm": squares(updates), "param_norm": squares(state.trainable)}
  norms = {name: jnp.sqrt(jnp.sum(each)) for name, each in squared.items()}
  grad_norm, update_norm = norms["grad_norm"], norms["update_norm"]

  present = batch["index"] >= 0
  readable = jnp.any(batch["ok"])
  # A mean over no row may be 0 / 0; that is no fault of the optimisation and is reported as failed rows.
  finite = (jnp.isfinite(loss) & jnp.isfinite(grad_norm) & jnp.isfinite(update_norm)) | ~readable
  applied = finite & readable
  trainable = optax.apply_updates(state.trainable, updates)
  updated_before = (state.step - state.skipped).astype(jnp.float32)
  kept = jnp.minimum(average_decay, (1 + updated_before) / (10 + updated_before))
  average = {name: kept * old + (1 - kept) * trainable[name] for name, old in state.average.items()}
  old = (state.trainable, state.collections, state.opt_state, state.average)
  new = (trainable, collections, opt_state, average)
  trainable, collections, opt_state, average = jax.tree.map(lambda n, o: jnp.where(applied, n, o), new, old)

  groups = {name: group_norms(each, list(state.trainable)) for name, each in squared.items()}
  metrics = {
    "loss": loss,
    "parts": parts,
    **norms,
    "update_norm": jnp.where(applied, update_norm, 0.0),
    "groups": groups | {"update_norm": jnp.where(applied, groups["update_norm"], 0.0)},
    "no_gradient": squared["grad_norm"] == 0,
    "skipped": state.skipped + ~applied,
    "lr": schedule(state.step - state.skipped) * state.lr_scale,
    "finite": finite,
    "rows": jnp.sum(present),
    "failed": jnp.sum(present & ~batch["ok"]),
    "not_ok": jnp.mean(~batch["ok"]),
    "sums": sums,
    "index": batch["index"],
  }
  state = state.replace(
    step=state.step + 1,
    skipped=metrics["skipped"],
    trainable=trainable,
    collections=collections,
    opt_state=opt_state,
    average=average,
  )
  return state, metrics


class CompiledStep:
  """`train_step` compiled for one placement of states. What it updates is donated: the old state can't be used again.

  Frozen parameters are read, not passed through, so they are neither copied nor donated.
  """

  def __init__(self, update: Callable[..., tuple[TrainState, dict[str, PyTree]]], state: TrainState, accumulate: int):
    placed = jax.tree.map(lambda leaf: leaf.sharding, state.replace(frozen={}))
    places = (placed, replicated(state.step.sharding.mesh))
    self._compiled = jax.jit(update, donate_argnums=0, out_shardings=places)
    self._accumulate = accumulate

  def __call__(self, state: TrainState, batch: DeviceBatch) -> tuple[TrainState, dict[str, PyTree]]:
    learned, metrics = self._compiled(state.replace(frozen={}), state.frozen, batch)
    return learned.replace(frozen=state.frozen), metrics

  @property
  def compilations(self) -> int:
    """How often it was compiled so far: 1 after the first call, and more where a batch had other shapes or types."""
    return self._compiled._cache_size()

  def tflops(self, state: TrainState, batch: DeviceBatch) -> float | None:
    """TFLOP of one step on all devices, see training/throughput.py; None where they can't be told."""
    counted = tflops(lambda: self._lower(state, batch))
    return None if counted is None else counted * self._accumulate  # the parts are a loop, counted once

  def memory(self, state: TrainState, batch: DeviceBatch, arguments: bool = True) -> int | None:
    """Bytes that a step needs on each device, see training/throughput.py. It is free once the step has run."""
    return memory(lambda: self._lower(state, batch), arguments)

  def _lower(self, state: TrainState, batch: DeviceBatch) -> jax.stages.Lowered:
    return self._compiled.lower(state.replace(frozen={}), state.frozen, batch)


def compile_train_step(
  system: System,
  tx: optax.GradientTransformation,
  schedule: optax.Schedule,
  seed: int,
  state: TrainState,
  accumulate: int = 1,
  average_decay: float = 0.0,
) -> CompiledStep:
  """`train_step` for states placed like `state`."""
  step = functools.partial(
    train_step,
    system=system,
    tx=tx,
    schedule=schedule,
    seed=seed,
    accumulate=accumulate,
    average_decay=average_decay,
  )

  def update(learned, frozen, batch):
    state, metrics = step(learned.replace(frozen=frozen), batch)
    return state.replace(frozen={}), metrics

  return CompiledStep(update, state, accumulate)


def eval_step(state: TrainState, batch: DeviceBatch, *, system: System) -> dict[str, PyTree]:
  """Sums over the rows with ok: "metrics" as `system.metrics`, "loss" times rows, and "rows". Of the averaged
  parameters, where the state has them.
  """
  outputs, _ = system.apply(variables(averaged(state)), batch, train=False)
  return batch_sums(outputs, batch, system=system)


def batch_sums(outputs: Mapping[str, PyTree], batch: DeviceBatch, *, system: System) -> dict[str, PyTree]:
  """What `eval_step` returns, from the outputs of the system."""
  loss, _ = system.loss(outputs, batch)
  rows = jnp.sum(batch["ok"])
  return {"metrics": system.metrics(outputs, batch), "loss": jnp.where(rows > 0, loss * rows, 0.0), "rows": rows}


def compile_eval_step(system: System, state: TrainState) -> Callable[[TrainState, DeviceBatch], dict[str, PyTree]]:
  """`eval_step` with its sums on every device."""
  return jax.jit(functools.partial(eval_step, system=system), out_shardings=replicated(state.step.sharding.mesh))
