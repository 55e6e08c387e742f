"""ResNet: torchvision's answers, exact size, and what stays still while the rest trains."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core import rules
from gasmcast.core.errors import ConfigError, WeightsError
from gasmcast.features import network
from gasmcast.features.conversion import choose_layout
from gasmcast.features.resnet import LAYOUTS, ResNet, ResNetConfig, _Block
from tests.golden import make_torchvision_seeded as seeded

TINY = {"stem": 8, "widths": (8, 12, 16, 20), "blocks": (1, 1, 1, 1), "block": "basic"}
RESNET18 = {"widths": (64, 128, 256, 512), "blocks": (2, 2, 2, 2), "block": "basic"}


def _frames(height=64, width=64, seed=0):
  return np.random.default_rng(seed).standard_normal((2, 3, height, width, 3)).astype(np.float32)


def _variables(config):
  """Random everywhere, running statistics too, so that no term is at a neutral value."""
  shapes = jax.eval_shape(ResNet(config).init, jax.random.key(0), _frames())
  rng = np.random.default_rng(1)
  return jax.tree.map(lambda leaf: rng.uniform(0.05, 0.3, leaf.shape).astype(np.float32), shapes)


def _count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _error(ours, theirs):
  return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.fixture(scope="module")
def tiny():
  """(variables, compiled apply) of a tiny network that answers frames of 40 x 65 pixels."""
  config = ResNetConfig(**TINY)
  return _variables(config), jax.jit(ResNet(config).apply)


@pytest.mark.parametrize(("name", "options"), [("resnet50", {}), ("resnet18", RESNET18)])
def test_torchvision_gives_the_same_logits_and_stages(name, options):
  variables = network.convert("resnet50", seeded.weights(name), **options)
  net, golden = ResNet(ResNetConfig(classes=5, **options)), seeded.read(name)

  @jax.jit
  def run(variables, x):
    outputs, state = net.apply(
      variables, x, capture_intermediates=lambda part, _: isinstance(part, _Block), mutable=["intermediates"]
    )
    blocks = {name: taken["__call__"][0] for name, taken in state["intermediates"].items()}
    stages = [blocks[f"layer{i + 1}_{count - 1}"] for i, count in enumerate(net.config.blocks)]
    return outputs, [(stage.mean((0, 1, 2)), stage[0, :2, :2, :4]) for stage in stages]

  outputs, stages = run(variables, seeded.inputs(name).transpose(0, 2, 3, 1)[:, None])
  assert _error(outputs["logits"][:, 0], golden["logits"]) < 1e-4
  assert _error(outputs["logits"][:, 0], golden["logits_f64"]) < 1e-4
  assert _error(outputs["pooled"].mean((0, 1)), golden["avgpool/mean_over_batch_and_pos"]) < 1e-4
  for i, (mean, corner) in enumerate(stages):
    assert _error(mean, golden[f"layer{i + 1}/mean_over_batch_and_pos"]) < 1e-4
    assert _error(corner.transpose(2, 0, 1), golden[f"layer{i + 1}/corner"]) < 1e-4


def _hub_name(name):
  """torchvision's name -> that of a file on the Hugging Face Hub."""
  parts = name.split(".")
  kind = "convolution" if "conv" in parts[-2] or parts[-2] == "0" else "normalization"
  if parts[0] == "fc":
    return f"classifier.1.{parts[1]}"
  if len(parts) == 2:
    return f"resnet.embedder.embedder.{kind}.{parts[1]}"
  part = "shortcut" if parts[2] == "downsample" else f"layer.{int(parts[2][-1]) - 1}"
  return f"resnet.encoder.stages.{int(parts[0][-1]) - 1}.layers.{parts[1]}.{part}.{kind}.{parts[-1]}"


def test_names_of_the_hub_fill_the_same_variables():
  def targets(name, layout):
    found = [(rule.expand(name), rule.transform) for rule in layout if rule.expand(name) is not None]
    assert len(found) == 1, name
    return found[0]

  names = [line.split()[0] for line in seeded.read("resnet50")["tensors"]]
  hub_names = [_hub_name(name) for name in names]
  assert "resnet.encoder.stages.3.layers.0.shortcut.normalization.running_var" in hub_names
  torchvision, hub = LAYOUTS
  for name, hub_name in zip(names, hub_names, strict=True):
    assert targets(hub_name, hub) == targets(hub_name.removeprefix("resnet."), hub) == targets(name, torchvision)
  assert choose_layout(names, LAYOUTS) is torchvision
  assert choose_layout(hub_names, LAYOUTS) is hub


