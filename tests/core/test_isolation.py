"""A call that crashes, hangs or eats memory costs its own result only."""

import contextlib
import os
import pathlib
import subprocess
import sys
import time

import pytest

from gasmcast.core import isolation, isolation_worker
from gasmcast.core.errors import ConfigError
from gasmcast.core.isolation import Failed, Isolated, Limits, Returned
from tests.core import isolated_calls as calls

ROOT = pathlib.Path(__file__).parents[2]
MB = 1_000_000
LINUX = sys.platform == "linux"


def outcomes(function, items, workers=2, **limits):
  with Isolated(function, workers, Limits(**limits)) as pool:
    found = list(pool.map(items))
  assert [index for index, _ in found] == list(range(len(found)))
  return [outcome for _, outcome in found]


def alive(pid):
  """Whether a process runs; one that has ended and was not asked for its exit code counts as running."""
  with contextlib.suppress(ProcessLookupError):
    os.kill(pid, 0)
    return True
  return False


def test_results_come_in_the_order_of_the_items():
  orders = ["sleep 0.3", *("pass" for _ in range(9)), "sleep 0.1", "pass"]
  assert outcomes(calls.act, orders) == [Returned(order) for order in orders]
  assert outcomes(calls.square, []) == []


@pytest.mark.reliability
def test_a_failing_call_costs_its_own_result_only():
  orders = {
    "pass 1": "",
    "fail clip.webm is cut off.": "clip.webm is cut off.",
    "wrong two lines": "an internal error, ValueError: two lines and a second line",
    "exit 3": "an internal error, SystemExit: 3",
    "kill 11": "ended with signal SIGSEGV: the file is damaged or hostile, or needs more than 100 MB.",
    "kill 6": "ended with signal SIGABRT",
    "kill 9": "ended with signal SIGKILL",
    "leave 0": "ended with exit code 0",
    "leave 7": "ended with exit code 7",
    "allocate 60": "",
    "pass 2": "",
  }
  found = outcomes(calls.act, [*orders], memory=100 * MB)
  for (order, reason), outcome in zip(orders.items(), found, strict=True):
    assert isinstance(outcome, Failed) == bool(reason), (order, outcome)
    assert outcome == Returned(order) or (reason in outcome.reason and "\n" not in outcome.reason)


@pytest.mark.reliability
def test_a_call_that_hangs_is_given_up_while_others_go_on():
  found = outcomes(calls.act, ["hang", *["pass"] * 9], seconds=2.0)
  assert found == [Failed("reading it took more than 2 s and was given up."), *[Returned("pass")] * 9]


@pytest.mark.skipif(not LINUX, reason="RLIMIT_DATA works as a limit on Linux alone")
def test_a_call_may_take_so_much_memory_and_no_more():
  found = outcomes(calls.act, ["allocate 90", "allocate 130", "allocate 90"], workers=1, memory=100 * MB)
  refusal = Failed("reading it needs more than 100 MB.")
  assert found == [Returned("allocate 90"), refusal, Returned("allocate 90")]


@pytest.mark.skipif(not LINUX, reason="RLIMIT_DATA works as a limit on Linux alone")
def test_what_a_library_says_of_lacking_memory_is_completed_by_the_limit():
  (found,) = outcomes(calls.act, ["fail a.webm: Failed to allocate 9 bytes."], memory=100 * MB)
  assert found == Failed("a.webm: Failed to allocate 9 bytes. At most 100 MB are allowed.")


@pytest.mark.skipif(not LINUX, reason="memory can't be told elsewhere")
def test_a_worker_that_leaks_is_replaced_before_the_limit():
  found = outcomes(calls.act, ["keep 30"] * 20, workers=1, memory=100 * MB)
  assert found == [Returned("keep 30")] * 20


def test_a_worker_is_replaced_after_so_many_calls():
  so_far = [outcome.value for outcome in outcomes(calls.calls_so_far, range(2 * isolation_worker.CALLS + 5), workers=1)]
  assert max(so_far) == isolation_worker.CALLS and so_far.count(1) == 3


def test_a_call_whose_worker_was_killed_from_outside_is_tried_once_more(tmp_path):
  orders = [f"once {tmp_path / 'mark'}", "kill 9", "pass"]
  found = outcomes(calls.act, orders)
  assert found[0] == Returned(orders[0]) and found[2] == Returned("pass")
  assert "SIGKILL" in found[1].reason


def test_workers_are_quiet_and_have_one_thread_of_each_library(capfd):
  found = outcomes(calls.act, ["noisy", "kill 11"])
  assert found[0] == Returned("noisy")
  (seen,) = (outcome.value for outcome in outcomes(calls.environment, [0]))
  assert seen["pid"] != os.getpid() and seen["threads"] == "1" and seen["core"] == 0
  assert seen["main"] is None  # neither pytest nor launch/main.py is imported again
  assert capfd.readouterr() == ("", "")


def test_items_are_taken_lazily():
  taken = []

  def items():
    for number in range(1000):
      taken.append(number)
      yield number

  with Isolated(calls.square, 2) as pool:
    results = pool.map(items())
    for number in range(100):
      assert next(results) == (number, Returned(number * number))
      assert len(taken) <= number + 1 + 2 * 16


def test_leaving_the_loop_early_ends_what_runs_and_the_pool_goes_on():
  with Isolated(calls.act, 2) as pool:
    for _, outcome in pool.map(["pass", "hang", "hang"]):
      assert outcome == Returned("pass")
      break
    assert [outcome for _, outcome in pool.map(["pass 1", "pass 2"])] == [Returned("pass 1"), Returned("pass 2")]
    with pytest.raises(ZeroDivisionError):
      list(pool.map(1 / number for number in (1, 0)))
    assert [outcome for _, outcome in pool.map(["pass"])] == [Returned("pass")]


