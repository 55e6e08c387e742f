"""A disk that is really full: a small file system in memory, mounted where only the training sees it."""

import json
import os
import re
import subprocess
import sys

import pytest

from gasmcast.core.errors import EXIT_USER, WorkdirError
from gasmcast.training.tracking import JsonLines
from tests.training.started import PATIENCE, ROOT
from tests.training.test_checkpoint import IDENTITY, at_step, restore, save_all
from tests.training.test_loop import final_hash

ALONE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
SCRIPT = """
mount -t tmpfs -o size=2m tmpfs "$1"
"$2" -m tests.training.worker "$1" "$3" && code=0 || code=$?
echo "ended with $code"
cp -r "$1" "$4"
rm "$1/ballast"
"$2" -m tests.training.worker "$1" '{}'
cp -r "$1" "$5"
"""


def train_on_a_disk_that_fills_up(folder, room):
  """What was printed; the working directory when the disk was full, and when the run was done with room again."""
  try:
    subprocess.run([*ALONE, "true"], check=True, capture_output=True)
    subprocess.run([*ALONE, f"mount -t tmpfs tmpfs {folder}"], check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("mounting a small file system of one's own is not permitted here")
  (folder / "run").mkdir()
  options = json.dumps({"sent": "FILL", "at": 6, "room": room, "synchronous": True})
  given = [str(folder / "run"), sys.executable, options, str(folder / "full"), str(folder / "done")]
  done = subprocess.run(
    [*ALONE, SCRIPT, "sh", *given],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    timeout=PATIENCE,
  )
  assert done.returncode == 0, done.stdout
  return done.stdout, folder / "full", folder / "done"


@pytest.mark.reliability(4)
@pytest.mark.parametrize("room", [20480, 0], ids=["room for a part of a checkpoint", "no room"])
def test_a_full_disk_ends_the_run_with_numbers_and_costs_no_checkpoint(tmp_path, whole, new_state, room, figure):
  printed, full, done = train_on_a_disk_that_fills_up(tmp_path, room)
  assert f"ended with {EXIT_USER}" in printed
  (line,) = [line for line in printed.splitlines() if line.startswith("WorkdirError: ")]
  assert re.search(
    r": no space is left on the disk\. \d+ bytes are free\. A checkpoint needs about \d{5,} bytes\. ", line
  )
  assert line.endswith("Free some and run the same command again.")
  assert int(restore(full / "checkpoints", new_state(), identity={}).state.step) == 4
  assert "Resuming at step 4." in printed
  assert final_hash(done, new_state()) == final_hash(whole[0], new_state())
  figure(
    f"exit code {EXIT_USER}, {line.partition('disk. ')[2]!r}; step 4 restored, final state as without the accident"
  )


def test_a_save_that_finds_no_room_says_what_it_needs(tmp_path, new_state, monkeypatch):
  state = new_state()
  save_all(tmp_path, state, {1: None})

  def fail(*_):
    raise ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device")

  monkeypatch.setattr("gasmcast.training.checkpoint.write_json", fail)
  with pytest.raises(
    WorkdirError, match=r"no space is left .* \d+ bytes are free\. A checkpoint needs about \d{4,5} b"
  ):
    save_all(tmp_path, state, {2: None})
  monkeypatch.undo()
  assert int(restore(tmp_path, at_step(state, 0), identity=IDENTITY).state.step) == 1


def test_a_line_that_finds_no_room_is_told(tmp_path):
  lines = JsonLines(tmp_path / "lines.jsonl")
  lines._file.close()
  lines._file = open("/dev/full", "w", buffering=1)  # noqa: SIM115
  for call in (lambda: lines.append({"a": 1}), lines.close):
    with pytest.raises(WorkdirError, match=f"^{tmp_path}: no space is left on the disk. [0-9]+ bytes are free. Free"):
      call()
