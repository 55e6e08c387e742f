"""The train step: equal on any devices, donated, and never applying what is not finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.training.optim import OptimConfig, make_optimizer
from gasmcast.training.sharding import ShardingConfig, make_mesh, shard_batch
from gasmcast.training.state import fingerprint, place_scale
from gasmcast.training.step import STREAMS, compile_eval_step, compile_train_step, step_rngs
from tests.training.toy_system import ToySystem, batch_of, config, train_batches


@pytest.fixture
def compiled(system, new_state):
  """(fresh state, compiled step, its mesh) on `mesh`, by default 8 devices."""

  def compile_on(mesh=None, sharding=None):
    mesh = mesh or make_mesh()
    state = new_state(mesh=mesh, sharding=sharding)
    tx, schedule = make_optimizer(config().optim, steps=12)
    return state, compile_train_step(system, tx, schedule, 0, state), mesh

  return compile_on


def run_steps(state, step, mesh, count, start=0):
  history, batches = [], train_batches(start)
  for _ in range(count):
    state, metrics = step(state, shard_batch(next(batches), mesh))
    history.append(jax.device_get(metrics))
  return state, history


@functools.lru_cache
def one_device():
  return make_mesh(devices=jax.devices()[:1])


@pytest.mark.parametrize("placement", ["replicated", "data"])
def test_losses_do_not_depend_on_the_devices(compiled, placement):
  sharding = ShardingConfig(parameters=((".*", placement),), min_size=1)
  _, alone = run_steps(*compiled(one_device()), 4)
  state, spread = run_steps(*compiled(sharding=sharding), 4)
  for name in ("loss", "grad_norm", "update_norm", "param_norm"):
    np.testing.assert_allclose([m[name] for m in spread], [m[name] for m in alone], rtol=1e-5, atol=1e-6)
  # The state stays where it was created, so that the next step needs no transfer.
  assert state.trainable["head/kernel"].sharding.is_fully_replicated == (placement == "replicated")


def test_the_old_state_is_donated_and_frozen_parameters_are_shared(compiled):
  state, step, mesh = compiled()
  old, before = state, fingerprint(state.frozen)
  state, _ = run_steps(state, step, mesh, 2)
  learned = jax.tree.leaves(old.replace(frozen={}))
  assert all(leaf.is_deleted() for leaf in learned)
  assert state.frozen["backbone/kernel"] is old.frozen["backbone/kernel"]
  assert fingerprint(state.frozen) == before
  assert int(state.step) == 2


def test_the_numbers_of_a_step(compiled):
  state, step, mesh = compiled()
  kernel = np.asarray(state.trainable["head/kernel"])
  _, history = run_steps(state, step, mesh, 3)
  np.testing.assert_allclose([m["lr"] for m in history], [0.0, 0.015, 0.03], rtol=1e-6)  # two steps of warm-up
  assert history[0]["update_norm"] == 0.0 and history[1]["update_norm"] > 0
  assert history[0]["parts"]["action"] == history[0]["loss"]
  # The scale of the norm starts at 1 (8 numbers), all biases at 0.
  np.testing.assert_allclose(history[0]["param_norm"], np.sqrt(8 + np.sum(kernel**2)), rtol=1e-6)
  assert [(m["rows"], m["failed"], m["not_ok"], bool(m["finite"])) for m in history] == [(8, 0, 0.0, True)] * 3
  assert history[0]["sums"]["examples"] == 8


def poisoned():
  batch = batch_of(np.arange(8))
  batch["vector"][3] = np.nan
  return batch


def test_a_loss_that_is_not_finite_is_never_applied(compiled):
  state, step, mesh = compiled()
  state, _ = run_steps(state, step, mesh, 2)
  before = fingerprint((state.trainable, state.collections, state.opt_state))
  state, metrics = step(state, shard_batch(poisoned(), mesh))
  assert not metrics["finite"] and metrics["update_norm"] == 0
  assert fingerprint((state.trainable, state.collections, state.opt_state)) == before
  assert (int(state.step), int(state.skipped)) == (3, 1)
  # The schedule counts updates, not batches: the next one is the third.
  _, (metrics,) = run_steps(state, step, mesh, 1)
  np.testing.assert_allclose(metrics["lr"], 0.03, rtol=1e-6)


class RootSystem(ToySystem):
  """Its loss is finite and its gradient is not: the root of 0 has an infinite slope."""

  def loss(self, outputs, batch):
    loss, parts = super().loss(outputs, batch)
    return loss + jnp.sqrt(0.0 * jnp.sum(outputs["logits"])), parts


def test_a_gradient_that_is_not_finite_is_never_applied(new_state, mesh):
  system, state = RootSystem(), new_state()
  tx, schedule = make_optimizer(config(optim=OptimConfig()).optim, steps=12)  # no warm-up
  step = compile_train_step(system, tx, schedule, 0, state)
  before = fingerprint(state.trainable)
  state, (metrics,) = run_steps(state, step, mesh, 1)
  assert np.isfinite(metrics["loss"]) and np.isnan(metrics["grad_norm"]) and not metrics["finite"]
  assert fingerprint(state.trainable) == before


def test_a_batch_without_a_readable_row_moves_nothing_and_is_no_numerical_failure(compiled):
  state, step, mesh = compiled()
  state, _ = run_steps(state, step, mesh, 2)
  before = fingerprint((state.trainable, state.collections, state.opt_state))
  batch = batch_of(np.arange(8)) | {"ok": np.zeros(8, bool)}
  state, metrics = step(state, shard_batch(batch, mesh))
  assert fingerprint((state.trainable, state.collections, state.opt_state)) == before
  assert metrics["finite"] and (metrics["rows"], metrics["failed"], metrics["not_ok"]) == (8, 8, 1.0)


def test_the_average_follows_the_parameters_and_is_what_is_validated(system, new_state, mesh):
  """By hand: update t keeps min(0.5, (1 + t) / (10 + t)) of the old average."""
  state = new_state(average=True)
  tx, schedule = make_optimizer(config(optim=OptimConfig(lr=0.1)).optim, steps=12)
  step = compile_train_step(system, tx, schedule, 0, state, average_decay=0.5)
  wanted = np.asarray(state.trainable["head/kernel"])
  for update, kept in enumerate((0.1, 2 / 11, 3 / 12)):
    state, _ = run_steps(state, step, mesh, 1, start=update)
    wanted = kept * wanted + (1 - kept) * np.asarray(state.trainable["head/kernel"])
    np.testing.assert_allclose(state.average["head/kernel"], wanted, rtol=1e-5, atol=1e-7)
  assert np.abs(wanted - np.asarray(state.trainable["head/kernel"])).max() > 1e-3
  before = fingerprint(state.average)
  state, metrics = step(state, shard_batch(poisoned(), mesh))
  assert not metrics["finite"] and fingerprint(state.average) == before

  evaluate, batch = compile_eval_step(system, state), shard_batch(batch_of(np.arange(8)), mesh)
  averaged, plain = (float(evaluate(one, batch)["loss"]) for one in (state, state.replace(average={})))
  assert averaged != plain
  assert float(evaluate(state.replace(trainable=state.average, average={}), batch)["loss"]) == averaged


def test_the_average_keeps_no_more_than_it_is_told(system, new_state, mesh):
  state = new_state(average=True)
  tx, schedule = make_optimizer(config(optim=OptimConfig(lr=0.1)).optim, steps=12)
  first = np.asarray(state.trainable["head/kernel"])
  step = compile_train_step(system, tx, schedule, 0, state, average_decay=0.05)
  state, _ = run_steps(state, step, mesh, 1)
  wanted = 0.05 * first + 0.95 * np.asarray(state.trainable["head/kernel"])
  np.testing.assert_allclose(state.average["head/kernel"], wanted, rtol=1e-5, atol=1e-7)


def test_the_scale_of_the_learning_rate_scales_the_whole_update(system, new_state, mesh):
  tx, schedule = make_optimizer(config(optim=OptimConfig(lr=0.1, weight_decay=0.5)).optim, steps=12)
  moved, rates = [], []
  for scale in (1.0, 0.25):
    state = new_state()
    before = np.asarray(state.trainable["head/kernel"])
    step = compile_train_step(system, tx, schedule, 0, state)
    state, (metrics,) = run_steps(state.replace(lr_scale=place_scale(scale, mesh)), step, mesh, 1)
    moved.append(np.asarray(state.trainable["head/kernel"]) - before)
    rates.append(float(metrics["lr"]))
  np.testing.assert_allclose(moved[1], 0.25 * moved[0], rtol=1e-4, atol=1e-7)
  np.testing.assert_allclose(rates, [0.1, 0.025], rtol=1e-6)


class MixingSystem(ToySystem):
  """Takes the rows in a random order, all but their index."""

  def mix(self, batch, rng):
    order = jax.random.permutation(rng, len(batch["index"]))
    return {name: leaf if name == "index" else leaf[order] for name, leaf in batch.items()} | {"order": order}

  def metrics(self, outputs, batch):
    return {"order": batch["order"]} if "order" in batch else {}


def test_a_step_works_on_the_mixed_batch_which_depends_on_the_step_alone(new_state):
  """On 1 and on 8 devices, whole or after a step that was not taken."""
  orders = {}
  for name, mesh in (("one", one_device()), ("eight", make_mesh())):
    system, state = MixingSystem(), new_state(mesh=mesh)
    tx, schedule = make_optimizer(config().optim, steps=12)
    step = compile_train_step(system, tx, schedule, 0, state)
    _, history = run_steps(state, step, mesh, 2)
    orders[name] = [metrics["sums"]["order"].tolist() for metrics in history]
  assert orders["one"] == orders["eight"]
  expected = [jax.random.permutation(step_rngs(0, jnp.array(step))["mixing"], 8).tolist() for step in (0, 1)]
  assert orders["one"] == expected and expected[0] != expected[1]


def test_streams_depend_on_name_step_and_seed_alone():
  draws = {
    (name, seed, step): int(jax.random.bits(step_rngs(seed, step)[name]))
    for name in STREAMS
    for seed in (0, 1)
    for step in (0, 1)
  }
  assert len(set(draws.values())) == len(draws) == 8
  crc_of_dropout = 0x9289EFC9
  key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), crc_of_dropout), 0)
  assert draws["dropout", 1, 0] == int(jax.random.bits(key))


def test_evaluation_sums_count_rows_that_are_ok(system, new_state, mesh):
  state = new_state()
  step = compile_eval_step(system, state)
  whole = jax.device_get(step(state, shard_batch(batch_of(np.arange(8)), mesh)))
  padded = jax.device_get(step(state, shard_batch(batch_of(np.array([0, 1, 2, -1, -1, -1, -1, -1])), mesh)))
  assert (whole["rows"], whole["metrics"]["examples"]) == (8, 8)
  assert (padded["rows"], padded["metrics"]["examples"]) == (3, 3)
  assert not state.trainable["head/kernel"].is_deleted()
