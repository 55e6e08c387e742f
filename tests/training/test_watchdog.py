"""When the watchdog ends a run, whom it names, and when it keeps still."""

import os
import signal
import subprocess
import sys
import time

import pytest

from gasmcast.core.errors import EXIT_DEFECT
from gasmcast.training import watchdog
from gasmcast.training.watchdog import LOADING, Watchdog, blame

SECONDS = 0.5


@pytest.fixture
def started(tmp_path, monkeypatch):
  """A running watchdog and the messages with which it would have ended the process; a first time is 5 seconds."""
  monkeypatch.setattr(watchdog, "FIRST_SECONDS", 5.0)
  messages = []
  with Watchdog(SECONDS, tmp_path, messages.append) as dog:
    yield dog, messages


def wait_for(messages, seconds=60.0):
  until = time.monotonic() + seconds
  while not messages and time.monotonic() < until:
    time.sleep(0.02)


def test_a_run_that_stands_still_is_ended_with_what_it_did_and_its_stacks(started, tmp_path):
  dog, messages = started
  for step in (1, 2, 3, 4):
    dog.at("training", step)
  wait_for(messages)
  assert messages[0].startswith("error: No progress for ") and messages[0].count("\n") == 1
  assert "(config.train.watchdog = 0.5): this process is training, step 4." in messages[0]
  stacks = tmp_path / "watchdog" / "stacks_0.txt"
  assert f"{stacks} shows where this process stands. The run ends here; the same command resumes it" in messages[0]
  text = stacks.read_text()
  assert " training, step 4\n" in text and "test_watchdog.py" in text and "most recent call first" in text


def test_a_run_that_stands_still_before_its_first_step_is_ended(started):
  _, messages = started
  wait_for(messages)
  assert "this process is starting, step 0." in messages[0]


def test_progress_of_any_kind_keeps_it_still(started):
  dog, messages = started
  until = time.monotonic() + 6 * SECONDS
  while time.monotonic() < until:
    dog.at("training", 1)
    with dog.loading(2):
      dog.at("validating", 1)
    time.sleep(0.02)
  assert messages == []


def test_the_first_times_of_anything_may_take_long(started):
  """In the second and third step one may wait for another process that still compiles its first."""
  dog, messages = started
  for step in (1, 2, 3):
    dog.at("training", step)
    time.sleep(3 * SECONDS)
  dog.at("training", 4)
  dog.at("validating", 4)
  time.sleep(3 * SECONDS)
  assert messages == []
  wait_for(messages)  # but not for ever
  assert "validating, step 4" in messages[0]


def test_after_data_have_come_it_does_again_what_it_did_before(started):
  dog, messages = started
  for step in (1, 2, 3, 4):
    dog.at("training", step)
    with dog.loading(step + 1):
      pass
  wait_for(messages)
  assert "this process is training, step 4." in messages[0]


def test_waiting_for_data_is_named(started):
  dog, messages = started
  for step in (1, 2, 3, 4):
    with dog.loading(step):
      if step == 4:
        wait_for(messages)
  assert "this process is waiting for data, step 4." in messages[0]


def test_zero_switches_it_off(tmp_path):
  messages = []
  with Watchdog(0.0, tmp_path, messages.append) as dog:
    for step in range(3):
      dog.at("training", step)
    time.sleep(0.3)
  assert messages == [] and list(tmp_path.iterdir()) == []


STOPPED = """
import sys, time
from gasmcast.training.watchdog import Watchdog
with Watchdog(3.0, sys.argv[1]) as dog:
  for step in (1, 2, 3, 4):
    dog.at("training", step)
  print("ready", flush=True)
  sys.stdin.readline() if len(sys.argv) > 2 else time.sleep(600)
"""


def run_alone(folder, *arguments):
  return subprocess.Popen(
    [sys.executable, "-c", STOPPED, str(folder), *arguments],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_it_ends_the_process_with_a_line_and_an_exit_code(tmp_path):
  process = run_alone(tmp_path)
  _, printed = process.communicate(timeout=300)
  assert process.returncode == EXIT_DEFECT
  assert printed.startswith("error: No progress for 3") or printed.startswith("error: No progress for 4")


def test_a_process_that_was_stopped_and_goes_on_is_left_alone(tmp_path):
  """Ctrl-Z and a suspended Slurm job are no hang: time in which nothing can run does not count."""
  process = run_alone(tmp_path, "until a line comes")
  assert process.stdout.readline() == "ready\n"
  os.kill(process.pid, signal.SIGSTOP)
  time.sleep(8)
  os.kill(process.pid, signal.SIGCONT)
  time.sleep(0.5)
  _, printed = process.communicate("\n", timeout=300)
  assert (process.returncode, printed) == (0, "")


def place(looks, what="training", step=7, host="a", pid=1):
  return {"host": host, "pid": pid, "looks": looks, "what": what, "step": step}


@pytest.mark.parametrize(
  ("before", "after", "words"),
  [
    ([place(1), place(4)], [place(2), place(4, host="b", pid=9)], "process 1 (b, pid 9) shows no sign of life"),
    ([place(1), {}], [place(2), {}], "process 1 shows no sign of life"),
    (
      [place(1), place(4)],
      [place(2), place(5, step=6, what=LOADING)],
      "process 1 (a, pid 1) is waiting for data, step 6, and the others are ahead",
    ),
    (
      [place(1), place(4)],
      [place(2), place(5, what=LOADING)],
      "process 1 (a, pid 1) is waiting for data, step 7, and the others are ahead",
    ),
    ([place(1), place(4)], [place(2), place(5)], "all 2 processes are training, step 7"),
  ],
)
def test_the_process_that_is_silent_or_behind_is_named(before, after, words):
  assert blame(dict(enumerate(before)), dict(enumerate(after))) == words
