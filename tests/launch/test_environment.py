"""launch/environment.sh on a machine whose commands only pretend to be Python, so that nothing is installed."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent


class Machine:
  """A folder of commands that is the whole PATH, and a copy of what the script reads."""

  def __init__(self, folder: pathlib.Path):
    self.commands, self.checkout = folder / "bin", folder / "checkout"
    self.commands.mkdir()
    for name in ("sh", "cat", "chmod", "cksum", "dirname", "ls", "mkdir", "rm", "sed", "tr"):
      (self.commands / name).symlink_to(shutil.which(name))
    for name in (
      "setup.py",
      "pyproject.toml",
      "launch/environment.sh",
      "constraints/py311.txt",
      "constraints/py312.txt",
    ):
      target = self.checkout / name
      target.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(ROOT / name, target)

  def command(self, name: str, body: str) -> pathlib.Path:
    path = self.commands / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path

  def python(self, name: str, version: str, install: str = "exit 0") -> pathlib.Path:
    """A command that answers the script's questions like Python `version`, and copies itself as an environment."""
    return self.command(
      name,
      f"""
case "$1 $2" in
  "-c import sys;"*) echo {version.replace(".", "")} ;;
  "-c ") ;;
  "-c "*) [ "$3" = {version} ] && echo "$0" ;;
  "-m venv") mkdir -p "$4/bin"; cat "$0" >"$4/bin/python"; chmod +x "$4/bin/python"; echo >"$4/pyvenv.cfg" ;;
  "-m pip") echo "pip $*" >>log; {install} ;;
esac""",
    )

  def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
      [str(self.commands / "sh"), "launch/environment.sh", *arguments],
      cwd=self.checkout,
      env={"PATH": str(self.commands), **environment},
      capture_output=True,
      text=True,
    )

  def installs(self) -> list[str]:
    log = self.checkout / "log"
    return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def machine(tmp_path) -> Machine:
  return Machine(tmp_path)


def test_without_python_the_message_says_what_to_do(machine):
  machine.command("python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
  machine.python("python3", "3.10")
  done = machine.run(".venv", "test", "3.11", "3.12")
  assert done.returncode == 2
  assert done.stderr == (
    "No Python 3.11 or 3.12 with its venv module was found. Install one (on Debian or Ubuntu: python3.11 and "
    "python3.11-venv) or name it: make ... PYTHON=/path/to/python3.11\n"
  )


def test_a_shim_that_does_not_run_is_passed_over(machine):
  machine.command("python3.11", "exit 127")
  found = machine.python("python3", "3.12")
  done = machine.run(".venv", "test", "3.11", "3.12")
  assert done.returncode == 0, done.stderr
  assert f"Making .venv with {found}" in done.stdout
  assert "--constraint constraints/py312.txt --editable .[test]" in machine.installs()[0]


def test_a_version_that_only_pyenv_knows_is_found(machine):
  found = machine.python("hidden", "3.12")
  machine.command("python3.12", "exit 127")
  machine.command(
    "pyenv",
    f"""
[ "$1" = versions ] && echo 3.9.18 && echo 3.12.1
[ "$1 $2 $PYENV_VERSION" = "which python3.12 3.12.1" ] && echo {found}""",
  )
  done = machine.run(".venv", "", "3.12")
  assert f"Making .venv with {found}" in done.stdout, done.stderr
  assert machine.installs()[0].endswith("--editable .")


def test_the_named_python_is_the_only_one_tried(machine):
  machine.python("python3.11", "3.11")
  named = machine.python("mine", "3.12")
  assert f"with {named}" in machine.run(".venv", "", "3.11", "3.12", PYTHON=str(named)).stdout
  wrong = machine.run(".venv", "", "3.11", PYTHON=str(named))
  assert wrong.returncode == 2
  assert f"No Python 3.11 with its venv module was found behind PYTHON={named}." in wrong.stderr


def test_a_second_call_installs_nothing_until_something_changes(machine):
  machine.python("python3.11", "3.11")
  for _ in range(2):
    assert machine.run(".venv", "test", "3.11").returncode == 0
  assert len(machine.installs()) == 1
  assert machine.run(".venv", "", "3.11").stdout == ""  # fewer extras than there are
  assert machine.run(".venv", "test,torch", "3.11").returncode == 0
  assert machine.installs()[1].endswith("--editable .[test,torch]")
  with open(machine.checkout / "constraints/py311.txt", "a") as file:
    file.write("new==1.0\n")
  assert "Making" not in machine.run(".venv", "test", "3.11").stdout
  assert machine.installs()[2].endswith("--editable .[test,torch]")
  assert len(machine.installs()) == 3


def test_what_an_interrupted_run_left_is_made_anew(machine):
  machine.python("python3.11", "3.11", install="exit 1")
  assert machine.run(".venv", "test", "3.11").returncode == 1
  machine.python("python3.11", "3.11")
  done = machine.run(".venv", "test", "3.11")
  assert "Making .venv with" in done.stdout
  assert done.returncode == 0


def test_an_environment_of_a_moved_checkout_is_made_anew(machine):
  machine.python("python3.11", "3.11")
  assert machine.run(".venv", "test", "3.11").returncode == 0
  machine.checkout = machine.checkout.rename(machine.checkout.with_name("moved"))
  assert "Making .venv with" in machine.run(".venv", "test", "3.11").stdout


def test_a_folder_that_is_no_environment_is_left_alone(machine):
  machine.python("python3.11", "3.11")
  (machine.checkout / "thesis").mkdir()
  (machine.checkout / "thesis/chapter.tex").write_text("years of work")
  done = machine.run("thesis", "test", "3.11")
  assert done.returncode == 2
  assert "thesis holds something that is not a Python environment" in done.stderr
  assert (machine.checkout / "thesis/chapter.tex").read_text() == "years of work"
