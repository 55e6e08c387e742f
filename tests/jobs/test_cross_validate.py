"""Folds of stored features: probes and models on the same divisions, of which none shares a group."""

import copy
import json
import types

import numpy as np
import pytest
from rich.console import Console

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError, DataError, Stopped
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets.folds import grouped_folds
from gasmcast.jobs import cross_validate
from gasmcast.jobs.cross_validate import FoldsConfig
from gasmcast.jobs.experiment import Experiment
from tests.jobs import frozen_clips

pytest.importorskip("sklearn", reason="linear probes need scikit-learn")


@pytest.fixture(scope="module")
def finished(frozen_data, frozen_store, tmp_path_factory):
  """The experiment after two folds of one seed, with the semantic stream alone."""
  config = frozen_clips.make_config(frozen_data / "data", frozen_data)
  config.data.store = str(frozen_store.root)
  config.train.update({"steps": "2 steps", "best_metric": "loss", "best_mode": "min"})
  with config.unlocked():
    config.folds = {"folds": 2, "seeds": (3,), "streams": ("semantic",), "strength": 0.1}
  workdir = tmp_path_factory.mktemp("folds")
  experiment = Experiment(config, workdir, "python launch/main.py", Console(record=True, width=200))
  cross_validate.check(experiment)
  cross_validate.run(experiment)
  return experiment


def test_every_row_is_scored_on_all_clips_of_the_same_folds(finished):
  result = json.loads((finished.workdir / "folds.json").read_text())
  assert [row["name"] for row in result["rows"]] == [
    "linear probe, semantic",
    "linear probe, motion",
    "linear probe, both side by side",
    "GASM-CAST, semantic alone",
  ]
  assert (result["clips"], result["groups"]) == (18, 9)
  examples = [example for split in ("train", "validation") for example in finished.dataset(split).examples]
  labels, groups = [example.labels["action"] for example in examples], [example.group for example in examples]
  sizes = np.bincount(grouped_folds(labels, groups, 2, seed=3))
  for row in result["rows"]:
    scores = row["folds"]["3"]
    right = np.array(scores) * sizes
    np.testing.assert_allclose(right, right.round(), atol=1e-4)  # an accuracy, in whole clips of the fold
    assert row["mean"] == pytest.approx(right.sum() / 18, abs=1e-6) and row["std"] == 0


def test_the_table_holds_a_line_a_row(finished):
  text = (finished.workdir / "folds.md").read_text()
  assert text.startswith("18 clips of 9 groups, 2 folds that share no group, 1 seeds; accuracy over all folds")
  assert text.count("\n| GASM-CAST, semantic alone | ") == 1 and text.count("| linear probe") == 3
  said = finished.console.export_text(clear=False)
  assert "semantic, seed 3, fold 0: " in said and "linear probe, motion: " in said


def test_each_training_has_its_own_folder_and_seed(finished):
  folders = sorted(path.name for path in (finished.workdir / "folds" / "semantic").iterdir())
  assert folders == ["seed3_fold0", "seed3_fold1"]


def test_told_to_stop_it_stops_and_takes_no_number_for_a_score(finished, tmp_path, monkeypatch):
  told = types.SimpleNamespace(status="terminated", best_value=0.5, message="Told to stop: step 1 of 2 is saved.")
  monkeypatch.setattr(cross_validate, "fit", lambda *args, **fields: told)
  again = copy.copy(finished)
  again.workdir = tmp_path
  with pytest.raises(Stopped, match=r"^Told to stop: step 1 of 2 is saved\.$"):
    cross_validate.run(again)
  assert not (tmp_path / "folds.json").exists()


def test_a_rule_that_one_of_the_models_has_no_parameter_for_is_refused_before_anything_is_trained(finished):
  raw = copy.deepcopy(finished.raw)
  raw["optim"]["lr_rules"] = (("^fusion/pool_motion/", 0.1), (".*", 1.0))
  raw["folds"]["streams"] = ("both", "semantic")
  experiment = Experiment(raw, finished.workdir, "command", Console(quiet=True))
  with pytest.raises(ConfigError, match=r"^The model with config\.folds\.streams .semantic.: .*pool_motion.* matches"):
    cross_validate.check(experiment)


def make_dataset(split, ids):
  examples = tuple(Example(id, f"{id}.webm", {"action": 0}, group=id) for id in ids)
  return Dataset("set", split, examples, {"action": ("one", "two")}, f"print of {split}")


def test_parts_of_all_examples():
  whole = cross_validate._join([make_dataset("train", ["a", "b"]), make_dataset("validation", ["c"])])
  assert [example.id for example in whole.examples] == ["a", "b", "c"]
  first = cross_validate._part(whole, "train", np.array([0, 2]))
  assert [example.id for example in first.examples] == ["a", "c"] and first.split == "train"
  second = cross_validate._part(whole, "train", np.array([0, 1]))
  assert len({whole.fingerprint, first.fingerprint, second.fingerprint}) == 3


def test_splits_that_share_ids_are_refused():
  with pytest.raises(DataError, match=r"^the splits train, validation share ids; use one of them\.$"):
    cross_validate._join([make_dataset("train", ["a"]), make_dataset("validation", ["a"])])


def test_folds_count_by_their_sizes():
  """Seed 0: 9 of 10 and 1 of 2 right; seed 1: 6 of 6 and 3 of 6."""
  row = cross_validate._row("x", {0: [0.9, 0.5], 1: [1.0, 0.5]}, {0: np.array([10, 2]), 1: np.array([6, 6])})
  assert row["seeds"] == pytest.approx({0: 10 / 12, 1: 9 / 12})
  assert row["mean"] == pytest.approx(9.5 / 12) and row["std"] == pytest.approx((1 / 12) / np.sqrt(2))


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"folds": 1}, r"^config\.folds\.folds = 1: at least 2 are needed\.$"),
    ({"seeds": ()}, r"^config\.folds\.seeds, config\.folds\.splits: name at least one each\.$"),
    ({"strength": 0.0}, r"^config\.folds\.strength = 0\.0: it must be above 0\.$"),
  ],
)
def test_wrong_fields_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    parse(FoldsConfig, fields, "config.folds")


def test_folds_without_a_store_are_refused():
  with pytest.raises(ConfigError, match=r"^config\.data\.store is not set: folds are trained on stored features; run"):
    cross_validate.check(types.SimpleNamespace(store_folder=None))
