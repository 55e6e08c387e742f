"""TensorBoard and Weights & Biases: what they are given, that they go on after a resume, and that they may fail."""

import io
import json
import logging
import sys
import types

import pytest
from rich.console import Console

from gasmcast.core.errors import ConfigError
from gasmcast.training.config import TrainConfig
from gasmcast.training.tracking import Tracker


def tracker(folder, printed=None, start=0, trackers=("wandb",)):
  console = Console(file=printed or io.StringIO())
  return Tracker(folder, start, 100, "top1", console, trackers, {"train": {"optim": {"lr": 0.1}}})


class FakeRun:
  """Stands for a run of wandb: keeps what it is given."""

  def __init__(self, **options):
    self.options, self.logged, self.metrics, self.finished = options, [], [], False
    self.define_metric = lambda name, **how: self.metrics.append((name, how))
    self.log = self.logged.append

  def finish(self):
    self.finished = True


@pytest.fixture
def runs(monkeypatch):
  """The runs that a stand-in for wandb was asked for."""
  runs = []

  def init(**options):
    runs.append(FakeRun(**options))
    return runs[-1]

  monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init, Settings=dict))
  return runs


def test_numbers_go_to_weights_and_biases_by_split_and_step(tmp_path, runs):
  with tracker(tmp_path / "mine") as tracked:
    tracked.log(5, "train", {"loss": 0.5, "grad_norm/head": 2.0})
    tracked.log(5, "validation", {"loss": 0.75})
  (run,) = runs
  assert run.logged == [
    {"step": 5, "train/loss": 0.5, "train/grad_norm/head": 2.0},
    {"step": 5, "validation/loss": 0.75},
  ]
  assert run.metrics == [("step", {"hidden": True}), ("*", {"step_metric": "step"})] and run.finished
  assert run.options["config"] == {"train": {"optim": {"lr": 0.1}}}
  assert (run.options["dir"], run.options["name"]) == (str(tmp_path / "mine"), "mine")


def test_a_resumed_run_goes_on_in_the_same_one(tmp_path, runs):
  for folder, start in (("a", 0), ("a", 20), ("b", 0)):
    with tracker(tmp_path / folder, start=start):
      pass
  first, resumed, other = (run.options["id"] for run in runs)
  assert first == resumed != other and runs[1].options["resume"] == "allow"
  assert (tmp_path / "a" / "wandb_id.txt").read_text() == f"{first}\n"


def test_neither_the_command_line_nor_the_environment_nor_code_is_sent(tmp_path, runs):
  with tracker(tmp_path):
    pass
  settings = runs[0].options["settings"]
  assert settings["console"] == "off"
  for name in ("disable_git", "disable_code", "x_disable_meta", "x_disable_machine_info", "x_disable_stats"):
    assert settings[name] is True


def warnings(caplog):
  return [record.getMessage() for record in caplog.records if record.name.startswith("gasmcast")]


def lines(folder):
  return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.reliability
@pytest.mark.parametrize("part", ["init", "log", "finish"])
def test_a_tracker_that_fails_is_switched_off_with_one_warning_and_no_line_is_lost(
  tmp_path, runs, monkeypatch, caplog, part
):
  def fail(*_, **__):
    raise ConnectionError("no route to the server")

  if part == "init":
    monkeypatch.setattr(sys.modules["wandb"], "init", fail)
  else:
    monkeypatch.setattr(FakeRun, part, fail, raising=False)
    monkeypatch.setattr(FakeRun, "__init__", lambda self, **_: setattr(self, "define_metric", lambda *_, **__: None))
    monkeypatch.setattr(FakeRun, "log" if part == "finish" else "finish", lambda *_: None, raising=False)
  with caplog.at_level(logging.WARNING), tracker(tmp_path, trackers=("tensorboard", "wandb")) as tracked:
    for step in range(1, 51):
      tracked.log(step, "train", {"loss": 1 / step})
  assert [line["step"] for line in lines(tmp_path)] == list(range(1, 51))
  (warning,) = warnings(caplog)
  assert warning.startswith("Weights & Biases failed and is switched off; training and metrics.jsonl go on:")
  assert "no route to the server" in warning
  assert list((tmp_path / "tensorboard").iterdir())  # the other one goes on


@pytest.mark.parametrize(
  ("name", "module", "said"),
  [
    ("wandb", "wandb", "Weights & Biases is not installed (pip install 'gasmcast[wandb]')"),
    ("tensorboard", "tensorboardX", "TensorBoard is not installed (pip install tensorboardX)"),
  ],
)
def test_a_tracker_that_is_not_installed_is_told(tmp_path, monkeypatch, name, module, said):
  monkeypatch.setitem(sys.modules, module, None)
  printed = io.StringIO()
  with tracker(tmp_path, printed, trackers=(name,)) as tracked:
    tracked.log(1, "train", {"loss": 2.0})
  assert printed.getvalue().startswith(f"{said}: the run is recorded without it.\n") and len(lines(tmp_path)) == 1


def test_without_trackers_there_is_the_record_alone(tmp_path):
  with tracker(tmp_path, trackers=()) as tracked:
    tracked.log(1, "train", {"loss": 2.0})
  assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_an_unknown_tracker_is_refused():
  message = r"config.train.trackers = \('tensorboard', 'mlflow'\): \['mlflow'\] is no tracker; use tensorboard, wandb"
  with pytest.raises(ConfigError, match=message):
    TrainConfig(steps=1, trackers=("tensorboard", "mlflow"))


def test_wandb_itself_writes_a_run_without_network_or_account(tmp_path, monkeypatch):
  pytest.importorskip("wandb", reason="the extra [wandb] is not installed")
  for name in ("WANDB_API_KEY", "WANDB_DIR"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("SECRET_TOKEN", "hunter2hunter2")
  monkeypatch.setattr(sys, "argv", ["main.py", "--token=hunter2hunter2"])
  for start in (0, 2):
    with tracker(tmp_path / "run", start=start) as tracked:
      tracked.log(start + 1, "train", {"loss": 0.5})
  run = (tmp_path / "run" / "wandb_id.txt").read_text().strip()
  written = sorted((tmp_path / "run" / "wandb").glob(f"offline-run-*-{run}/run-{run}.wandb"))
  assert 1 <= len(written) <= 2  # one a start; wandb names them by the second
  everything = b"".join(path.read_bytes() for path in (tmp_path / "run" / "wandb").rglob("*") if path.is_file())
  assert b"train/loss" in everything and b"hunter2" not in everything
