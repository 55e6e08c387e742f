"""Job report on working directories that were not evaluated: what it reads, and that it changes nothing there."""

import hashlib
import json

import pytest

from gasmcast.jobs.run import Run
from gasmcast.jobs.training_report import gather, trained
from tests.training import toy_system


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished run of the toy system."""
  folder = tmp_path_factory.mktemp("finished") / "run"
  toy_system.train(folder)
  return folder


def run(folder, **train):
  return Run({"train": train}, folder, "python main.py")


def content(folder):
  return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_training_is_read_without_a_change(finished):
  before = content(finished)
  training = gather(run(finished, steps="6 epochs", best_metric="other"))
  assert content(finished) == before
  assert (training.status, training.steps, training.metric, training.mode) == ("finished", 12, "top1", "max")
  assert {line["split"] for line in training.records} == {"train", "validation"} and not training.held
  assert training.name == "run" and training.data_errors == []


def test_a_training_that_goes_on_is_read(tmp_path):
  (tmp_path / ".training.lock").touch()
  (tmp_path / "command.txt").write_text("python launch/main.py --config configs/x.py\n")
  (tmp_path / "environment.json").write_text('{"cores": 2, "revision": "", "versions": {"jax": "1", "numpy": "2"}}')
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": 2.0}\n{"step": 2, "spl')
  (tmp_path / "data_errors.jsonl").write_text('{"split": "train", "index": 3, "reason": "torn", "step": 1}\n{"a": 1}\n')
  (tmp_path / "data_errors.process_1.jsonl").write_text('{"split": "train", "index": 4, "reason": "", "step": 1}\n')
  training = gather(run(tmp_path, steps=100, best_metric="loss", best_mode="min"))
  assert training.records == [{"step": 1, "split": "train", "loss": 2.0}]
  assert (training.held, training.status, training.steps) == (True, "", 100)
  assert (training.metric, training.mode) == ("loss", "min")
  assert [line["index"] for line in training.data_errors] == [3, 4]
  assert training.command.endswith("configs/x.py")
  assert training.environment == {"Cores": "2", "Versions": "jax 1, numpy 2"}


def test_a_checkpoint_that_is_not_whole_is_passed_over(tmp_path):
  for step, text in ((4, {"identity": {"train": {"steps": 8}}, "progress": {"status": "terminated"}}), (8, None)):
    folder = tmp_path / "checkpoints" / str(step) / "meta"
    folder.mkdir(parents=True)
    (folder / "metadata").write_text("{" if text is None else json.dumps(text))
  (tmp_path / "checkpoints" / "12.orbax-checkpoint-tmp").mkdir()
  training = gather(run(tmp_path))
  assert (training.status, training.steps) == ("terminated", 8)


def test_a_folder_without_a_training_has_nothing_to_report(tmp_path, finished):
  assert trained(run(finished)) and not trained(run(tmp_path))
  training = gather(run(tmp_path, steps="6 epochs"))
  assert (training.records, training.steps, training.environment) == ([], None, {})
