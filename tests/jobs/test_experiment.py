"""What is refused before any work, and in which words; what a run is identified by."""

import dataclasses
import json
import math
import typing

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common, own_videos, quickstart, ssv2_finetune, ssv2_gasmcast, ssv2_gasmcast_vjepa2
from gasmcast.core import rules
from gasmcast.core.errors import ConfigError, DataError
from gasmcast.core.types import Dataset, Example
from gasmcast.features.backbones import FAMILIES
from gasmcast.fusion.config import VARIANTS
from gasmcast.jobs import experiment, table
from tests.features.random_weights import random_variables, save_variables


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
    ("model.motion.name", "dinov3", "config.model.motion.name = 'dinov3' is no motion backbone"),
    ("model.motion.weights", None, "config.model.motion.weights is not set, and no weights are published for 'r3d'"),
    ("model.semantic.depht", 3, "config.model.semantic.depht is not a field; did you mean 'depth'?"),
    ("model.motion.mode", "native", "the semantic stream has 8 frames and the motion stream 2 segments"),
    ("optim.warmup_steps", "9 steps", "warmup_steps = 9"),
    ("model.max_trainable", 1000, "max_trainable = 1,000"),
    ("model.mixing.mixup", -1.0, "config.model.mixing.mixup = -1.0: it is the alpha of a Beta distribution"),
    ("model.mixing.mixpu", 0.2, "config.model.mixing.mixpu is not a field; did you mean 'mixup'?"),
    ("model.class_weights", "inverted", "config.model.class_weights = 'inverted' is not one of 'none', 'inverse'"),
    ("model.class_weights_beta", 1.0, "config.model.class_weights_beta = 1.0: use 0 .* to below 1"),
    ("data.sampling", "even", "config.data.sampling = 'even' is not one of 'uniform', 'balanced', 'square_root'"),
    ("generate.test", 3, "recipe.test = 3: a split needs a clip of each of the 12 classes"),
  ],
)
def test_impossible_configurations_are_refused(tiny, make, field, value, message):
  tiny.unlock()
  _set(tiny, field, value)
  with pytest.raises(ConfigError, match=message):
    make(tiny)


def test_the_fields_of_a_job_are_checked_with_it(tiny, make):
  tiny.evaluate.splits = ("holdout",)
  with pytest.raises(ConfigError, match="config.evaluate.splits"):
    table.find("evaluate")[0].check(make(tiny))


def test_a_store_holds_features_of_frozen_backbones(tiny, make):
  tiny.unlock()
  tiny.data.store = "features"
  with pytest.raises(ConfigError, match="config.data.store = 'features' with config.model.semantic.trainable = True"):
    make(tiny)


def test_stored_features_are_not_cut(tiny, make):
  tiny.unlock()
  tiny.data.store, tiny.model.mixing.cutmix = "features", 1.0
  with pytest.raises(ConfigError, match="config.model.mixing.cutmix = 1.0 with config.data.store = 'features': a rect"):
    make(tiny)


def _training_set(pairs, classes=("up", "down", "to the left", "to the right")):
  labels = (0, 0, 0, 1, 2)
  examples = tuple(Example(str(i), f"{i}.webm", {"action": label}) for i, label in enumerate(labels))
  return Dataset("set", "train", examples, {"action": classes}, "abc", pairs)


def test_the_loss_counts_the_classes_of_the_training_set(tiny, make):
  tiny.model.class_weights, tiny.model.label_smoothing = "inverse", 0.0
  system = make(tiny).system(_training_set({}))
  batch = {"action": np.array([0, 1]), "ok": np.ones(2, bool)}
  loss, _ = system.loss({"logits": np.zeros((2, 4), np.float32)}, batch)
  assert float(loss) == pytest.approx(math.log(4) * (5 / 9 + 5 / 3) / 2)  # 3 of 5 and 1 of 5 examples, 3 classes


def test_directions_are_kept_apart_as_listed_and_as_named(tiny, make):
  """Only with mixing are the pairs a part of what identifies the run."""
  sets = (_training_set({"reversed in time": ((1, 0),)}), _training_set({}))
  identities = {}
  for alpha in (0.0, 0.2):
    tiny.model.mixing.mixup = alpha
    experiment, weights = make(tiny).with_weights()
    identities[alpha] = [experiment.identity(train, train, weights) for train in sets]
  assert identities[0.0][0] == identities[0.0][1]
  assert [identity["kept_apart"] for identity in identities[0.2]] == [[[0, 1], [2, 3]], [[2, 3]]]


def test_a_batch_that_the_devices_cannot_share_is_refused_where_it_matters(tiny, make, tmp_path):
  tiny.data.global_batch = 12
  assert table.prepare("count", tiny, str(tmp_path), "python launch/main.py")
  experiment = make(tiny)
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


def test_a_data_set_without_actions_is_refused(tiny, make, monkeypatch):
  verbs = Dataset("epic", "train", (Example("1", "1.mp4", {"verb": 0}),), {"verb": ("take",), "noun": ("cup",)}, "")
  monkeypatch.setattr(experiment.datasets, "load", lambda *args, **options: verbs)
  with pytest.raises(DataError, match=r"something_something has the labels verb, noun and the system needs 'action'"):
    make(tiny).dataset("train")


def test_a_missing_data_folder_is_named(tiny, make, tmp_path):
  tiny.data.root = str(tmp_path / "nowhere")
  with pytest.raises(DataError, match="nowhere is not a folder; give the one that holds labels.json and train.json"):
    make(tiny).dataset("train")


