"""A stream's config: which backbone, which sizes, which weights, and what is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from gasmcast.core import rules
from gasmcast.core.errors import ConfigError, WeightsError
from gasmcast.features.backbones import BACKBONES, FAMILIES
from gasmcast.features.network import Network
from gasmcast.features.streams import load_stream, parse_stream
from tests.features.random_weights import random_variables, save_variables

R3D = {"widths": (8, 8, 8, 8), "blocks": (1, 1, 1, 1), "image_size": 16}
RESNET = {"stem": 8, "widths": (8, 8, 8, 8), "blocks": (1, 1, 1, 1), "image_size": 32}


def test_a_published_network_has_the_sizes_of_the_table_except_for_the_fields():
  stream = parse_stream({"name": "dinov3_vitb16", "weights": None, "image_size": 448, "width": None}, "semantic")
  assert stream.network == dataclasses.replace(BACKBONES["dinov3_vitb16"].config, image_size=448)
  assert (stream.family, stream.weights, stream.trainable, stream.given) == ("dinov3", None, False, ("image_size",))
  assert not stream.random


def test_a_family_has_its_defaults_except_for_the_fields():
  stream = parse_stream({"name": "r3d", "weights": "random", "trainable": True, "mode": "native"} | R3D, "motion")
  assert stream.network == FAMILIES["r3d"].config(mode="native", **R3D)
  assert stream.family == "r3d" and stream.random and "norm" in stream.given


def test_a_published_network_can_be_trained_from_scratch():
  stream = parse_stream({"name": "r3d_18", "weights": "random", "trainable": True}, "motion")
  assert stream.random and stream.network == BACKBONES["r3d_18"].config


@pytest.mark.parametrize(
  ("stream", "values", "message"),
  [
    (
      "semantic",
      {"name": "dinov9"},
      "config.model.semantic.name = 'dinov9' is no semantic backbone; use one of dinov3",
    ),
    ("semantic", {"name": "r3d_18"}, "'r3d_18' is no semantic backbone"),
    ("motion", {"name": "dinov3"}, "config.model.motion.name = 'dinov3' is no motion backbone.*of the families .*r3d"),
    ("motion", {}, "config.model.motion.name = '' is no motion backbone"),
    ("motion", {"name": "r3d"}, "no weights are published for 'r3d' of any size; use 'random' with trainable = True"),
    ("motion", {"name": "r3d_18", "weights": 1}, "motion.weights = 1 is of type int; str is needed"),
    ("motion", {"name": "r3d_18", "trainable": "no"}, "motion.trainable = 'no' is of type str; bool is needed"),
    ("motion", {"name": "r3d_18", "mod": "native"}, "config.model.motion.mod is not a field; did you mean 'mode'?"),
    ("motion", {"name": "r3d_18", "mode": "fast"}, "config.model.motion.mode = 'fast' is not one of 'atrous'"),
    ("motion", {"name": "i3d_rgb", "classes": 400}, "motion.classes = 400: the scores come from the fusion"),
  ],
)
def test_what_cannot_be_a_stream_is_refused(stream, values, message):
  with pytest.raises(ConfigError, match=message):
    parse_stream(values, stream)


def test_weights_are_loaded_as_they_lie_in_the_file(tmp_path):
  config, variables = random_variables("r3d", R3D)
  path = save_variables(tmp_path / "r3d.safetensors", variables)
  named = load_stream(parse_stream({"name": "r3d_18", "weights": path} | R3D, "motion"), "motion")
  sized = load_stream(parse_stream({"name": "r3d", "weights": path} | R3D, "motion"), "motion")
  for loaded in (named, sized):
    assert loaded.config.network == config and loaded.origin == path
    assert set(loaded.variables) == {"params", "batch_stats"}
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)
  assert named.fingerprint == sized.fingerprint


def test_a_classifier_in_the_file_is_no_part_of_the_stream(tmp_path):
  _, variables = random_variables("resnet", RESNET)
  head = {"fc.weight": np.ones((5, 8), np.float32), "fc.bias": np.ones(5, np.float32)}
  path = tmp_path / "resnet.safetensors"
  safetensors.numpy.save_file(_torchvision_names(rules.flatten(variables)) | head, path)
  loaded = load_stream(parse_stream({"name": "resnet50", "weights": str(path)} | RESNET, "semantic"), "semantic")
  jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)
  assert "logits" not in loaded.variables["params"]


def _torchvision_names(flat):
  """The tensors as torchvision would name and lay them out."""
  ends = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
  tensors = {}
  for path, leaf in flat.items():
    unit, end = path.split("/", 1)[1].removesuffix("/norm").rsplit("/", 1)
    unit, norm = unit.removesuffix("/norm"), end != "kernel"
    block, _, part = unit.rpartition("/")
    if part == "stem":
      name = "bn1" if norm else "conv1"
    elif part == "shortcut":
      name = f"{block.replace('_', '.')}.downsample.{int(norm)}"
    else:
      name = f"{block.replace('_', '.')}.{part.replace('conv', 'bn') if norm else part}"
    tensors[f"{name}.{ends[end]}"] = leaf if norm else np.ascontiguousarray(np.moveaxis(leaf, (-1, -2), (0, 1)))
  return tensors


def test_sizes_follow_a_config_json_beside_the_weights_and_fields_stand_against_it(tmp_path):
  sizes = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32, "patch": 8, "registers": 1, "image_size": 32}
  config, variables = random_variables("dinov3", sizes)
  save_variables(tmp_path / "model.safetensors", variables)
  hub = {"model_type": "dinov3_vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
  hub |= {"intermediate_size": 32, "patch_size": 8, "num_register_tokens": 1, "use_gated_mlp": False}
  (tmp_path / "config.json").write_text(json.dumps(hub | {"hidden_act": "gelu"}))
  stream = parse_stream({"name": "dinov3_vitb16", "weights": str(tmp_path), "image_size": 32}, "semantic")
  assert stream.network.width == 768  # the weights are not looked at
  assert load_stream(stream, "semantic").config.network == config
  wide = parse_stream({"name": "dinov3_vitb16", "weights": str(tmp_path), "mlp_width": 48}, "semantic")
  with pytest.raises(WeightsError, match=r"config.model.semantic.weights: .*mlp/up/kernel"):
    load_stream(wide, "semantic")


def test_what_a_network_saved_is_a_stream_of_its_name_and_of_its_family(tmp_path):
  sizes = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32, "patch": 8, "registers": 1, "image_size": 32}
  config, variables = random_variables("dinov3", sizes)
  path = tmp_path / "saved.safetensors"
  Network("dinov3_vitl16", config, "float32", variables, "random").save(path)
  named = load_stream(parse_stream({"name": "dinov3_vitl16", "weights": str(path)}, "semantic"), "semantic")
  sized = load_stream(parse_stream({"name": "dinov3", "weights": str(path)} | sizes, "semantic"), "semantic")
  assert named.config.network == sized.config.network == config
  assert named.fingerprint == sized.fingerprint


def test_weights_that_do_not_fit_or_are_not_there_name_the_field(tmp_path):
  _, variables = random_variables("r3d", R3D)
  path = save_variables(tmp_path / "r3d.safetensors", variables)
  with pytest.raises(WeightsError, match=r"config.model.motion.weights: .*does not fit r3d_18"):
    load_stream(parse_stream({"name": "r3d_18", "weights": path}, "motion"), "motion")
  with pytest.raises(WeightsError, match=r"config.model.motion.weights: .*none.safetensors does not exist"):
    load_stream(parse_stream({"name": "r3d_18", "weights": str(tmp_path / "none.safetensors")}, "motion"), "motion")


def test_every_family_has_a_published_network():
  assert {backbone.family for backbone in BACKBONES.values()} == set(FAMILIES)


def test_features_that_the_data_give_need_no_network():
  stream = parse_stream({"name": "given", "weights": None, "trainable": False}, "semantic")
  assert (stream.name, stream.network, stream.random, stream.trainable) == ("given", None, False, False)
  for wrong in ({"weights": "random"}, {"trainable": True}, {"width": 3}):
    with pytest.raises(ConfigError, match=r"config\.model\.semantic\.name = 'given' has no network, so it takes no"):
      parse_stream({"name": "given"} | wrong, "semantic")