def test_resnet_50_has_the_published_size():
  clip = jax.ShapeDtypeStruct((1, 2, 224, 200, 3), jnp.float32)
  variables = jax.eval_shape(ResNet().init, jax.random.key(0), clip)
  assert _count(variables["params"]) == 23_508_032
  outputs = jax.eval_shape(ResNet().apply, variables, clip)
  assert {name: leaf.shape for name, leaf in outputs.items()} == {"tokens": (1, 2, 49, 2048), "pooled": (1, 2, 2048)}
  assert ResNetConfig().grid == (7, 7)
  full = jax.eval_shape(ResNet(ResNetConfig(classes=1000)).init, jax.random.key(0), clip)
  assert _count(full["params"]) == 25_557_032


@pytest.mark.parametrize(("stages", "frozen"), [(0, 0), (1, 225_344), (2, 1_444_928), (4, 23_508_032)])
def test_freezing_rules_cover_the_stem_and_the_first_stages(stages, frozen):
  clip = jax.ShapeDtypeStruct((1, 1, 64, 64, 3), jnp.float32)
  config = ResNetConfig(frozen_stages=stages)
  params = {"semantic": jax.eval_shape(ResNet(config).init, jax.random.key(0), clip)["params"]}
  table = (*config.freezing_rules("semantic/"), (".*", True))
  trained, rest = rules.partition(params, table, "model")
  assert (_count(rest), _count(trained)) == (frozen, 23_508_032 - frozen)


def test_tokens_are_the_cells_of_each_frame_alone(tiny):
  (variables, apply), frames = tiny, _frames(40, 65)  # 2 x 3 cells: every halving rounds up
  outputs = apply(variables, frames)
  assert outputs["tokens"].shape == (2, 3, 6, 20)
  np.testing.assert_allclose(outputs["pooled"], outputs["tokens"].mean(2), rtol=1e-5)
  changed = frames.copy()
  changed[:, 1] = 0
  others = apply(variables, changed)
  np.testing.assert_allclose(others["tokens"][:, ::2], outputs["tokens"][:, ::2], rtol=1e-5)
  assert _error(others["tokens"][:, 1], outputs["tokens"][:, 1]) > 1e-3


def _train(config, variables, frames):
  """(gradients, statistics after) of one step of training."""

  def loss(params):
    outputs, state = ResNet(config).apply({**variables, "params": params}, frames, True, mutable=["batch_stats"])
    return (outputs["pooled"] ** 2).sum(), state["batch_stats"]

  gradients, statistics = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
  return rules.flatten(gradients), rules.flatten(statistics)


def test_frozen_stages_stay_as_they_are_while_the_rest_trains():
  config = ResNetConfig(frozen_stages=2, **TINY)
  variables = _variables(config)
  gradients, after = _train(config, variables, _frames())
  is_frozen = lambda name: re.match(r"stem/|layer[12]_", name) is not None
  for name, gradient in gradients.items():
    assert bool(np.any(gradient)) != is_frozen(name), name
  for name, before in rules.flatten(variables["batch_stats"]).items():
    assert np.array_equal(after[name], before) == is_frozen(name), name


def test_without_freezing_everything_trains():
  config = ResNetConfig(**TINY)
  variables = _variables(config)
  gradients, after = _train(config, variables, _frames())
  assert all(np.any(gradient) for gradient in gradients.values())
  before = rules.flatten(variables["batch_stats"])
  assert not any(np.array_equal(after[name], before[name]) for name in before)


def test_frozen_norms_keep_their_statistics_and_train_their_scale():
  config = ResNetConfig(frozen_norm=True, **TINY)
  variables = _variables(config)
  gradients, after = _train(config, variables, _frames())
  assert all(np.array_equal(after[name], leaf) for name, leaf in rules.flatten(variables["batch_stats"]).items())
  assert all(np.any(gradient) for gradient in gradients.values())


