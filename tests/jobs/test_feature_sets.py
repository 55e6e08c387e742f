"""Training and evaluation on a data set that holds features: no video, no backbone, no store."""

import json

import pytest

from configs import feature_sets, quickstart
from gasmcast.core.errors import ConfigError
from gasmcast.jobs import evaluate, extract, report, train


@pytest.fixture
def config():
  return feature_sets.get_config("conjunction_in_time,runlocal")


def test_the_whole_way_to_a_report(config, make):
  experiment = make(config)
  for job in (train, evaluate, report):
    job.check(experiment)
    job.run(experiment)
  numbers = json.loads((experiment.workdir / "metrics.json").read_text())
  assert numbers["splits"]["test"]["examples"] == 32 and "task" in str(numbers["meta"]["config"]["data"])
  origin = numbers["meta"]["weights"]["semantic"]
  assert origin == {"name": "given", "origin": "features of the data set 'feature_sets'"}
  page = (experiment.workdir / "report" / "index.html").read_text()
  assert "given from features of the data set" in page and "conjunction_in_time" in page
  lines = [json.loads(line) for line in (experiment.workdir / "metrics.jsonl").read_text().splitlines()]
  steps = [line for line in lines if line["split"] == "train"]
  assert steps and all(line["memory/step_mb"] > 0.5 for line in steps)


def test_it_resumes_and_knows_another_data_set(config, make):
  experiment = make(config)
  train.run(experiment)
  again = make(config, experiment.workdir)
  train.run(again)
  assert "All 4 steps are done" in again.console.export_text()
  config.data.options.noise = 0.5
  other = make(config, experiment.workdir)
  with pytest.raises(Exception, match=r"data\.options|config\.data|data: "):
    train.run(other)


def test_sizes_come_from_the_task(config, make):
  experiment = make(config)
  assert experiment.feature_shapes() == {"semantic": (8, 16, 32), "motion": (8, 24)}
  shapes = experiment.fusion_shapes()
  assert (shapes.time, shapes.grid, shapes.motion_grid) == (8, (4, 4), (1, 1))
  config.model.semantic_tokens = "pooled"
  config.model.fusion.update({"merge_before": (), "semantic_blocks": 0})
  assert make(config).fusion_shapes().grid == (1, 1)


def test_features_and_videos_do_not_mix(config, make):
  config.model.motion.name = "r3d_18"
  with pytest.raises(
    ConfigError, match=r"config\.model\.motion\.name = 'r3d_18' .*its features are given; use 'given'"
  ):
    make(config)
  videos = quickstart.get_config("runlocal")
  videos.model.semantic = {"name": "given"}
  with pytest.raises(ConfigError, match=r"config\.model\.semantic\.name = 'given' .*it holds videos; name a backbone"):
    make(videos)


def test_a_store_beside_and_jobs_on_videos_are_refused(config, make):
  with config.unlocked():
    config.data.store = "features"
  with pytest.raises(ConfigError, match="which holds features itself; leave the store at None"):
    make(config)
  with config.unlocked():
    config.data.store = None
  with pytest.raises(ConfigError, match="holds features and no videos; choose a job that needs none"):
    extract.check(make(config))


def test_the_number_of_classes_is_that_of_the_task(config, make):
  config.data.classes = 15
  with pytest.raises(Exception, match=r"has 16 classes and config\.data\.classes is 15; correct either"):
    train.run(make(config))


LATE = {"windows": (), "merge_before": (), "pooling": "mean", "graph_neighbours": "none"}


@pytest.mark.parametrize(
  ("fusion", "least", "most"),
  [
    pytest.param({}, 0.95, 1.0, id="GASM-CAST"),
    pytest.param(LATE, 0.4, 0.5 + 3 * (0.25 / 1024) ** 0.5, id="means"),  # the ceiling and three standard errors
  ],
)
def test_which_of_two_objects_moves_is_learned_from_tokens_and_not_from_means(make, fusion, least, most):
  """A small conjunction in place. At full length, three seeds, all tasks: tests/jobs/test_ablation_configs.py."""
  config = feature_sets.get_config("conjunction_in_place")
  sizes = {"objects": 3, "grid": (2, 2), "semantic_width": 8, "motion_width": 8}
  config.data.classes = 6
  config.data.options.update(sizes | {"train": 2048, "validation": 64, "test": 1024})
  config.model.fusion.update({"bottleneck": 16, "heads": 2} | fusion)
  config.train.update({"steps": "250 steps", "validate_every": "250 steps", "trackers": ()})
  config.optim.warmup_steps = "20 steps"
  config.evaluate.update({"splits": ("test",), "attention_clips": 0})
  experiment = make(config)
  train.run(experiment)
  evaluate.run(experiment)
  numbers = json.loads((experiment.workdir / "metrics.json").read_text())
  assert least <= numbers["splits"]["test"]["top1"] <= most
