"""launch/slurm_train.sh as Slurm runs it: a copy elsewhere, with sbatch's environment; srun shows its words."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
SCRIPT = ROOT / "launch" / "slurm_train.sh"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is absent")


def program(path, text):
  path.write_text(f"#!/bin/sh\n{text}\n")
  path.chmod(0o755)
  return path


def run(folder, arguments, checkout=ROOT, **environment):
  spooled = pathlib.Path(shutil.copy(SCRIPT, folder / "slurm_script"))
  (folder / "bin").mkdir(exist_ok=True)
  program(folder / "bin" / "srun", 'pwd\nfor word in "$@"; do echo "<$word>"; done\nexit 7')
  python = program(folder / "python", "exit 0")
  variables = {"PYTHON": str(python), "SLURM_SUBMIT_DIR": str(checkout)} | environment
  variables["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
  return subprocess.run(
    ["bash", str(spooled), *arguments], cwd=folder, env=variables, capture_output=True, text=True, timeout=60
  )


def test_the_script_is_valid():
  subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
  assert os.access(SCRIPT, os.X_OK)


def test_srun_gets_the_command_in_the_checkout_with_distributed_and_its_exit_code_is_kept(tmp_path):
  words = ["--config", "configs/quickstart.py:a b", "--workdir", "/x/y"]
  slurm = {"SLURM_NTASKS": "4", "SLURM_JOB_NODELIST": "gpu[1-2]", "SLURM_JOB_ID": "42", "SLURM_CPUS_PER_TASK": "16"}
  done = run(tmp_path, words, **slurm)
  first, folder, *lines = done.stdout.splitlines()
  assert first == "4 process(es) on gpu[1-2], job 42"
  assert folder == str(ROOT)
  assert lines[:2] == ["<--kill-on-bad-exit=1>", "<--cpus-per-task=16>"]
  assert lines[2:] == [
    f"<{tmp_path / 'python'}>",
    "<launch/main.py>",
    *(f"<{word}>" for word in words),
    "<--distributed>",
  ]
  assert done.returncode == 7 and done.stderr == ""


@pytest.mark.parametrize(
  ("arguments", "change", "message"),
  [
    ([], {}, "error: nothing to do; usage: sbatch --nodes=2 launch/slurm_train.sh --config FILE --workdir FOLDER"),
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
