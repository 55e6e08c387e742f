"""Trainings of the toy system in processes of their own, see worker.py."""

import json
import os
import pathlib
import subprocess
import sys
import time

import portpicker

ROOT = pathlib.Path(__file__).parents[2]
PATIENCE = 300  # seconds until a test gives a process up


def start(workdir: pathlib.Path, devices: int = 8, **options) -> subprocess.Popen:
  """A process with the `worker.Options` given. Its stdout and stderr are one."""
  return subprocess.Popen(
    [sys.executable, "-m", "tests.training.worker", str(workdir), json.dumps(options)],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def start_all(workdir: pathlib.Path, *own: dict, devices: int = 1, **common) -> list[subprocess.Popen]:
  """Several processes that compute as one, with the options of each."""
  place = {"processes": len(own), "port": portpicker.pick_unused_port()}
  return [start(workdir, devices, process=i, **place, **common, **options) for i, options in enumerate(own)]


def outcomes(workers: list[subprocess.Popen]) -> list[tuple[int, str]]:
  """(exit code, what was printed) of each, when all have ended."""
  printed = [worker.communicate(timeout=PATIENCE)[0] for worker in workers]
  return [(worker.returncode, text) for worker, text in zip(workers, printed, strict=True)]


def finish(workdir: pathlib.Path, **options) -> str:
  """What a process printed that was to come to a good end."""
  ((code, printed),) = outcomes([start(workdir, **options)])
  assert code == 0, printed
  return printed


def said(workdir: pathlib.Path, process: int = 0) -> list[tuple[str, int]]:
  """("from", step) where a training began, and ("batch", number) for each batch taken, in order."""
  path = workdir / f"said_{process}.txt"
  lines = path.read_text().split("\n")[:-1] if path.exists() else []
  return [(line.split()[0], int(line.split()[1])) for line in lines]


def wait_for_batch(workdir: pathlib.Path, number: int, worker: subprocess.Popen, process: int = 0) -> None:
  """Returns when batch `number` or a later one was taken."""
  until = time.monotonic() + PATIENCE
  while not any(what == "batch" and taken >= number for what, taken in said(workdir, process)):
    assert worker.poll() is None, worker.communicate()[0]
    assert time.monotonic() < until, f"no batch {number} within {PATIENCE} s"
    time.sleep(0.02)
