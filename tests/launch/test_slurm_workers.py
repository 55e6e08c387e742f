"""launch/slurm_workers.sh as Slurm runs it: a copy elsewhere, with the folder of sbatch in the environment."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
SCRIPT = ROOT / "launch" / "slurm_workers.sh"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is absent")


def run(folder, arguments, checkout=ROOT, **environment):
  spooled = pathlib.Path(shutil.copy(SCRIPT, folder / "slurm_script"))
  python = folder / "python"
  python.write_text('#!/bin/sh\npwd\nfor word in "$@"; do echo "<$word>"; done\nexit 7\n')
  python.chmod(0o755)
  variables = {"PYTHON": str(python), "SLURM_SUBMIT_DIR": str(checkout), "PATH": os.environ["PATH"]} | environment
  return subprocess.run(
    ["bash", str(spooled), *arguments], cwd=folder, env=variables, capture_output=True, text=True, timeout=60
  )


def test_the_script_is_valid():
  subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
  assert os.access(SCRIPT, os.X_OK)


def test_a_task_of_the_array_runs_the_command_in_the_checkout_and_ends_as_it_ends(tmp_path):
  words = ["--config", "configs/quickstart.py:a b", "--workdir", "/x/y", "--job", "extract"]
  done = run(tmp_path, words, SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_JOB_ID="42")
  first, *lines = done.stdout.splitlines()
  assert first.startswith("Worker 3 of array 42 on ")
  assert lines == [str(ROOT), "<launch/main.py>", *(f"<{word}>" for word in words)]
  assert done.returncode == 7 and done.stderr == ""


@pytest.mark.parametrize(
  ("arguments", "change", "message"),
  [
    ([], {}, "error: nothing to do; usage: sbatch --array=0-15 launch/slurm_workers.sh --config FILE --workdir FOLDER"),
    (["--job", "x"], {"checkout": "/"}, "error: / is not the root of a checkout of gasmcast; run sbatch there."),
    (["--job", "x"], {"PYTHON": "/absent/python"}, "error: /absent/python is not there on "),
  ],
)
def test_what_cannot_work_is_refused_in_words(tmp_path, arguments, change, message):
  done = run(tmp_path, arguments, **change)
  assert done.returncode == 2 and done.stderr.startswith(message) and done.stderr.count("\n") == 1


def test_options_for_slurm_stand_before_the_first_command():
  lines = SCRIPT.read_text().splitlines()
  first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
  options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH ")]
  assert options and max(options) < first  # Slurm reads no further
