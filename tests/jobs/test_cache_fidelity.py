"""What smaller features lose, on a few clips with tiny frozen networks: from the videos, from a store, with a head."""

import io
import json

import pytest
from ml_collections import ConfigDict
from rich.console import Console

from gasmcast.core.errors import ConfigError, DataError, WorkdirError
from gasmcast.jobs import table
from tests.jobs import frozen_clips

VARIANTS = (
  {"tokens": 0, "precision": "float32", "pca": 0},
  {"tokens": 0, "precision": "int8", "pca": 0},
  {"tokens": 4, "precision": "float32", "pca": 0},
  {"tokens": 0, "precision": "float32", "pca": 16},
  {"tokens": 9, "precision": "int8", "pca": 0},
)


def make_config(folder) -> ConfigDict:
  config = frozen_clips.make_config(folder / "data", folder)
  config.fidelity.variants = VARIANTS
  return config


def run(jobs, config, workdir):
  """Runs jobs; the text that they print."""
  prepared = table.prepare(jobs, config, str(workdir), "python launch/main.py")
  for job, experiment in prepared:
    experiment.console = Console(file=io.StringIO(), width=200)
    job.run(experiment)
  return experiment.console.file.getvalue()


def result_of(workdir):
  return json.loads((workdir / "fidelity.json").read_text())


@pytest.fixture(scope="module")
def trained(frozen_data, tmp_path_factory):
  """A working directory with a store in float32 and a model that was trained on it."""
  folder = tmp_path_factory.mktemp("trained")
  config = make_config(frozen_data)
  config.data.store = str(folder / "store")
  run("extract,train", config, folder)
  return folder


@pytest.fixture
def config(frozen_data, trained):
  """Job cache_fidelity with the store and the head."""
  config = make_config(frozen_data)
  config.data.store = str(trained / "store")
  config.fidelity.head = str(trained)
  return config


def test_from_a_store_with_a_head(config, tmp_path):
  text = run("cache_fidelity", config, tmp_path)
  result = result_of(tmp_path)
  same, int8, fewer, components, impossible = result["variants"]

  for stream in same["streams"].values():
    assert stream["cosine"] == {"mean": pytest.approx(1), "p1": pytest.approx(1), "min": pytest.approx(1)}
    assert (stream["lost_by_pooling"], stream["lost_by_storing"]) == (0, 0)
  reference = same["head"]["top1_reference"]
  assert same["head"] == {
    "top1_reference": reference,
    "top1": reference,
    "agreement": 1,
    "probability_difference": 0,
  }
  # 4 frames of 16 tokens of width 16, and 4 segments of width 16
  assert (same["bytes_of_clip"], int8["bytes_of_clip"]) == (4 * (4 * 16 + 4) * 16, (4 * 16 + 4) * (16 + 2))
  assert same["bytes_of_all"] == 18 * same["bytes_of_clip"]

  assert 0.999 < int8["streams"]["semantic"]["cosine"]["min"] < 1
  assert 0 < int8["streams"]["semantic"]["lost_by_storing"] < 0.001
  assert int8["head"]["top1_reference"] == reference and 0 < int8["head"]["probability_difference"] < 0.01
  assert fewer["streams"]["semantic"]["shape"] == [4, 4, 16] and fewer["streams"]["motion"]["shape"] == [4, 16]
  assert 0 < fewer["streams"]["semantic"]["lost_by_pooling"] < 1 and fewer["streams"]["motion"]["lost_by_pooling"] == 0
  assert fewer["streams"]["semantic"]["cosine"]["min"] == pytest.approx(1)
  assert "trained on 4 x 16 x 16 of the semantic stream, not 4 x 4 x 16" in fewer["head"]
  # as many components as there are dimensions lose nothing
  assert components["streams"]["semantic"]["explained"] == pytest.approx(1)
  assert components["streams"]["semantic"]["lost_by_storing"] < 1e-9 and components["head"]["agreement"] == 1
  assert "16 tokens a frame can be averaged to 16, 4, 1" in impossible["impossible"]

  assert result["data"]["clips"] == 8 and result["components"] == {"split": "train", "clips": 10}
  assert "not applicable" in text and "impossible" in text and "Reference: stored in" in text
  assert "not 4 x 4 x 16" in (tmp_path / "fidelity.md").read_text()


