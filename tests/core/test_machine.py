"""What is said about the machine."""

import os
import pathlib
import sys

import numpy as np
import pytest

from gasmcast.core import machine


def test_the_machine_is_described():
  described = machine.describe()
  assert described["cpu"] and described["cpus_present"] == os.cpu_count()
  assert 1 <= described["cpus"] == machine.usable_cpus() <= os.cpu_count()
  assert described["memory_bytes"] > 1e8 and len(described["load"]) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system can't bind a process to CPUs")
def test_cpus_that_the_process_may_not_use_do_not_count():
  allowed = os.sched_getaffinity(0)
  try:
    os.sched_setaffinity(0, {min(allowed)})
    assert machine.usable_cpus() == 1
  finally:
    os.sched_setaffinity(0, allowed)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its high-water mark")
def test_memory_is_counted_that_a_call_frees_before_it_returns():
  try:
    pathlib.Path("/proc/self/clear_refs").write_text("5")
  except OSError:
    pytest.skip("the mark can't be reset here")
  size = 64 << 20
  assert 0.95 * size <= machine.resident_growth(lambda: np.ones(size, np.uint8).sum()) < 1.5 * size
  assert machine.resident_growth(lambda: None) < size / 2


def test_a_system_that_can_not_tell_says_so(monkeypatch):
  def refuse(self, text):
    raise PermissionError

  monkeypatch.setattr(pathlib.Path, "write_text", refuse)
  assert machine.resident_growth(lambda: 1) is None
