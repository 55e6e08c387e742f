"""Several processes that compute as one: the same losses, the same decisions, and an end when one is gone."""

import json
import signal
import time

import pytest

from gasmcast.core.errors import EXIT_DEFECT, EXIT_USER
from tests.training.started import finish, outcomes, start_all, wait_for_batch
from tests.training.test_loop import record, saved

ENDLESS = {"steps": 10_000, "checkpoint_every": 4, "validate_every": 10_000}


def losses(folder):
  return [line["loss"] for line in record(folder) if line["split"] == "train"]


def close(found, expected):
  assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
  return max(abs(a - b) for a, b in zip(found, expected, strict=True))


def all_done(workers):
  ended = outcomes(workers)
  assert [code for code, _ in ended] == [0] * len(workers), "\n".join(printed for _, printed in ended)
  return [printed for _, printed in ended]


def test_two_processes_stop_at_the_same_step_and_one_process_finishes_with_the_same_losses(run, whole, tmp_path):
  own = ({}, {"sent": "SIGTERM", "at": 4})
  printed = all_done(start_all(tmp_path / "cut", *own, devices=2, placement="data", pause=0.5, slow_from=4))
  assert "of 12 is saved; the same command resumes there." in printed[0]  # only the other one got the signal
  resumed, again = run("cut")  # from parameters split over 4 devices to copies on 8
  assert "Resuming at step" in again
  assert (resumed.status, resumed.best_step) == ("finished", whole[1].best_step)
  close(losses(tmp_path / "cut"), losses(whole[0]))


@pytest.mark.reliability(14)
@pytest.mark.parametrize(
  "places",
  [
    [(1, 0), (2, 1)],
    pytest.param([(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (4, 0), (4, 1)], marks=pytest.mark.long),
  ],
  ids=["small", "full"],
)
def test_processes_and_data_workers_change_no_order_and_no_loss(tmp_path, places, figure):
  """Each run stops after step 6 and goes on with the numbers of the next one."""
  every = {"steps": 12, "log_every": 1}
  worst, expected = 0.0, None
  for number, (processes, loaders) in enumerate(places):
    folder = tmp_path / str(number)
    stop = [{"sent": "SIGTERM", "at": 7}] + [{}] * (processes - 1)
    all_done(start_all(folder, *stop, loaders=loaders, pause=0.3, slow_from=7, config=every))
    processes, loaders = places[(number + 1) % len(places)]
    all_done(start_all(folder, *[{}] * processes, loaders=loaders, config=every))
    expected = expected or losses(folder)
    worst = max(worst, close(losses(folder), expected))
    assert len(expected) == 12
  named = ", ".join(f"{processes} with {loaders}" for processes, loaders in places)
  figure(f"processes with data workers {named}, each resumed as the next one: losses differ by at most {worst:.1e}")


@pytest.mark.reliability(11)
def test_a_nan_on_one_of_two_processes_leads_both_to_the_same_decision(tmp_path, new_state, figure):
  own = ({}, {"poisoned": [3, 6, 7, 8]})
  fields = {"non_finite": "rollback", "max_non_finite": 3}
  printed = all_done(start_all(tmp_path / "back", *own, config=fields))
  both = list(range(16, 24))
  assert f"Step 3: loss = nan, grad_norm = nan; not applied. Examples {both}." in printed[0]
  assert "Step 8: back to the parameters of step 4, and on behind the 4 batches" in printed[0]
  state = saved(tmp_path / "back", new_state()).state
  assert (int(state.step), int(state.skipped)) == (12, 5)
  ended = outcomes(start_all(tmp_path / "stop", *own, config={"non_finite": "stop"}))
  assert [code for code, _ in ended] == [EXIT_USER, EXIT_USER]
  assert all("Step 3: loss = nan" in printed and "'stop'" in printed for _, printed in ended)
  figure(
    "a nan in rows of process 1: both left out step 3, both went back from step 8 to step 4; with 'stop' both ended"
  )


def end_of(workers, first_signal, stalled=1):
  """Sends a signal to one of the processes: (seconds until the other ended, its exit code, what it printed)."""
  workers[stalled].send_signal(first_signal)
  began = time.monotonic()
  printed = workers[1 - stalled].communicate(timeout=300)[0]
  seconds = time.monotonic() - began
  workers[stalled].kill()
  outcomes([workers[stalled]])
  return seconds, workers[1 - stalled].returncode, printed


@pytest.mark.reliability(12)
@pytest.mark.parametrize("killed", [0, 1])
def test_if_one_of_two_processes_is_killed_the_other_ends(tmp_path, killed, figure):
  workers = start_all(tmp_path, {}, {}, heartbeat=10, pause=0.05, config=ENDLESS)
  for process, worker in enumerate(workers):
    wait_for_batch(tmp_path, 10, worker, process)
  seconds, code, printed = end_of(workers, signal.SIGKILL, killed)
  assert code != 0, printed
  assert seconds < 15
  again = finish(tmp_path, sent="SIGTERM", at=40, config=ENDLESS)
  assert "Resuming at step" in again
  figure(f"process {killed} killed: the other ended after {seconds:.1f} s with exit code {code}, the run resumes")


@pytest.mark.reliability(13)
@pytest.mark.parametrize("how", ["stopped", "waits for data for ever"])
def test_if_one_of_two_processes_stalls_it_is_named_and_the_run_ends(tmp_path, how, figure):
  hangs = {} if how == "stopped" else {"sent": "HANG", "at": 12}
  workers = start_all(tmp_path, {}, hangs, pause=0.05, config={**ENDLESS, "watchdog": 8.0})
  for process, worker in enumerate(workers):
    wait_for_batch(tmp_path, 10, worker, process)
  seconds, code, printed = end_of(workers, signal.SIGSTOP if how == "stopped" else signal.SIGCONT)
  stacks = tmp_path / "watchdog" / f"stacks_{0 if how == 'stopped' else 1}.txt"
  assert "most recent call first" in stacks.read_text()
  if how == "stopped":
    assert code == EXIT_DEFECT and ", pid " in printed, printed
    assert "error: No progress for " in printed and f"pid {workers[1].pid}) shows no sign of life" in printed
  else:  # whichever of the two notices first says so
    assert code != 0
    notes = json.loads((tmp_path / "watchdog" / "process_1.json").read_text())
    assert (notes["what"], notes["pid"]) == ("waiting for data", workers[1].pid)
  assert seconds < 8 + 60
  figure(f"process 1 {how}, train.watchdog = 8: named, the other process ended after {seconds:.1f} s")
