"""Runs in processes of their own: killed without warning, and spread over two processes that are told to stop."""

import json
import os
import pathlib
import subprocess
import sys

import portpicker
import pytest

from tests.training.test_loop import final_hash, record
from tests.training.worker import SHARDING

ROOT = pathlib.Path(__file__).parents[2]


def start(workdir, process=0, processes=1, port=0, sent="SIGTERM", at=99, steps=12):
  flags = f"--xla_force_host_platform_device_count={8 // processes}"
  arguments = [workdir, process, processes, port, sent, at, steps]
  return subprocess.Popen(
    [sys.executable, "-m", "tests.training.worker", *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": flags},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


@pytest.mark.reliability
def test_a_killed_run_resumes_bit_identical(run, tmp_path, new_state):
  killed = start(tmp_path / "cut", sent="SIGKILL", at=11)
  run("whole", sharding=SHARDING)
  output, _ = killed.communicate(timeout=120)
  assert killed.returncode == -9, output
  _, printed = run("cut", sharding=SHARDING)
  # Step 8 was saved before the kill; if it was not yet whole, the run goes on from step 4.
  assert "Resuming at step 8 of 12." in printed or "Resuming at step 4 of 12." in printed
  target = new_state(sharding=SHARDING)
  assert final_hash(tmp_path / "cut", target) == final_hash(tmp_path / "whole", target)
  assert record(tmp_path / "cut") == record(tmp_path / "whole")


@pytest.mark.reliability
def test_two_processes_stop_at_the_same_step_and_one_process_finishes_with_the_same_losses(run, tmp_path):
  port = portpicker.pick_unused_port()
  workers = [start(tmp_path / "cut", i, 2, port, at=(99, 6)[i], steps=40) for i in range(2)]  # only the second is told
  outputs = [worker.communicate(timeout=120)[0] for worker in workers]
  assert [worker.returncode for worker in workers] == [0, 0], "\n".join(outputs)
  assert "of 40 is saved; the same command resumes there." in outputs[0]
  whole, _ = run("whole", sharding=SHARDING, steps=40)
  resumed, printed = run("cut", sharding=SHARDING, steps=40)
  assert "Resuming at step" in printed
  assert (resumed.status, resumed.best_step) == ("finished", whole.best_step)
  losses = [[line["loss"] for line in record(tmp_path / name)] for name in ("cut", "whole")]
  assert losses[0] == pytest.approx(losses[1], rel=1e-5, abs=1e-6)
  assert json.loads((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 40
