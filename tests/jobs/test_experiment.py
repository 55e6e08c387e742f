"""What is refused before any work, and in which words."""

import pytest
from ml_collections import ConfigDict

from configs import quickstart, ssv2_gasmcast
from gasmcast.core.errors import ConfigError, DataError
from gasmcast.fusion.config import VARIANTS
from gasmcast.jobs import table


def _set(config: ConfigDict, field: str, value) -> None:
  *parents, last = field.split(".")
  for parent in parents:
    config = config[parent]
  with config.ignore_type():
    config[last] = value


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("optim.lrr", 1.0, "config.optim.lrr is not a field; did you mean 'lr'?"),
    ("optim.lr", "fast", "config.optim.lr = 'fast' is of type str; float is needed"),
    ("modle", 1, "config.modle is not a field; did you mean 'model'?"),
    ("system", "gasm", "config.system = 'gasm' is no system; use 'gasmcast'"),
    ("data.classes", 1, "config.data.classes = 1: the number of classes is a whole number of at least 2"),
    ("data.threads", 9, "prefetch"),
    ("train.steps", 100, "config.train.steps = 100 has no unit"),
    ("train.steps", "9 hours", "config.train.steps = '9 hours' is no duration"),
    ("model.variant", "huge", "config.model.variant = 'huge' is not one of literal, small, base, large, efficient"),
    ("model.fusion.windows", (0, 3, 7), r"fusion.windows\[0\] = 0: every query must see at least two segments"),
    ("model.fusion.heads", 5, "heads"),
    ("model.fusion.window", 3, "config.model.fusion.window is not a field; did you mean 'windows'?"),
    (
      "model.semantic.name",
      "dinov9",
      "config.model.semantic.name = 'dinov9' is no semantic backbone; use one of dinov3",
    ),
    ("model.motion.name", "dinov3", "config.model.motion.name = 'dinov3' is no motion backbone; use one of r3d"),
    ("model.semantic.depht", 3, "config.model.semantic.depht is not a field; did you mean 'depth'?"),
    ("model.motion.mode", "native", "the semantic stream has 8 frames and the motion stream 2 segments"),
    ("optim.warmup_steps", "9 steps", "warmup_steps = 9"),
    ("model.max_trainable", 1000, "max_trainable = 1,000"),
    ("evaluate.splits", ("holdout",), "config.evaluate.splits"),
    ("generate.test", 3, "recipe.test = 3: a split needs a clip of each of the 12 classes"),
  ],
)
def test_impossible_configurations_are_refused(tiny, make, field, value, message):
  tiny.unlock()
  _set(tiny, field, value)
  with pytest.raises(ConfigError, match=message):
    make(tiny)


def test_a_batch_that_the_devices_cannot_share_is_refused_where_it_matters(tiny, make):
  tiny.data.global_batch = 12
  experiment = make(tiny)
  table.find("count")[0].check(experiment)
  for job in table.find("train,evaluate"):
    with pytest.raises(ConfigError, match="global_batch = 12 is not divisible by the 8 devices.*for example 16"):
      job.check(experiment)


@pytest.mark.parametrize("frames", [1, 2])
def test_too_few_frames_are_refused(tiny, make, frames):
  """Of 2 frames the semantic stream sees one: nothing to attend to over time."""
  tiny.data.frames = frames
  tiny.model.motion_tokens = "segments"
  with pytest.raises(ConfigError, match=r"motion graph with sides \(1,\) sees only itself"):
    make(tiny)


def test_another_number_of_classes_in_the_data_is_refused(tiny, make, tmp_path):
  (tmp_path / "videos").mkdir()
  (tmp_path / "labels.json").write_text('{"Moving something up": "0", "Moving something down": "1"}')
  (tmp_path / "train.json").write_text('[{"id": "1", "template": "Moving [something] up"}]')
  tiny.data.root = str(tmp_path)
  with pytest.raises(DataError, match=r"has 2 classes and config.data.classes is 12"):
    make(tiny).dataset("train")


def test_a_missing_data_folder_is_named(tiny, make, tmp_path):
  tiny.data.root = str(tmp_path / "nowhere")
  with pytest.raises(DataError, match="nowhere is not a folder; give the one that holds labels.json and train.json"):
    make(tiny).dataset("train")


@pytest.mark.parametrize("module", [quickstart, ssv2_gasmcast], ids=["quickstart", "ssv2"])
@pytest.mark.parametrize("variant", ["", "runlocal"])
def test_every_config_is_an_experiment(module, variant, make):
  """Traced from frames to scores, with every shape and budget checked; nothing is allocated."""
  config = module.get_config(variant if module is quickstart else f"efficient,{variant}".rstrip(","))
  config.lock()
  assert make(config).abstract_variables["params"]


@pytest.mark.parametrize("streams", ["semantic", "motion"])
def test_single_streams_have_no_part_of_the_other(streams, make):
  params = make(quickstart.get_config(streams)).abstract_variables["params"]
  assert set(params) == {streams, "fusion"}
  assert not any(name.startswith("bcast") for name in params["fusion"])


def test_every_fusion_field_can_be_set_from_the_command_line():
  fields = quickstart.get_config().model.fusion
  assert set(fields) == set(vars(VARIANTS["base"]))


@pytest.mark.parametrize(
  ("argument", "message"), [("both,fast", "'fast' is unknown; known: streams, runlocal"), ("runlocal=2", "use True or")]
)
def test_unknown_config_arguments_raise(argument, message):
  with pytest.raises(ValueError, match=message):
    quickstart.get_config(argument)


def test_jobs_are_found_by_name():
  assert len(table.find("train,evaluate")) == 2
  with pytest.raises(ConfigError, match="'evalute' is no job; use generate, train, evaluate, report, count, devices"):
    table.find("train,evalute")
  with pytest.raises(ConfigError, match="is no job"):
    table.find(" , ")
