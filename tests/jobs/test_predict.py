"""A model that was trained on stored features scores them and the videos alike; what has no answer gets none."""

import copy
import csv
import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError, DataError, WeightsError
from gasmcast.jobs import evaluate, predict, train
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.predict import PredictConfig
from gasmcast.jobs.scoring import Best
from tests.jobs import frozen_clips


@pytest.fixture(scope="module")
def trained(frozen_data, frozen_store, tmp_path_factory):
  """The experiment after three steps on stored features and the jobs evaluate and predict."""
  config = frozen_clips.make_config(frozen_data / "data", frozen_data)
  config.data.store = str(frozen_store.root)
  config.train.max_error_share = 0.5
  config.evaluate.update({"splits": ("validation",), "attention_clips": 1})
  workdir = tmp_path_factory.mktemp("trained")
  experiment = Experiment(config, workdir, "python launch/main.py", Console(record=True, width=200))
  for job in (train, evaluate, predict):
    job.check(experiment)
    job.run(experiment)
  return experiment


@pytest.fixture(scope="module")
def best(trained):
  return Best(trained)


@pytest.fixture(scope="module")
def from_videos(best):
  """Logits of the splits test and validation, by the backbones on the videos."""
  datasets = [best.experiment.dataset(split) for split in ("test", "validation")]
  return [best.score(one, best.experiment.clips(one), stored=False, with_sums=False).logits for one in datasets]


def softmax(logits):
  powers = np.exp(logits - logits.max(1, keepdims=True))
  return powers / powers.sum(1, keepdims=True)


def test_a_split_without_answers_is_predicted_clip_by_clip(trained, from_videos):
  with (trained.workdir / "predictions" / "test.csv").open(newline="") as file:
    header, *rows = csv.reader(file)
  assert header == ["id", "label", *frozen_clips.CLASSES]
  assert [row[0] for row in rows] == ["test0", "test1", "test2"]
  assert rows[1] == ["test1", "", "", "", ""]  # it can't be read
  for row, expected in zip((rows[0], rows[2]), softmax(from_videos[0][[0, 2]]), strict=True):
    probabilities = np.array(row[2:], float)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert row[1] == frozen_clips.CLASSES[probabilities.argmax()]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
  assert np.isnan(from_videos[0][1]).all()
  assert "test: 3 clips, 1 could not be read; " in trained.console.export_text(clear=False)


def test_a_split_without_answers_is_not_evaluated(trained):
  config = copy.deepcopy(trained.raw)
  config["evaluate"]["splits"] = ("test",)
  experiment = Experiment(config, trained.workdir, "python launch/main.py", Console(quiet=True))
  for step in (evaluate.check, evaluate.run):  # a data set that may still have to be made is not looked at by the check
    with pytest.raises(DataError, match=r"3 of 3 examples of the split 'test' have no answers .*or run --job predict"):
      step(experiment)


def test_evaluation_of_stored_features_is_that_of_the_videos(trained, from_videos):
  with np.load(trained.workdir / "evaluation" / "validation.npz") as arrays:
    np.testing.assert_allclose(arrays["logits"], from_videos[1], atol=1e-5)
    assert arrays["attention/frames"].shape == (1, 4, 32, 32, 3)  # the pictures come from the videos
    right = (arrays["logits"].argmax(1) == arrays["labels"]).mean()
  metrics = json.loads((trained.workdir / "metrics.json").read_text())
  assert metrics["splits"]["validation"]["top1"] == pytest.approx(right)
  assert len(metrics["meta"]["weights"]["semantic"]["fingerprint"]) == 64


def test_other_weights_than_those_of_the_stored_features_are_refused(best, tmp_path):
  frozen_clips.write_networks(tmp_path, seed=1)
  other = copy.copy(best)
  other.experiment = copy.copy(best.experiment)
  semantic = dataclasses.replace(best.experiment.model.semantic, weights=str(tmp_path / "semantic.safetensors"))
  other.experiment.model = dataclasses.replace(best.experiment.model, semantic=semantic)
  with pytest.raises(
    WeightsError,
    match=r"^config\.model\.semantic: the weights from .* are [0-9a-f]{12}, the stored features that the model was "
    r"trained on were made with [0-9a-f]{12}; use those weights\.$",
  ):
    other.variables(stored=False)


def test_a_model_of_smaller_features_is_not_given_videos(best):
  other = copy.copy(best)
  other.experiment = copy.copy(best.experiment)
  store = best.experiment.store
  description = {**store.description, "semantic": {**store.description["semantic"], "shape": [4, 4, 16]}}
  other.experiment.__dict__["store"] = dataclasses.replace(store, description=description)
  with pytest.raises(
    ConfigError,
    match=r"^the model was trained on stored features 'semantic' \[4, 4, 16\], its backbone gives \[4, 16, 16\] for a",
  ):
    other.variables(stored=False)


def test_too_many_clips_that_cannot_be_read_are_an_error(best):
  strict = copy.copy(best)
  strict.experiment = copy.copy(best.experiment)
  strict.experiment.max_error_share = 0.05
  dataset = best.experiment.dataset("test")
  with pytest.raises(
    DataError,
    match=r"^1 of 3 clips of the split 'test' could not be read, more than config\.train\.max_error_share = 0",
  ):
    strict.score(dataset, best.experiment.source(dataset), stored=True, with_sums=False)


def test_no_split_is_refused():
  with pytest.raises(ConfigError, match=r"^config\.predict\.splits is empty; name one or more splits\.$"):
    parse(PredictConfig, {"splits": ()}, "config.predict")
