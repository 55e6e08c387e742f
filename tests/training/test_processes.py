"""Runs in processes of their own: killed without warning, and spread over two processes that are told to stop."""

import os
import pathlib
import subprocess
import sys

import portpicker
import pytest

from tests.training.test_loop import final_hash, record

ROOT = pathlib.Path(__file__).parents[2]


def start(workdir, process=0, processes=1, port=0, sent="SIGTERM", at=99, devices=8, placement="replicated"):
  flags = f"--xla_force_host_platform_device_count={devices}"
  arguments = [workdir, process, processes, port, sent, at, placement]
  return subprocess.Popen(
    [sys.executable, "-m", "tests.training.worker", *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": flags},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


@pytest.mark.reliability
def test_a_killed_run_resumes_bit_identical(run, whole, tmp_path, new_state):
  killed = start(tmp_path / "cut", sent="SIGKILL", at=11)
  output, _ = killed.communicate(timeout=120)
  assert killed.returncode == -9, output
  resumed, printed = run("cut")
  # Step 8 was saved before the kill; if it was not yet whole, the run goes on from step 4.
  assert "Resuming at step 8." in printed or "Resuming at step 4." in printed
  assert resumed == whole[1]
  assert final_hash(tmp_path / "cut", new_state()) == final_hash(whole[0], new_state())
  assert record(tmp_path / "cut") == record(whole[0])


@pytest.mark.reliability
def test_two_processes_stop_at_the_same_step_and_one_process_finishes_with_the_same_losses(run, whole, tmp_path):
  port = portpicker.pick_unused_port()
  workers = [start(tmp_path / "cut", i, 2, port, at=(99, 4)[i], devices=2, placement="data") for i in range(2)]
  outputs = [worker.communicate(timeout=120)[0] for worker in workers]
  assert [worker.returncode for worker in workers] == [0, 0], "\n".join(outputs)
  assert "of 12 is saved; the same command resumes there." in outputs[0]  # only the other one got the signal
  resumed, printed = run("cut")  # from parameters split over 4 devices to copies on 8
  assert "Resuming at step" in printed
  assert (resumed.status, resumed.best_step) == ("finished", whole[1].best_step)
  losses = [[line["loss"] for line in record(folder)] for folder in (tmp_path / "cut", whole[0])]
  assert losses[0] == pytest.approx(losses[1], rel=1e-5, abs=1e-6)
