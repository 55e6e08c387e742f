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
from gasmcast.training.sharding import replicated
from gasmcast.training.state import TrainState, variables

STREAMS = ("dropout",)  # every name that a module may pass to make_rng

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
) -> tuple[TrainState, dict[str, PyTree]]:
  """One update of the trainable parameters.

  An update is applied only if the loss, the gradient and the update are finite and at least one row is ok; otherwise
  parameters, collections and optimiser state (with its count of updates) stay bit for bit as they were.

  Returns:
    The next state, and as replicated scalars: "loss" and its "parts"; the global norms "grad_norm" (before clipping),
    "update_norm" (as applied) and "param_norm" (before the step); "lr"; "finite"; "rows" (clips in the batch),
    "failed" (those that could not be read) and "not_ok" (the share of rows that carry no loss). "sums" is
    `system.metrics` of the training outputs.
  """
  rngs = step_rngs(seed, state.step)

  def objective(trainable):
    outputs, updated = system.apply(variables(state.replace(trainable=trainable)), batch, train=True, rngs=rngs)
    loss, parts = system.loss(outputs, batch)
    return loss, (parts, outputs, {**state.collections, **updated})

  (loss, (parts, outputs, collections)), gradients = jax.value_and_grad(objective, has_aux=True)(state.trainable)
  updates, opt_state = tx.update(gradients, state.opt_state, state.trainable)
  grad_norm, update_norm = optax.tree.norm(gradients), optax.tree.norm(updates)

  present = batch["index"] >= 0
  readable = jnp.any(batch["ok"])
  # A mean over no row may be 0 / 0; that is no fault of the optimisation and is reported as failed rows.
  finite = (jnp.isfinite(loss) & jnp.isfinite(grad_norm) & jnp.isfinite(update_norm)) | ~readable
  applied = finite & readable
  old = (state.trainable, state.collections, state.opt_state)
  new = (optax.apply_updates(state.trainable, updates), collections, opt_state)
  trainable, collections, opt_state = jax.tree.map(lambda n, o: jnp.where(applied, n, o), new, old)

  metrics = {
    "loss": loss,
    "parts": dict(parts),
    "grad_norm": grad_norm,
    "update_norm": jnp.where(applied, update_norm, 0.0),
    "param_norm": optax.tree.norm(state.trainable),
    "lr": schedule(state.step - state.skipped),
    "finite": finite,
    "rows": jnp.sum(present),
    "failed": jnp.sum(present & ~batch["ok"]),
    "not_ok": jnp.mean(~batch["ok"]),
    "sums": system.metrics(outputs, batch),
  }
  state = state.replace(
    step=state.step + 1,
    skipped=state.skipped + ~applied,
    trainable=trainable,
    collections=collections,
    opt_state=opt_state,
  )
  return state, metrics


def compile_train_step(
  system: System, tx: optax.GradientTransformation, schedule: optax.Schedule, seed: int, state: TrainState
) -> Callable[[TrainState, DeviceBatch], tuple[TrainState, dict[str, PyTree]]]:
  """`train_step` for states placed like `state`. What it updates is donated: the old state can't be used afterwards.

  Frozen parameters are read, not passed through, so they are neither copied nor donated.
  """
  step = functools.partial(train_step, system=system, tx=tx, schedule=schedule, seed=seed)

  def update(learned, frozen, batch):
    state, metrics = step(learned.replace(frozen=frozen), batch)
    return state.replace(frozen={}), metrics

  placed = jax.tree.map(lambda leaf: leaf.sharding, state.replace(frozen={}))
  compiled = jax.jit(update, donate_argnums=0, out_shardings=(placed, replicated(state.step.sharding.mesh)))

  def run(state, batch):
    learned, metrics = compiled(state.replace(frozen={}), state.frozen, batch)
    return learned.replace(frozen=state.frozen), metrics

  return run


def eval_step(state: TrainState, batch: DeviceBatch, *, system: System) -> dict[str, PyTree]:
  """Sums over the rows with ok: "metrics" as `system.metrics`, "loss" times rows, and "rows"."""
  outputs, _ = system.apply(variables(state), batch, train=False)
  return batch_sums(outputs, batch, system=system)


def batch_sums(outputs: Mapping[str, PyTree], batch: DeviceBatch, *, system: System) -> dict[str, PyTree]:
  """What `eval_step` returns, from the outputs of the system."""
  loss, _ = system.loss(outputs, batch)
  rows = jnp.sum(batch["ok"])
  return {"metrics": system.metrics(outputs, batch), "loss": jnp.where(rows > 0, loss * rows, 0.0), "rows": rows}


def compile_eval_step(system: System, state: TrainState) -> Callable[[TrainState, DeviceBatch], dict[str, PyTree]]:
  """`eval_step` with its sums on every device."""
  return jax.jit(functools.partial(eval_step, system=system), out_shardings=replicated(state.step.sharding.mesh))