@pytest.mark.long
def test_from_the_videos_it_is_the_same(config, tmp_path):
  config.fidelity.head = None
  run("cache_fidelity", config, tmp_path / "stored")
  config.fidelity.stored = False
  run("cache_fidelity", config, tmp_path / "computed")
  stored, computed = (result_of(tmp_path / name) for name in ("stored", "computed"))
  assert computed["reference"]["origin"] == "computed from the videos"
  assert computed["reference"]["networks"] == stored["reference"]["networks"]
  for one, other in zip(stored["variants"], computed["variants"], strict=True):
    for name, stream in one.get("streams", {}).items():
      assert stream["cosine"] == pytest.approx(other["streams"][name]["cosine"], abs=1e-6)
      for share in ("lost_by_pooling", "lost_by_storing"):
        assert stream[share] == pytest.approx(other["streams"][name][share], rel=1e-3, abs=1e-9)


def test_a_store_of_smaller_features_is_no_reference(config, tmp_path):
  config.data.store, config.fidelity.head = str(tmp_path / "store"), None
  config.extract.semantic.update({"tokens": 4, "precision": "int8"})
  run("extract", config, tmp_path)
  with pytest.raises(DataError, match=r"semantic stream as \[4, 4, 16\] in int8; a reference holds \[4, 16, 16\]"):
    run("cache_fidelity", config, tmp_path)


def test_a_head_of_other_networks_is_refused(config, tmp_path):
  frozen_clips.write_networks(tmp_path, seed=1)
  config.fidelity.stored = False
  for stream in ("semantic", "motion"):
    config.model[stream].weights = str(tmp_path / f"{stream}.safetensors")
  with pytest.raises(WorkdirError, match="was trained on features made otherwise .*semantic.weights"):
    run("cache_fidelity", config, tmp_path)


@pytest.mark.long
def test_components_are_fitted_on_other_clips(config, tmp_path):
  config.fidelity.update({"pca_split": "validation", "head": None})
  with pytest.raises(DataError, match="all 8 clips of 'validation' are compared, so none is left"):
    run("cache_fidelity", config, tmp_path)
  config.fidelity.clips = 3
  run("cache_fidelity", config, tmp_path)
  result = result_of(tmp_path)
  assert result["data"]["clips"] == 3 and result["components"]["clips"] == 5


def test_a_clip_that_cannot_be_read_is_named_and_too_many_are_an_error(config, tmp_path):
  frozen_clips.write_data(tmp_path / "data")
  (tmp_path / "data" / "videos" / "validation3.webm").write_bytes(b"no video")
  config.data.update({"root": str(tmp_path / "data"), "store": None})
  config.fidelity.update({"head": None, "variants": VARIANTS[:1]})
  config.train.max_error_share = 0.1
  with pytest.raises(DataError, match=r"1 of 8 clips of the split 'validation' could not be read.*validation3"):
    run("cache_fidelity", config, tmp_path)
  config.train.max_error_share = 0.2
  run("cache_fidelity", config, tmp_path)
  result = result_of(tmp_path)
  assert list(result["unreadable"]) == ["validation3"] and result["data"]["clips"] == 7


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("variants", (), "config.fidelity.variants is empty"),
    ("variants", VARIANTS[:1] * 2, "config.fidelity.variants names a form twice"),
    ("variants", ({"tokens": 0, "precision": "int4"},), "precision = 'int4' is not one of"),
    ("clips", 0, "config.fidelity.clips = 0: it must be at least 1"),
    ("pca_clips", 0, "config.fidelity.pca_clips = 0"),
  ],
)
def test_impossible_fields_are_refused_before_any_work(config, tmp_path, field, value, message):
  config.fidelity[field] = value
  with pytest.raises(ConfigError, match=message):
    table.prepare("cache_fidelity", config, str(tmp_path), "")


def test_a_folder_without_a_training_is_no_head(config, tmp_path):
  config.fidelity.head = str(tmp_path / "nowhere")
  with pytest.raises(WorkdirError, match=r"nowhere' holds no config.json with checkpoints"):
    table.prepare("cache_fidelity", config, str(tmp_path), "")


@pytest.mark.long
def test_a_head_that_was_trained_on_videos_is_refused(config, tmp_path, trained):
  head = tmp_path / "head"
  (head / "checkpoints").mkdir(parents=True)
  raw = json.loads((trained / "config.json").read_text())
  raw["data"]["store"] = None
  (head / "config.json").write_text(json.dumps(raw))
  config.fidelity.head = str(head)
  with pytest.raises(ConfigError, match="was trained on videos; name the --workdir of a training with"):
    table.prepare("cache_fidelity", config, str(tmp_path), "")


def test_several_processes_are_refused(config, tmp_path, monkeypatch):
  monkeypatch.setattr("jax.process_count", lambda: 2)
  with pytest.raises(ConfigError, match="runs in one process"):
    table.prepare("cache_fidelity", config, str(tmp_path), "")
