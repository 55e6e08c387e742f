"""Nothing is lost and nothing is there twice, whichever worker is killed and when."""

import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

from gasmcast.core import leases
from tests.core.small_work import names

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WORKERS = pathlib.Path(__file__).resolve().parent / "shard_workers.py"


def start(*arguments):
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  return subprocess.Popen(
    [sys.executable, str(WORKERS), *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True
  )


def kill_workers(folder, kills, seed):
  """Three workers, of which `kills` die at random instants while they hold a claim; each is replaced."""
  draw, workers = random.Random(seed), [start("work", folder, 0.06) for _ in range(3)]
  for _ in range(kills):
    holding = []
    while not holding:
      holders = [leases.read_holder(path) for path in folder.glob(".*.claim")]
      pids = {holder.pid for holder in holders if holder is not None}
      holding = [worker for worker in workers if worker.pid in pids and worker.poll() is None]
      assert any(worker.poll() is None for worker in workers), "all was done before all were killed"
    victim = draw.choice(holding)
    time.sleep(draw.uniform(0.0, 0.1))
    victim.kill()
    victim.communicate()
    workers[workers.index(victim)] = start("work", folder, 0.06)
  for worker in workers:
    worker.communicate(timeout=100)
    assert worker.returncode == 0


@pytest.mark.reliability
@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.long)])
def test_workers_killed_at_random_instants_make_what_a_clean_run_makes(tmp_path, kills):
  clean, killed = tmp_path / "clean", tmp_path / "killed"
  worker = start("work", clean, 0.0)
  worker.communicate(timeout=100)
  killed.mkdir()
  kill_workers(killed, kills, seed=kills)
  files = {name: (clean / name).read_bytes() for name in names(clean)}
  assert {name: (killed / name).read_bytes() for name in files} == files
  assert [name for name in set(names(killed)) - set(files) if not name.endswith(".part")] == []
  lines = "".join((killed / name).read_text() for name in sorted(files) if name.endswith(".txt")).splitlines()
  assert lines == [f"item {item}" for item in range(50)]


@pytest.mark.reliability
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the worker is a fork")
@pytest.mark.parametrize("step", [31, pytest.param(1, marks=pytest.mark.long)])
def test_a_worker_killed_before_any_line_loses_and_leaves_nothing(tmp_path, step):
  worker = start("lines", tmp_path, 1, step)
  killed, _ = worker.communicate(timeout=600)
  assert worker.returncode == 0 and int(killed) * step > 400
