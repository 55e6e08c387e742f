"""What is read is what a process really holds."""

import multiprocessing
import pathlib
import threading
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from gasmcast.core import memory
from gasmcast.core.memory import Monitor, robust_slope

MEGABYTE = 1_000_000

on_linux = pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="/proc is not here")


def hold(connection, size):
  """A child process: allocates, says so, and waits for the end."""
  block = np.ones(size, np.uint8)
  connection.send(int(block[-1]))
  connection.recv()


@on_linux
def test_memory_that_is_taken_and_given_back_is_seen():
  monitor = Monitor()
  before = monitor.read()
  block = np.ones(200 * MEGABYTE, np.uint8)
  during = monitor.read()
  assert block[-1] == 1
  del block
  after = monitor.read()
  assert during["memory/rss_mb"] - before["memory/rss_mb"] == pytest.approx(200, abs=20)
  assert after["memory/rss_mb"] - before["memory/rss_mb"] == pytest.approx(0, abs=20)
  assert after["memory/peak_mb"] >= during["memory/rss_mb"] - 1
  assert set(after) == {f"memory/{name}" for name in ("rss_mb", "peak_mb", "children_mb", "files", "threads")}


@on_linux
def test_processes_below_this_one_are_added_up():
  context = multiprocessing.get_context("spawn")
  before = memory.children_bytes()
  here, there = context.Pipe()
  child = context.Process(target=hold, args=(there, 150 * MEGABYTE))
  child.start()
  try:
    assert here.recv() == 1
    assert memory.children_bytes() - before > 150 * MEGABYTE
    here.send("end")
  finally:
    child.join(20)
  assert memory.children_bytes() - before < 50 * MEGABYTE


@on_linux
def test_open_files_and_threads_are_counted(tmp_path):
  before = Monitor().read()
  finish = threading.Event()
  files = [open(tmp_path / str(number), "w") for number in range(5)]  # noqa: SIM115
  threads = [threading.Thread(target=finish.wait) for _ in range(3)]
  for thread in threads:
    thread.start()
  during = Monitor().read()
  finish.set()
  for thread in threads:
    thread.join()
  for file in files:
    file.close()
  assert during["memory/files"] - before["memory/files"] == 5
  assert during["memory/threads"] - before["memory/threads"] == 3
  assert Monitor().read()["memory/files"] == before["memory/files"]


@on_linux
def test_growth_is_that_of_a_process_that_keeps_half_a_megabyte_a_clip():
  with ProcessPoolExecutor(
    1, multiprocessing.get_context("spawn")
  ) as pool:  # memory of other tests comes and goes here
    assert pool.submit(_grow).result() == pytest.approx(500, rel=0.1)


def _grow():
  monitor, kept = Monitor(), []
  for clip in range(40):
    kept.append(np.ones(MEGABYTE // 2, np.uint8))
    monitor.read(clip)
  return monitor.growth()


def test_growth_needs_two_readings_with_different_clips():
  monitor = Monitor()
  assert monitor.growth() is None
  monitor.read(10)
  monitor.read(10)
  monitor.read()
  assert monitor.growth() is None


def test_a_long_run_keeps_few_readings_and_its_slope(monkeypatch):
  held = iter(range(0, 10**9, 300))  # 300 bytes a clip
  monkeypatch.setattr(memory, "resident_bytes", lambda: next(held))
  monkeypatch.setattr(memory, "children_bytes", lambda: 0)
  monitor = Monitor()
  for clip in range(1000):
    monitor.read(clip)
  assert 64 <= len(monitor._samples) <= 128
  assert np.ptp(np.diff([clip for clip, _ in monitor._samples])) == 0  # evenly over the whole run
  assert monitor.growth() == pytest.approx(0.3)


@pytest.mark.parametrize(
  ("points", "slope"),
  [
    ([], None),
    ([(1, 1)], None),
    ([(1, 1), (1, 5)], None),
    ([(0, 1), (2, 5)], 2.0),
    ([(0, 0), (1, 1), (2, 2), (3, 100), (4, 4)], 1.0),  # six pairs of ten have slope 1
  ],
)
def test_the_slope_is_the_median_over_pairs(points, slope):
  assert robust_slope(points) == slope


def test_one_large_step_is_no_growth():
  points = [(clip, 100.0 if clip < 5 else 500.0) for clip in range(40)]
  assert robust_slope(points) == 0


def test_without_proc_the_peak_and_the_threads_are_told(tmp_path, monkeypatch):
  monkeypatch.setattr(memory, "_PROC", tmp_path / "absent")
  numbers = Monitor().read(5)
  assert set(numbers) - {"memory/files"} == {"memory/peak_mb", "memory/threads"}  # files where /dev/fd is
  assert numbers["memory/peak_mb"] > 10
  assert numbers["memory/threads"] == threading.active_count()
