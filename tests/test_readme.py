"""Every command of the README runs. Training commands run in their small form, on a few rendered videos."""

import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from tests.launch.test_main import ROOT, environment

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith(("python ", "make "))]


def test_no_number_is_left_open():
  for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
    assert "@@" not in page.read_text("utf-8"), page


def test_the_readme_has_commands():
  assert len([line for line in COMMANDS if line.startswith("python ")]) >= 4
  assert "make quickstart" in COMMANDS and "make test" in COMMANDS


@pytest.mark.parametrize("target", [line.split()[1] for line in COMMANDS if line.startswith("make ")])
def test_make_knows_the_target(target):
  """`make quickstart` is what the other commands do after an environment is made; `make test` runs this test."""
  result = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr


def test_the_library_in_three_lines():
  """With the weights of the package, which is part of the extra [test]."""
  (snippet,) = SNIPPETS
  names = {"frames": np.zeros((1, 2, 224, 224, 3), np.uint8)}
  exec(compile(snippet, "README.md", "exec"), names)
  assert names["tokens"].shape == (1, 2, 49, 1280)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return tmp_path_factory.mktemp("data") / "moving_objects"


def _marked(command):
  quick = any(f"--job {job}" in command for job in ("count", "devices"))
  return pytest.param(command, marks=[] if quick else [pytest.mark.long])


def run(arguments):
  result = subprocess.run(
    [sys.executable, *arguments], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600
  )
  assert result.returncode == 0, result.stdout + result.stderr
  return result.stdout


TOGETHER = [line for line in COMMANDS if "runs/prepared" in line]  # that build on one another
ALONE = [line for line in COMMANDS if line.startswith("python ") and "prepared" not in line]


@pytest.mark.parametrize("command", [_marked(line) for line in ALONE])
def test_the_command_runs(command, data, tmp_path):
  arguments = shlex.split(command)[1:]
  job = arguments[arguments.index("--job") + 1] if "--job" in arguments else ""
  if job not in ("count", "devices"):
    position = arguments.index("--config") + 1
    name, _, given = arguments[position].partition(":")
    arguments[position] = f"{name}:{given},runlocal" if given else f"{name}:runlocal"
    if "inspect" in name:
      arguments = [argument.replace("clip.mp4", "rendered") for argument in arguments]
    elif not any(kind in name for kind in ("benchmark", "feature_sets", "ablations")):  # these read no videos
      arguments.append(f"--config.data.root={data}")
    if job:  # there have to be videos, and something to evaluate
      arguments[arguments.index("--job") + 1] = "generate,train,evaluate,report"
  arguments[arguments.index("--workdir") + 1] = str(tmp_path / "run")
  assert run(arguments).strip(), "it ends without a word"


@pytest.mark.long
def test_the_way_from_videos_to_predictions(tmp_path):
  """The three commands that build on one another, on a few rendered clips and the real weights of the packages."""
  config = f"configs/quickstart.py:runlocal --workdir {tmp_path / 'made'} --job generate"
  run(shlex.split(f"launch/main.py --config {config} --config.data.root={tmp_path / 'my_videos'}"))
  assert len(TOGETHER) == 3
  for command in TOGETHER:
    for place in ("my_videos", "runs/prepared", "runs/stored", "data/my_features"):
      command = command.replace(place, str(tmp_path / place))
    out = run(shlex.split(command)[1:])
  table = (tmp_path / "runs/stored/predictions/validation.csv").read_text("utf-8").splitlines()
  assert len(table) == 13 and table[0].startswith("id,label,") and "12 clips" in out


def test_linked_files_exist():
  for link in re.findall(r"\]\(([^)#]+)\)", README):
    assert pathlib.Path(ROOT / link).exists(), link
