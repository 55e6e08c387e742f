"""The gradient of a batch is the same whether it is taken whole or in parts."""

import functools

import jax
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.training import gradients
from gasmcast.training.sharding import make_mesh, shard_batch
from tests.training import toy_system
from tests.training.toy_system import ToySystem, batch_of


class PlainSystem(ToySystem):
  """Without dropout and with the statistics of evaluation: a row does not depend on the others."""

  def apply(self, variables, batch, *, train, rngs=None, capture=False):
    outputs, _ = super().apply(variables, batch, train=False)
    return outputs, {}


def taken(system, state, batch, parts, mesh, key=None):
  rngs = {"dropout": jax.random.key(3) if key is None else key}
  take = functools.partial(gradients.in_parts, parts=parts) if parts > 1 else gradients.whole
  return jax.jit(lambda state, batch: take(state, batch, system, rngs))(state, shard_batch(batch, mesh))


@pytest.mark.parametrize("devices", [1, 8])
def test_parts_give_the_gradient_of_the_whole_batch(new_state, devices):
  mesh = make_mesh(devices=jax.devices()[:devices])
  state, batch = new_state(PlainSystem(), mesh), batch_of(np.arange(32))
  batch["ok"] = np.arange(32) % 5 != 0  # so that the parts have different numbers of readable rows
  whole, parts = (taken(PlainSystem(), state, batch, count, mesh) for count in (1, 4))
  for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
    np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-7)
  assert parts.sums["examples"] == 25 and float(parts.loss) > 0


def test_a_part_without_a_readable_row_changes_nothing(new_state, mesh):
  class Mean(PlainSystem):
    def loss(self, outputs, batch):
      _, parts = super().loss(outputs, batch)
      loss = parts["action"] + 0 * (batch["ok"].sum() / batch["ok"].sum())  # 0 / 0 where no row is readable
      return loss, {"action": loss}

  state, batch = new_state(Mean()), batch_of(np.arange(32))
  batch["ok"] = np.arange(32) % 4 != 1  # part 1 holds the rows 1, 5, 9, ...
  parts, whole = taken(Mean(), state, batch, 4, mesh), taken(PlainSystem(), state, batch, 1, mesh)
  np.testing.assert_allclose(parts.gradients["head/kernel"], whole.gradients["head/kernel"], rtol=1e-5, atol=1e-7)


def test_batch_statistics_go_from_part_to_part(new_state, mesh):
  """By hand: the mean over the rows of each part enters the running one, first of the even, then of the odd rows."""
  state, batch = new_state(), batch_of(np.arange(16))
  found = taken(ToySystem(), state, batch, 2, mesh)
  kernel, bias = (np.asarray(state.frozen[f"backbone/{name}"]) for name in ("kernel", "bias"))
  hidden = np.maximum(batch["vector"] @ kernel + bias, 0)
  wanted = 0.9 * (0.1 * hidden[::2].mean(0)) + 0.1 * hidden[1::2].mean(0)
  np.testing.assert_allclose(found.collections["batch_stats"]["norm"]["mean"], wanted, rtol=1e-4, atol=1e-6)


def test_parts_draw_random_numbers_of_their_own(new_state, mesh):
  """Both parts hold the rows 0 to 7; with one key for both, their mean would be the loss of either."""
  state, key = new_state(), jax.random.key(3)
  both = taken(ToySystem(), state, batch_of(np.arange(16) // 2), 2, mesh)
  apart = [taken(ToySystem(), state, batch_of(np.arange(8)), 1, mesh, jax.random.fold_in(key, i)) for i in range(2)]
  losses = [float(one.loss) for one in apart]
  assert losses[0] != losses[1]
  np.testing.assert_allclose(float(both.loss), np.mean(losses), rtol=1e-6)


def test_a_run_in_parts_is_the_run_of_whole_batches(tmp_path):
  """Through the loop, on a global batch of 16."""
  batches = lambda start: toy_system.train_batches(start, rows=16)
  losses = []
  for parts in (1, 2):
    toy_system.train(tmp_path / str(parts), batches, system=PlainSystem(), accumulate=parts)
    losses.append(toy_system.losses(tmp_path / str(parts)))
  assert len(losses[0]) == 6
  np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_a_batch_that_can_not_be_divided_is_refused(tmp_path):
  message = (
    r"config.train.accumulate = 3: a global batch of 8 rows can't be taken in 3 equal parts on 8 devices; use a batch "
    r"that is a multiple of 24."
  )
  with pytest.raises(ConfigError, match=message):
    toy_system.train(tmp_path, accumulate=3)
  with pytest.raises(ConfigError, match=r"train.accumulate = 0: it counts parts; use 1 or more"):
    toy_system.config(accumulate=0)
