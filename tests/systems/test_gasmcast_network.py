"""The network of GASM-CAST: any backbones, at any size, what of them is trained, and the weights they begin with."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from configs import common, quickstart, ssv2_gasmcast, ssv2_gasmcast_vjepa2
from gasmcast.core import rules
from gasmcast.core.config import to_dict
from gasmcast.core.errors import ConfigError, WeightsError
from gasmcast.features.backbones import FAMILIES
from gasmcast.systems.gasmcast import GasmCastSystem, example_batch
from gasmcast.systems.gasmcast_config import parse_model
from gasmcast.systems.gasmcast_network import load_pretrained, select_tokens
from tests.features.random_weights import random_variables, save_variables
from tests.systems.tiny_gasmcast import CLASSES, make_batch, make_model


def test_frozen_backbones_are_out_of_the_gradient_and_their_statistics_stand_still():
  model = make_model(motion={"trainable": False, "norm": "batch"}, semantic={"trainable": False})
  system, batch = GasmCastSystem(model, CLASSES), make_batch()
  abstract = jax.eval_shape(system.init, jax.random.key(0), batch)
  trained, frozen = rules.partition(abstract["params"], system.trainable, "model")
  assert {name.split("/")[0] for name in trained} == {"fusion"}
  assert {name.split("/")[0] for name in frozen} == {"semantic", "motion"}
  variables = jax.jit(system.init)(jax.random.key(0), batch)

  @jax.jit
  def step(variables):
    def loss(params):
      rngs = {"dropout": jax.random.key(1)}
      outputs, updated = system.apply(variables | {"params": params}, batch, train=True, rngs=rngs)
      return system.loss(outputs, batch)[0], updated

    return jax.grad(loss, has_aux=True)(variables["params"])

  gradients, updated = step(variables)
  flat = rules.flatten(gradients)
  assert all(not flat[name].any() for name in frozen)
  for part in ("semantic_graph_0", "motion_graph_0", "bcast_1", "pool_motion", "head"):
    assert any(flat[name].any() for name in trained if name.startswith(f"fusion/{part}/")), part
  jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize("variant", ["literal", "small", "base", "large", "efficient"])
def test_the_full_system_has_the_published_backbones_and_keeps_the_budget(variant):
  config = ssv2_gasmcast.get_config(variant)
  system = GasmCastSystem(parse_model(config.model.to_dict()), tuple(map(str, range(174))))
  params = jax.eval_shape(system.init, jax.random.key(0), example_batch(16, 224))["params"]
  count = lambda tree: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
  assert count(params["semantic"]) == 85_660_416 - 768  # the published file holds a mask token
  assert count(params["motion"]) == 33_166_272
  auxiliary = sum(count(part) for name, part in params["fusion"].items() if name.startswith("auxiliary"))
  assert auxiliary == 3 * 225_454
  expected = {"literal": 7_208_910, "small": 7_625_294, "base": 14_197_326, "large": 17_879_198}
  total = count(params["fusion"]) - auxiliary
  assert total < 20_000_000
  assert variant == "efficient" or total == expected[variant]


SEMANTIC = {
  "dinov3": {"width": 16, "depth": 1, "heads": 4, "mlp_width": 16, "patch": 8, "image_size": 32},
  "dinov2": {"width": 16, "depth": 1, "heads": 4, "mlp_width": 16, "patch": 7, "image_size": 28, "position_grid": 3},
  "resnet": {"stem": 8, "widths": (8, 8, 8, 16), "blocks": (1, 1, 1, 1), "image_size": 128},
  "efficientnet_lite": {"blocks": (1,) * 7, "head": 32, "image_size": 128},
}
MOTION = {
  "r3d": ({"widths": (8, 8, 8, 16), "blocks": (1, 1, 1, 1), "image_size": 32}, (2, 2)),
  "i3d": ({"mode": "atrous", "width_divisor": 8, "image_size": 64}, (2, 2)),
  "vjepa2": ({"width": 24, "depth": 1, "heads": 4, "patch": 8, "image_size": 32}, (4, 4)),
}


def _outputs(model):
  """Shapes of the outputs and of what is explained, for a clip of 16 frames."""
  system, batch = GasmCastSystem(model, CLASSES), example_batch(16, 32)
  variables = jax.eval_shape(system.init, jax.random.key(0), batch)

  def apply(variables):
    outputs, _ = system.apply(variables, batch, train=False, capture=True)
    return outputs, system.explain(outputs)

  return jax.eval_shape(apply, variables)


def _small_model(**fields):
  """One B-CAST layer after a merge, no graphs: what is looked at here are the backbones."""
  values = quickstart.get_config("runlocal").model.to_dict()
  values["fusion"] |= {"windows": (1,), "merge_before": (1,), "graph_neighbours": "none", "auxiliary": False}
  return values | fields


def _stream(name, fields):
  return common.stream(name, weights="random", trainable=True, **fields).to_dict()


@pytest.mark.parametrize("family", SEMANTIC)
def test_any_semantic_family_gives_its_tokens(family):
  outputs, explained = _outputs(parse_model(_small_model(semantic=_stream(family, SEMANTIC[family]))))
  assert outputs["logits"].shape == (1, 4)
  assert outputs["intermediates"]["tokens"]["semantic_0"].shape[:3] == (1, 8, 16)  # 4 x 4 tokens of every second frame
  assert explained["patches"].shape == (1, 8, 2, 2)


@pytest.mark.parametrize(
  ("family", "tokens"),
  [("r3d", "segments"), ("r3d", "grid"), ("i3d", "segments"), ("vjepa2", "segments"), ("vjepa2", "grid")],
)
def test_any_motion_family_gives_segments_or_their_cells(family, tokens):
  fields, grid = MOTION[family]
  outputs, explained = _outputs(parse_model(_small_model(motion=_stream(family, fields), motion_tokens=tokens)))
  cells = 1 if tokens == "segments" else grid[0] * grid[1]
  assert outputs["intermediates"]["tokens"]["motion_0"].shape[:3] == (1, 8, cells)
  assert explained["segments"].shape == (1, 8)


def test_every_family_has_been_tried_as_a_stream():
  assert set(SEMANTIC) | set(MOTION) == set(FAMILIES)


def test_an_odd_grid_has_no_merge_and_works_without():
  values = _small_model(semantic=_stream("resnet", SEMANTIC["resnet"] | {"image_size": 224}))
  with pytest.raises(ConfigError, match=r"the 7 x 7 grid before layer 1 has no 2x2 merge.*set merge_before = \(\)"):
    _outputs(parse_model(values))
  values["fusion"] |= {"merge_before": ()}
  assert _outputs(parse_model(values))[1]["patches"].shape == (1, 8, 7, 7)


@pytest.mark.parametrize("semantic", ["resnet50", "efficientnet_lite0", "dinov2_vitb14"])
def test_the_full_configs_merge_where_the_grid_is_even(semantic):
  model = parse_model(ssv2_gasmcast.get_config(f"efficient,semantic={semantic},motion=i3d_rgb").model.to_dict())
  assert model.fusion.merge_before == ((2,) if model.semantic.network.grid[0] % 2 == 0 else ())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """Small weights of both streams in files, and what is in them."""
  folder, variables = tmp_path_factory.mktemp("weights"), {}
  for name, family, fields in (("semantic", "dinov3", SEMANTIC["dinov3"]), ("motion", "r3d", MOTION["r3d"][0])):
    _, variables[name] = random_variables(family, fields)
    save_variables(folder / f"{name}.safetensors", variables[name])
  return folder, variables


def _pretrained_model(folder, **fields):
  values = quickstart.get_config("runlocal").model.to_dict()
  values["semantic"] = common.stream(
    "dinov3_vitb16", weights=str(folder / "semantic.safetensors"), **SEMANTIC["dinov3"]
  ).to_dict()
  motion = MOTION["r3d"][0]
  values["motion"] = common.stream("r3d_18", weights=str(folder / "motion.safetensors"), **motion).to_dict()
  return parse_model(values | fields)


def test_the_weights_of_the_streams_are_a_part_of_the_variables(weights):
  folder, variables = weights
  model = _pretrained_model(folder)
  pretrained = load_pretrained(model)
  assert pretrained.model == model
  expected = {
    "params": {name: variables[name]["params"] for name in ("semantic", "motion")},
    "batch_stats": {"motion": variables["motion"]["batch_stats"]},
  }
  jax.tree.map(np.testing.assert_array_equal, pretrained.variables, expected)
  fresh = rules.flatten(jax.eval_shape(GasmCastSystem(model, CLASSES).init, jax.random.key(0), example_batch(16, 32)))
  given = rules.flatten(pretrained.variables)
  assert {name for name in fresh if "fusion" not in name.split("/")[1]} == set(given)
  assert all(fresh[name].shape == leaf.shape for name, leaf in given.items())


def test_the_records_of_weights_say_what_they_are(weights):
  folder, _ = weights
  streams = load_pretrained(_pretrained_model(folder)).streams
  assert streams["motion"] == {
    "name": "r3d_18",
    "origin": str(folder / "motion.safetensors"),
    "fingerprint": streams["motion"]["fingerprint"],
    "image_size": 32,
    "mean": [0.43216, 0.394666, 0.37645],
    "std": [0.22803, 0.22145, 0.216989],
  }
  assert json.loads(json.dumps(streams)) == streams


def test_weights_are_told_apart_by_content_not_by_place(weights, tmp_path):
  folder, variables = weights
  first = load_pretrained(_pretrained_model(folder)).identity()
  (tmp_path / "semantic.safetensors").write_bytes((folder / "semantic.safetensors").read_bytes())
  flat = rules.flatten(variables["motion"])
  flat["batch_stats/stem_norm/batch/mean"] = flat["batch_stats/stem_norm/batch/mean"] + 1  # a frozen buffer counts
  save_variables(tmp_path / "motion.safetensors", rules.unflatten(flat))
  second = load_pretrained(_pretrained_model(tmp_path)).identity()
  assert set(first) == {"weights.semantic", "weights.motion"}
  assert first["weights.semantic"] == second["weights.semantic"]
  assert first["weights.motion"] != second["weights.motion"]


def test_only_streams_in_use_are_loaded_and_random_ones_are_not(weights):
  folder, _ = weights
  values = to_dict(quickstart.get_config("runlocal").model)
  random = load_pretrained(parse_model(values))
  assert random.variables == {}
  assert random.streams == {name: {"name": family, "origin": "random"} for name, family in _families(values)}
  assert random.identity() == {"weights.semantic": "random", "weights.motion": "random"}
  model = _pretrained_model(folder)
  broken = dataclasses.replace(model, semantic=dataclasses.replace(model.semantic, weights="none.safetensors"))
  alone = dataclasses.replace(broken, fusion=dataclasses.replace(model.fusion, streams="motion"))
  assert set(load_pretrained(alone).streams) == {"motion"}
  with pytest.raises(WeightsError, match=r"config.model.semantic.weights: .*none.safetensors"):
    load_pretrained(broken)


def _families(values):
  return [(name, values[name]["name"]) for name in ("semantic", "motion")]


def test_a_trained_backbone_keeps_its_frozen_stages():
  values = quickstart.get_config("runlocal").model.to_dict()
  values["semantic"] = _stream("resnet", SEMANTIC["resnet"] | {"frozen_stages": 2})
  system = GasmCastSystem(parse_model(values), CLASSES)
  params = jax.eval_shape(system.init, jax.random.key(0), example_batch(16, 32))["params"]
  trained, frozen = rules.partition(params, system.trainable, "model")
  assert {name.split("/")[1] for name in frozen} == {"stem", "layer1_0", "layer2_0"}
  assert {name.split("/")[1] for name in trained if name.startswith("semantic/")} == {"layer3_0", "layer4_0"}


def test_a_step_on_frozen_v_jepa_2_tokens_trains_the_fusion():
  """The tiny form of the config with one fusion layer: the loss of a batch falls by a real gradient step."""
  values = ssv2_gasmcast_vjepa2.get_config("runlocal").model.to_dict()
  values["fusion"] |= {"windows": (1,), "merge_before": (1,), "semantic_blocks": 0, "auxiliary": False}
  for name in ("semantic", "motion"):
    values[name]["trainable"] = False
  system, batch = GasmCastSystem(parse_model(values), CLASSES), make_batch()
  shapes, generator = jax.eval_shape(system.init, jax.random.key(0), batch)["params"], np.random.default_rng(0)
  params = jax.tree.map(lambda leaf: np.float32(0.1) * generator.standard_normal(leaf.shape, np.float32), shapes)
  trained, frozen = rules.partition(params, system.trainable, "model")

  @jax.jit
  def step(trained, frozen):
    def loss(trained):
      variables = {"params": rules.unflatten(trained | frozen)}
      return system.loss(system.apply(variables, batch, train=False)[0], batch)[0]

    value, gradients = jax.value_and_grad(loss)(trained)
    return value, jax.tree.map(lambda p, g: p - 0.1 * g, trained, gradients)

  before, moved = step(trained, frozen)
  assert step(moved, frozen)[0] < before
  assert {name.split("/")[0] for name in trained} == {"fusion"}
  assert not any("motion_graph" in name for name in trained)


def test_the_full_system_with_v_jepa_2_has_2048_motion_tokens_and_keeps_the_budget():
  config = ssv2_gasmcast_vjepa2.get_config()
  system = GasmCastSystem(parse_model(config.model.to_dict()), tuple(map(str, range(174))))
  batch = example_batch(16, 256)
  variables = jax.eval_shape(system.init, jax.random.key(0), batch)
  outputs = jax.eval_shape(lambda v: system.apply(v, batch, train=False, capture=True)[0], variables)
  assert outputs["intermediates"]["tokens"]["motion_0"].shape == (1, 8, 256, 1024)
  assert outputs["logits"].shape == (1, 174)
  count = lambda tree: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
  assert count(variables["params"]["motion"]) == 303_885_312
  auxiliary = sum(count(part) for name, part in variables["params"]["fusion"].items() if name.startswith("auxiliary"))
  by_place = 3 * 2 * 8 * 33**2  # layers, directions, heads, offsets of a 16 x 16 grid
  assert count(variables["params"]["fusion"]) - auxiliary == 9_498_062 + by_place


FEATURES = {
  "semantic": np.random.default_rng(0).normal(size=(2, 8, 4, 3)).astype(np.float32),
  "motion": np.random.default_rng(1).normal(size=(2, 2, 5)).astype(np.float32),
}


def test_the_middle_frame_stands_in_the_place_of_all():
  model = dataclasses.replace(make_model(), semantic_tokens="middle")
  semantic = select_tokens(model, {"semantic": FEATURES["semantic"]})["semantic"]
  np.testing.assert_array_equal(semantic, np.repeat(FEATURES["semantic"][:, 4:5], 8, axis=1))


def test_one_token_a_frame_is_the_mean_of_its_patches():
  model = dataclasses.replace(make_model(), semantic_tokens="pooled")
  semantic = select_tokens(model, {"semantic": FEATURES["semantic"]})["semantic"]
  np.testing.assert_allclose(semantic, FEATURES["semantic"].mean(2, keepdims=True), atol=1e-6)


def test_few_segments_are_repeated_for_the_frames_that_they_span():
  model = dataclasses.replace(make_model(), repeat_motion=True)
  motion = select_tokens(model, FEATURES)["motion"]
  np.testing.assert_array_equal(motion, np.repeat(FEATURES["motion"], 4, axis=1))
  odd = FEATURES | {"motion": np.ones((2, 3, 5), np.float32)}
  with pytest.raises(ConfigError, match="3 segments can't be repeated evenly for 8 frames"):
    select_tokens(model, odd)
  assert select_tokens(make_model(), FEATURES)["motion"] is FEATURES["motion"]


def test_the_published_motion_network_goes_with_eight_frames_when_repeated():
  values = quickstart.get_config("runlocal").model.to_dict()
  values["motion"]["mode"], values["repeat_motion"] = "native", True
  variables = GasmCastSystem(parse_model(values), CLASSES).abstract_variables(make_batch())
  assert variables["params"]["fusion"]["bcast_1"]["time_embedding"].shape[0] == 8
  values["repeat_motion"] = False
  with pytest.raises(
    ConfigError, match="the semantic stream has 8 frames and the motion stream 2 segments.*repeat_motion"
  ):
    GasmCastSystem(parse_model(values), CLASSES).abstract_variables(make_batch())