@pytest.mark.parametrize(
  ("module", "argument"),
  [
    (quickstart, ""),
    (quickstart, "runlocal"),
    (ssv2_gasmcast, ""),
    (ssv2_gasmcast, "efficient,runlocal"),
    (ssv2_gasmcast, "efficient,semantic=dinov2_vitb14"),
    (ssv2_gasmcast_vjepa2, "runlocal"),
    (ssv2_finetune, "blocks=2"),
    (ssv2_finetune, "runlocal"),
    (own_videos, ""),
    (own_videos, "semantic=resnet50,motion=r3d_18"),
    (own_videos, "runlocal"),
  ],
  ids=lambda value: getattr(value, "__name__", value),
)
def test_every_config_is_an_experiment(module, argument, make):
  """Traced from frames to scores, with every shape and budget checked; nothing is allocated, no weights are read."""
  config = module.get_config(argument)
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


def test_every_field_of_every_backbone_can_be_set_from_the_command_line():
  known = common.stream("")
  for family, entry in FAMILIES.items():
    hints = typing.get_type_hints(entry.config)
    for field in dataclasses.fields(entry.config):
      if field.name != "classes":  # a stream has no classifier
        assert field.name in known, f"{family}.{field.name}: add it to configs/common.py"
        hint = typing.get_origin(hints[field.name]) or hints[field.name]
        assert known.get_type(field.name) is (str if hint is typing.Literal else hint), f"{family}.{field.name}"


def test_a_stream_keeps_its_fields_unset_until_they_are_given():
  config = common.stream("i3d_rgb", image_size=112)
  assert {name for name, value in config.items() if value is not None} == {"name", "trainable", "mode", "image_size"}
  config.lock()
  config.weights = "i3d.safetensors"
  with pytest.raises(TypeError):
    config.image_size = "big"


def test_a_random_frozen_backbone_is_refused_by_training(tiny, make):
  tiny.model.motion.trainable = False
  (train,) = table.find("train")
  with pytest.raises(ConfigError, match=r"config.model.motion.weights = 'random' and trainable = False: a frozen"):
    train.check(make(tiny))


@pytest.fixture
def frozen(tiny, tmp_path):
  """The tiny configuration with a frozen motion stream of weights in a file, those of the configuration."""
  model = tiny.model.motion.to_dict()
  fields = {name: model[name] for name in ("widths", "blocks", "image_size", "norm", "differences")}
  config, variables = random_variables("r3d", fields)
  save_variables(tmp_path / "r3d.safetensors", variables, "r3d_18", config)
  tiny.model.motion.update({"name": "r3d_18", "weights": str(tmp_path / "r3d.safetensors"), "trainable": False})
  return tiny


def test_the_identity_of_a_run_holds_the_content_of_weights_not_their_place(frozen, make, tmp_path):
  train = Dataset("set", "train", (), {"action": ()}, "abc")
  first, weights = make(frozen).with_weights()
  validation = Dataset("set", "validation", (), {"action": ()}, "def")
  identity = first.identity(train, validation, weights)
  (tmp_path / "other.safetensors").write_bytes((tmp_path / "r3d.safetensors").read_bytes())
  frozen.model.motion.weights = str(tmp_path / "other.safetensors")
  second, weights = make(frozen).with_weights()
  assert second.identity(train, validation, weights) == identity == json.loads(json.dumps(identity))
  assert len(identity["weights.motion"]) == 64 and identity["weights.semantic"] == "random"


def test_an_experiment_takes_the_sizes_of_its_weights(frozen, make):
  """The fields are not given, so the file decides; the published sizes count until it is read."""
  frozen.model.motion.update({name: None for name in ("widths", "blocks", "image_size", "norm", "differences")})
  published = make(frozen)
  assert published.parameters()["motion"]["frozen"] == 33_166_272
  sized, weights = published.with_weights()
  shapes = rules.flatten(sized.abstract_variables)
  flat = rules.flatten(weights.variables)
  assert all(shapes[name].shape == leaf.shape for name, leaf in flat.items())
  assert sized.parameters()["motion"]["frozen"] == sum(
    leaf.size for name, leaf in flat.items() if name.startswith("params/")
  )
  assert published.parameters()["motion"]["frozen"] == 33_166_272  # it stays as it was


def test_the_budget_holds_with_the_sizes_of_the_weights_too(frozen, make):
  frozen.model.motion.widths = None  # the file decides, so the model changes as it is read
  experiment = make(frozen)
  experiment.model = dataclasses.replace(experiment.model, max_trainable=1000)
  with pytest.raises(ConfigError, match=r"model.max_trainable = 1,000: .* parameters would be trained"):
    experiment.with_weights()


@pytest.mark.parametrize(
  ("argument", "message"), [("both,fast", "'fast' is unknown; known: streams, runlocal"), ("runlocal=2", "use True or")]
)
def test_unknown_config_arguments_raise(argument, message):
  with pytest.raises(ValueError, match=message):
    quickstart.get_config(argument)


def test_jobs_are_found_by_name():
  assert len(table.find("train,evaluate")) == 2
  with pytest.raises(ConfigError, match="'evalute' is no job; use prepare, generate, extract, train, evaluate"):
    table.find("train,evalute")
  with pytest.raises(ConfigError, match="is no job"):
    table.find(" , ")
