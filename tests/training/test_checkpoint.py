"""What is kept, what is refused, and what a damaged checkpoint falls back to."""

import errno
import os

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import multihost_utils

from gasmcast.core.errors import WorkdirError
from gasmcast.training.checkpoint import CHECKSUMS, Checkpoints
from gasmcast.training.sharding import ShardingConfig, make_mesh
from gasmcast.training.state import fingerprint

IDENTITY = {"config": {"optim": {"lr": 0.001}, "layers": [1, 2]}, "data": "aaaa"}


def at_step(state, step):
  """A state that can be told from those of other steps."""
  return state.replace(step=jnp.int32(step), trainable={name: leaf + step for name, leaf in state.trainable.items()})


def save_all(folder, state, best_steps):
  """Saves one step for each entry of {step: best step so far}."""
  with Checkpoints(folder) as checkpoints:
    for step, best in best_steps.items():
      checkpoints.save(at_step(state, step), {"identity": IDENTITY, "note": f"step {step}"}, best)


def restore(folder, state, which="latest", identity=IDENTITY):
  with Checkpoints(folder) as checkpoints:
    return checkpoints.restore(state, identity, which)


@pytest.mark.parametrize(
  ("best_steps", "kept"),
  [
    ({1: 1, 2: 2, 3: 2, 4: 2, 5: 2}, [2, 4, 5]),  # an old best outlives newer steps
    ({1: 1, 2: 1, 3: 3, 4: 4, 5: 4}, [4, 5]),
    ({1: None, 2: None, 3: None}, [2, 3]),
  ],
)
def test_the_best_and_the_two_newest_are_kept(tmp_path, new_state, best_steps, kept):
  save_all(tmp_path, new_state(), best_steps)
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.steps() == kept


def test_a_state_comes_back_bit_for_bit_with_its_meta(tmp_path, new_state):
  state = new_state()
  save_all(tmp_path, state, {1: 1, 2: 2, 3: 2})
  for which, step in (("latest", 3), ("best", 2), (2, 2)):
    restored = restore(tmp_path, state, which)
    assert fingerprint(restored.state) == fingerprint(at_step(state, step))
    assert restored.meta == {"identity": IDENTITY, "note": f"step {step}", "best_step": 2, "good_step": None}
    assert restored.notes == ()
  assert restored.state.frozen["backbone/kernel"] is state.frozen["backbone/kernel"]


def test_frozen_parameters_are_not_stored(tmp_path, new_state):
  save_all(tmp_path, new_state(), {1: None})
  tree = (tmp_path / "1" / "state" / "_METADATA").read_text()
  assert "head/kernel" in tree and "backbone/kernel" not in tree


def test_another_number_of_devices_restores_the_same_numbers(tmp_path, new_state):
  sharding = ShardingConfig(parameters=((".*", "data"),), min_size=1)
  state = new_state(sharding=sharding)
  save_all(tmp_path, state, {1: None})
  alone = restore(tmp_path, new_state(mesh=make_mesh(devices=jax.devices()[:1]), sharding=sharding)).state
  assert fingerprint(alone) == fingerprint(at_step(state, 1))
  assert alone.trainable["head/kernel"].sharding.device_set == {jax.devices()[0]}


def largest_file(folder):
  return max((path for path in (folder / "state").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_a_bit(folder):
  path = largest_file(folder)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def truncate(folder):
  largest_file(folder).write_bytes(b"")


def delete_meta(folder):
  (folder / "meta" / "metadata").unlink()


def garble_checksums(folder):
  (folder / CHECKSUMS).write_text('{"state')


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, delete_meta, garble_checksums])
def test_a_damaged_newest_step_falls_back_to_the_one_before(tmp_path, new_state, damage):
  state = new_state()
  save_all(tmp_path, state, {1: None, 2: None})
  damage(tmp_path / "2")
  restored = restore(tmp_path, state)
  assert fingerprint(restored.state) == fingerprint(at_step(state, 1))
  (note,) = restored.notes
  assert note.startswith("Step 2 can't be restored and is left aside: ")
  # The run goes on from 1 and reaches 2 again: the damaged step gives way.
  save_all(tmp_path, state, {2: None})
  assert int(restore(tmp_path, state).state.step) == 2