def test_no_process_is_left():
  with Isolated(calls.environment, 2, Limits(seconds=1.0)) as pool:
    pids = {outcome.value["pid"] for _, outcome in pool.map(range(20))}
  assert pids and not any(alive(pid) for pid in pids)


def test_a_worker_killed_while_idle_is_replaced():
  with Isolated(calls.environment, 1) as pool:
    ((_, first),) = pool.map([0])
    os.kill(first.value["pid"], 9)
    ((_, second),) = pool.map([0])
    assert second.value["pid"] != first.value["pid"]


@pytest.mark.reliability
def test_workers_end_with_a_killed_parent(tmp_path):
  code = (
    "import os\nfrom gasmcast.core.isolation import Isolated\nfrom tests.core import isolated_calls as calls\n"
    "with Isolated(calls.act_and_tell, 2) as pool:\n"
    f"  list(pool.map([('{tmp_path / 'a'}', 'sleep 60'), ('{tmp_path / 'b'}', 'sleep 60')]))\n"
  )
  parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
  marks = [tmp_path / "a", tmp_path / "b"]
  wait_until(lambda: all(mark.exists() and mark.read_text() for mark in marks))
  parent.kill()
  parent.wait()
  pids = [int(mark.read_text()) for mark in marks]
  wait_until(lambda: not any(alive(pid) for pid in pids))
  assert len(set(pids)) == 2 and not any(alive(pid) for pid in pids)


def wait_until(holds, seconds=60.0):
  end = time.monotonic() + seconds
  while not holds():
    assert time.monotonic() < end
    time.sleep(0.05)


def test_a_script_without_a_guard_may_use_it(tmp_path):
  script = tmp_path / "script.py"
  script.write_text(
    "from gasmcast.core.isolation import Isolated\nfrom tests.core.isolated_calls import square\nprint('once')\n"
    "with Isolated(square, 2) as pool:\n  print([outcome.value for _, outcome in pool.map(range(4))])\n"
  )
  done = subprocess.run(
    [sys.executable, script], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
  )
  assert (done.stdout, done.stderr) == ("once\n[0, 1, 4, 9]\n", "")


@pytest.mark.parametrize("function", [calls.lock, calls.inner_result])
def test_a_result_that_cannot_be_sent_back_is_named(function):
  (found,) = outcomes(function, [0])
  assert "the result can't be sent back: " in found.reason


def test_a_function_that_workers_cannot_import_is_a_defect(tmp_path, monkeypatch):
  monkeypatch.setattr(isolation.pickle, "dumps", lambda _: b"cno_such_module\nfunction\n.")
  with (
    Isolated(calls.square) as pool,
    pytest.raises(RuntimeError, match="can't import the function that it is to call: No module named 'no_such_module'"),
  ):
    list(pool.map([1]))


def test_workers_that_never_start_are_a_defect(monkeypatch):
  monkeypatch.setattr(isolation.sys, "executable", "/bin/false")
  with (
    Isolated(calls.square) as pool,
    pytest.raises(
      RuntimeError, match="3 worker processes in a row failed to start; of the last one, it ended with exit"
    ),
  ):
    list(pool.map([1]))


def test_a_worker_that_takes_too_long_to_start_is_given_up(tmp_path, monkeypatch):
  interpreter = tmp_path / "python"
  interpreter.write_text("#!/bin/sh\nexec sleep 60\n")
  interpreter.chmod(0o700)
  monkeypatch.setattr(isolation.sys, "executable", str(interpreter))
  monkeypatch.setattr(isolation, "_START_SECONDS", 1.0)
  with Isolated(calls.square) as pool, pytest.raises(RuntimeError, match="it did not start within 1 s"):
    list(pool.map([1]))


@pytest.mark.skipif(not LINUX, reason="no other system tells for how long a process waits for a processor")
def test_waiting_for_a_processor_does_not_count(monkeypatch):
  with Isolated(calls.act, 1, Limits(seconds=1.0)) as pool:
    (worker,) = pool._workers
    started = worker._processor_seconds()
    # As on a machine so busy that the process got none of the two seconds that the call takes.
    monkeypatch.setattr(worker, "_processor_seconds", lambda: (started[0], time.monotonic()))
    assert [outcome for _, outcome in pool.map(["sleep 2"])] == [Returned("sleep 2")]


def test_a_pool_is_used_inside_its_block():
  with pytest.raises(RuntimeError, match="outside of the with block"):
    next(Isolated(calls.square).map([1]))


@pytest.mark.parametrize("limits", [{"seconds": 0.0}, {"seconds": float("nan")}, {"memory": 0}])
def test_impossible_limits_are_refused(limits):
  with pytest.raises(ConfigError, match="both must be above 0"):
    Limits(**limits)


def test_a_pool_without_workers_is_refused():
  with pytest.raises(ConfigError, match="0 worker processes; at least 1 is needed"):
    Isolated(calls.square, 0)


@pytest.mark.long
@pytest.mark.reliability
def test_memory_stays_flat_over_100_000_calls():
  with Isolated(calls.square, 2) as pool:
    sizes = []
    for index, outcome in pool.map(range(100_000)):
      assert outcome.value == index * index
      if index % 20_000 == 19_999:
        sizes.append(isolation_worker.data_bytes())
  print(f"isolation: 100,000 calls, memory of the parent {[size // 1024 for size in sizes]} KB")
  assert sizes[-1] - sizes[0] <= 8 * MB