def test_bfloat16_is_close_to_float32(tiny):
  (variables, apply), frames = tiny, _frames(40, 65)
  exact = apply(variables, frames)
  rounded = jax.jit(ResNet(ResNetConfig(**TINY), jnp.bfloat16).apply)(variables, frames)
  assert rounded["tokens"].dtype == jnp.float32
  assert 0 < _error(rounded["tokens"], exact["tokens"]) < 3e-2


HUB = {
  "model_type": "resnet",
  "num_channels": 3,
  "embedding_size": 64,
  "hidden_sizes": [64, 128, 256, 512],
  "depths": [2, 2, 2, 2],
  "layer_type": "basic",
  "hidden_act": "relu",
  "downsample_in_first_stage": False,
  "downsample_in_bottleneck": False,
}


def test_sizes_come_from_the_hub_config():
  assert ResNetConfig(image_size=160).with_hub_config(HUB) == ResNetConfig(image_size=160, **RESNET18)
  assert ResNetConfig(**RESNET18).with_hub_config({"model_type": "resnet"}) == ResNetConfig()  # their defaults


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"model_type": "regnet"}, "config.json is of a 'regnet', not of a 'resnet'; name its backbone."),
    ({"downsample_in_bottleneck": True}, "a 'resnet' with downsample_in_bottleneck = True; only downsample_in_bott"),
    ({"downsample_in_first_stage": True}, "a 'resnet' with downsample_in_first_stage = True; only"),
    ({"hidden_act": "gelu", "num_channels": 1}, "with num_channels = 1, hidden_act = 'gelu'; only num_channels = 3"),
    ({"depths": [3, 4, 6]}, "a ResNet that is not built here: .* semantic.blocks 3 entries: the network has 4 stages."),
    ({"depths": "many"}, "not built here: config.blocks = 'many' is of type str; a tuple is needed."),
    ({"layer_type": "conv"}, "config.block = 'conv' is not one of 'bottleneck', 'basic'."),
  ],
)
def test_other_kinds_of_resnet_are_refused(changed, message):
  with pytest.raises(WeightsError, match=message):
    ResNetConfig().with_hub_config(HUB | changed)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"widths": (8, 8, 8)}, "semantic.widths has 3 and semantic.blocks 4 entries: the network has 4 stages."),
    ({"widths": (8, 8, 8, 10)}, "a bottleneck has a quarter of its width inside; use multiples of 4."),
    ({"frozen_stages": 5}, "semantic.frozen_stages = 5: the network has 4 stages; use 0 to 4."),
    ({"frozen_stages": -1}, "semantic.frozen_stages = -1: the network has 4 stages; use 0 to 4."),
    ({"blocks": (3, 0, 6, 3)}, "has the sizes .*: all must be at least 1."),
    ({"classes": -1}, "semantic.classes = -1 is negative; use 0 for no classifier."),
  ],
)
def test_impossible_sizes_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    ResNetConfig(**fields)


@pytest.mark.torch
@pytest.mark.parametrize("classifier", [False, True])
def test_transformers_gives_the_same_features_from_its_own_folder(tmp_path, classifier):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  torch.manual_seed(0)
  # The classifier is tried on a smaller network, whose sizes are read from config.json.
  sizes = {"hidden_sizes": [16, 32, 64, 128], "depths": [1, 2, 1, 1], "layer_type": "basic", "num_labels": 7}
  if classifier:
    theirs = transformers.ResNetForImageClassification(transformers.ResNetConfig(embedding_size=16, **sizes))
  else:
    theirs = transformers.ResNetModel(transformers.ResNetConfig())
  for name, buffer in theirs.named_buffers():  # statistics as after some training
    if name.endswith("running_mean"):
      buffer.normal_(0, 0.1)
    elif name.endswith("running_var"):
      buffer.uniform_(0.5, 1.5)
  theirs.eval().save_pretrained(tmp_path)
  x = _frames(64, 96)[:1]
  with torch.no_grad():
    answers = theirs(torch.from_numpy(x[0].transpose(0, 3, 1, 2).copy()), output_hidden_states=True)
  outputs = network.load("resnet50", tmp_path).forward(x)
  last = answers.hidden_states[-1].numpy()
  assert _error(outputs["tokens"][0], last.reshape(*last.shape[:2], -1).transpose(0, 2, 1)) < 1e-5
  assert _error(outputs["pooled"][0], last.mean((2, 3))) < 1e-5
  if classifier:
    assert _error(outputs["logits"][0], answers.logits.numpy()) < 1e-5
