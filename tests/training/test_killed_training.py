"""A training that is killed, stopped or started twice: nothing is lost but the steps since the last checkpoint."""

import itertools
import os
import random
import signal
import time

import pytest

from gasmcast.core.errors import EXIT_USER
from gasmcast.training.checkpoint import CHECKSUMS, Checkpoints
from tests.training import toy_system
from tests.training.started import finish, outcomes, said, start, wait_for_batch
from tests.training.test_loop import final_hash, record, saved

EVERY = 4  # steps from checkpoint to checkpoint


def many_steps(steps):
  return {"steps": steps, "validate_every": steps, "checkpoint_every": EVERY, "log_every": 10}


def life(lines):
  """(step that a process went on from, last batch that it took), None for one that did not get there.

  The first "from" of a process looks at one batch; the second is where it goes on from.
  """
  began = [place for place, (what, _) in enumerate(lines) if what == "from"]
  if len(began) < 2:
    return None
  return lines[began[1]][1], max((number for what, number in lines[began[1] :] if what == "batch"), default=0)


def kill_at_random(folder, kills, synchronous, steps):
  """Starts a training again and again and kills it, one time in five before it trains: what each has said."""
  draw, lives = random.Random(kills), []
  for _ in range(kills):
    before = len(said(folder))
    worker = start(folder, devices=1, pause=0.05, synchronous=synchronous, config=many_steps(steps))
    if draw.random() < 0.2:
      time.sleep(draw.uniform(0.0, 3.0))
    else:
      while life(said(folder)[before:]) is None:
        assert worker.poll() is None, worker.communicate()[0]
        time.sleep(0.01)
      time.sleep(draw.uniform(0.0, 0.6))
    worker.kill()
    ((code, printed),) = outcomes([worker])
    assert code == -signal.SIGKILL, printed
    lives.append(life(said(folder)[before:]))
  return lives


@pytest.mark.reliability(1)
@pytest.mark.parametrize("synchronous", [False, True], ids=["background", "waited for"])
@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.long)])
def test_a_run_killed_at_random_instants_ends_as_if_it_was_not(tmp_path, new_state, kills, synchronous, figure):
  steps = 20 + 14 * kills
  finish(tmp_path / "whole", devices=1, config=many_steps(steps))
  lives = kill_at_random(tmp_path / "killed", kills, synchronous, steps)
  before = len(said(tmp_path / "killed"))
  printed = finish(tmp_path / "killed", devices=1, synchronous=synchronous, config=many_steps(steps))
  lives = [one for one in (*lives, life(said(tmp_path / "killed")[before:])) if one is not None]
  # When a batch is taken, the step before it may still run, and the one before that is done.
  lost = [max(0, reached - 2 - resumed) for (_, reached), (resumed, _) in itertools.pairwise(lives)]
  assert max(lost, default=0) <= (EVERY if synchronous else 2 * EVERY)  # a save in the background may be unfinished
  assert [resumed for resumed, _ in lives] == sorted(resumed for resumed, _ in lives)
  assert "can't be restored" not in printed
  with Checkpoints(tmp_path / "killed" / "checkpoints") as checkpoints:
    assert all(checkpoints.restore(new_state(), {}, step) for step in checkpoints.steps())
  assert final_hash(tmp_path / "killed", new_state()) == final_hash(tmp_path / "whole", new_state())
  how = "waited for" if synchronous else "in the background"
  figure(
    f"{kills} kills, saves {how}: all resumed, no torn checkpoint used, at most {max(lost, default=0)} steps lost with "
    f"a checkpoint every {EVERY}, final state bit for bit that of a run without kills"
  )


@pytest.mark.reliability(2)
@pytest.mark.parametrize("cuts", [(11,), pytest.param((2, 4, 5, 8, 12), marks=pytest.mark.long)], ids=["1", "5"])
def test_a_killed_run_resumes_bit_identical(run, whole, tmp_path, new_state, cuts, figure):
  for at in cuts:
    name = f"cut {at}"
    ((code, printed),) = outcomes([start(tmp_path / name, sent="SIGKILL", at=at, pause=0.5, slow_from=at)])
    assert code == -signal.SIGKILL, printed
    resumed, printed = run(name)
    assert resumed == whole[1]
    assert final_hash(tmp_path / name, new_state()) == final_hash(whole[0], new_state())
    assert record(tmp_path / name) == record(whole[0])
  figure(f"killed at step {', '.join(map(str, cuts))} of 12 and resumed: state and metrics.jsonl as uninterrupted")


@pytest.mark.reliability(3)
def test_sigterm_saves_the_current_step_within_ten_seconds(run, tmp_path, new_state, figure):
  worker = start(tmp_path / "run", pause=0.3, slow_from=3, config={"steps": 1000, "checkpoint_every": 1000})
  wait_for_batch(tmp_path / "run", 5, worker)
  worker.terminate()
  told = time.time()
  ((code, printed),) = outcomes([worker])
  assert code == 0 and "of 1000 is saved; the same command resumes there." in printed
  step = int(saved(tmp_path / "run", new_state()).state.step)
  seconds = (tmp_path / "run" / "checkpoints" / str(step) / CHECKSUMS).stat().st_mtime - told
  taken = said(tmp_path / "run")[-1][1]
  assert taken - step <= 1  # all that was trained is saved: the batch beyond it was only loaded
  assert seconds < 10
  figure(f"checkpoint of step {step} finished {seconds:.1f} s after the signal, 0 steps lost")


@pytest.mark.reliability(19)
def test_of_two_trainers_the_second_is_refused_and_the_lock_of_a_killed_one_is_removed(tmp_path, figure):
  endless = {"steps": 10_000, "checkpoint_every": 4, "validate_every": 10_000}
  first = start(tmp_path, pause=0.2, slow_from=6, config=endless)
  wait_for_batch(tmp_path, 6, first)
  before = (tmp_path / "metrics.jsonl").read_bytes()
  ((code, printed),) = outcomes([start(tmp_path, config=endless)])
  assert code == EXIT_USER and f"{tmp_path} is in use by process {first.pid} on " in printed
  assert (tmp_path / "metrics.jsonl").read_bytes().startswith(before) and first.poll() is None
  while not any(tmp_path.glob(f"checkpoints/*/{CHECKSUMS}")):
    assert first.poll() is None
    time.sleep(0.02)
  first.kill()
  outcomes([first])
  third = start(tmp_path, sent="SIGTERM", at=30, config=endless)
  ((code, resumed),) = outcomes([third])
  assert code == 0 and f"The lock of process {first.pid} on " in resumed and "Resuming at step" in resumed
  figure("the second was refused with host, process and time of the first; after kill -9 the third removed its lock")


def test_a_run_that_lost_its_lock_writes_nothing_more(run, tmp_path):
  """It stood still so long that another machine has taken over."""

  def taken_over(start):
    for step, batch in enumerate(toy_system.train_batches(start), start=start + 1):
      if step == 6:
        (tmp_path / "run" / ".training.lock").write_text("{}")
        os.utime(tmp_path / "run" / ".training.lock")
      yield batch

  with pytest.raises(Exception, match="was taken over by a trainer that has not said its name while this run stood"):
    run(batches=taken_over)
  with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
    assert checkpoints.steps() == [4]