def test_a_step_without_its_commit_mark_was_never_finished(tmp_path, new_state):
  state = new_state()
  save_all(tmp_path, state, {1: None, 2: None})
  (tmp_path / "2" / CHECKSUMS).unlink()
  restored = restore(tmp_path, state)
  assert int(restored.state.step) == 1
  assert restored.notes == ("Step 2 was never finished and is left aside.",)
  (tmp_path / "1" / CHECKSUMS).unlink()
  assert restore(tmp_path, state) is None


def test_if_every_step_is_damaged_nothing_is_guessed_and_nothing_deleted(tmp_path, new_state):
  state = new_state()
  save_all(tmp_path, state, {1: None, 2: None})
  for step in "12":
    flip_a_bit(tmp_path / step)
  with pytest.raises(WorkdirError, match=r"No checkpoint in .* can be restored. Step 2 can't .* Step 1 can't .*afresh"):
    restore(tmp_path, state)
  assert (tmp_path / "1").exists() and (tmp_path / "2").exists()


def test_another_run_is_refused_with_the_fields_that_differ(tmp_path, new_state):
  state = new_state()
  save_all(tmp_path, state, {7: None})
  other = {"config": {"optim": {"lr": 0.002}, "layers": [1, 2]}, "data": "bbbb"}
  with pytest.raises(WorkdirError) as error:
    restore(tmp_path, state, identity=other)
  assert "holds another run (step 7); 2 field(s) differ" in str(error.value)
  assert "config.optim.lr: 0.001 -> 0.002; data: 'aaaa' -> 'bbbb'" in str(error.value)
  # An evaluation on other data compares what it shares.
  assert restore(tmp_path, state, identity={"config": IDENTITY["config"]}) is not None


def test_an_absent_step_is_refused(tmp_path, new_state):
  state = new_state()
  assert restore(tmp_path, state) is None
  save_all(tmp_path, state, {1: None})
  with pytest.raises(WorkdirError, match=r"no checkpoint 5; it holds the steps \[1\]"):
    restore(tmp_path, state, 5)
  with pytest.raises(WorkdirError, match="no checkpoint 'best'"):
    restore(tmp_path, state, "best")


def test_the_best_is_found_beside_a_damaged_newest_step_and_never_replaced_by_another(tmp_path, new_state):
  state = new_state()
  save_all(tmp_path, state, {1: 1, 2: 1, 3: 1})
  flip_a_bit(tmp_path / "3")
  assert int(restore(tmp_path, state, "best").state.step) == 1
  (tmp_path / "1" / CHECKSUMS).unlink()
  with pytest.raises(WorkdirError, match="Step 1 was never finished"):
    restore(tmp_path, state, "best")


def test_a_failing_save_is_not_silent(tmp_path, new_state, monkeypatch):
  def fail(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

  monkeypatch.setattr("gasmcast.training.checkpoint.write_json", fail)
  with pytest.raises(OSError, match="Input/output error"), Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(at_step(new_state(), 1), {"identity": IDENTITY})


def test_the_best_before_outlives_a_new_best_that_was_never_finished(tmp_path, new_state):
  """Killed between the arrays and the checksums of step 4, the best is step 1 again."""
  save_all(tmp_path, new_state(), {1: 1, 2: 1, 3: 1, 4: 4})
  (tmp_path / "4" / CHECKSUMS).unlink()
  assert int(restore(tmp_path, new_state(), "best").state.step) == 1
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.restore(new_state(), IDENTITY)
    checkpoints.save(at_step(new_state(), 4), {"identity": IDENTITY}, 4)
    assert 1 in checkpoints.steps()
    checkpoints.save(at_step(new_state(), 5), {"identity": IDENTITY}, 4)
    checkpoints.wait()
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.steps() == [4, 5]


def test_orbax_does_not_ask_for_the_signal_that_the_loop_asks_for(tmp_path, monkeypatch):
  """Its number would be another one than the loop's, and the loop would never be told."""
  monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda step: True)
  with Checkpoints(tmp_path) as checkpoints:
    assert not checkpoints._manager.reached_preemption(5)
