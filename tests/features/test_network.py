"""`features.load` gives one network however its weights come, and tells what is wrong with weights and frames."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from gasmcast import features
from gasmcast.core.errors import ConfigError, DataError, WeightsError
from gasmcast.features import network
from gasmcast.features.backbones import BACKBONES, Backbone
from gasmcast.features.dinov3 import DINOv3Config
from gasmcast.features.preprocessing import IMAGENET, prepare
from gasmcast.features.r3d import R3DConfig
from gasmcast.features.weights.sources import Hub

TINY = DINOv3Config(width=16, depth=1, heads=2, mlp_width=24, patch=4, image_size=8, registers=1)
R3D_TINY = R3DConfig(widths=(4, 4, 4, 4), blocks=(1, 1, 1, 1), image_size=16)


def vit_tensors(config: DINOv3Config, seed: int = 0) -> dict[str, np.ndarray]:
  """A DINOv3 of one layer in the names and layouts of its file, random everywhere."""
  width, mlp = config.width, config.mlp_width
  shapes = {
    "embeddings.cls_token": (1, 1, width),
    "embeddings.mask_token": (1, 1, width),
    "embeddings.register_tokens": (1, config.registers, width),
    "embeddings.patch_embeddings.weight": (width, 3, config.patch, config.patch),
    "embeddings.patch_embeddings.bias": (width,),
    "layer.0.attention.k_proj.weight": (width, width),
    "layer.0.mlp.up_proj.weight": (mlp, width),
    "layer.0.mlp.up_proj.bias": (mlp,),
    "layer.0.mlp.down_proj.weight": (width, mlp),
    "layer.0.mlp.down_proj.bias": (width,),
  }
  for name in ("q_proj", "v_proj", "o_proj"):
    shapes |= {f"layer.0.attention.{name}.weight": (width, width), f"layer.0.attention.{name}.bias": (width,)}
  for name in ("norm", "layer.0.norm1", "layer.0.norm2"):
    shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
  shapes |= {f"layer.0.layer_scale{i}.lambda1": (width,) for i in (1, 2)}
  rng = np.random.default_rng(seed)
  return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def r3d_tensors(classes: int = 5) -> dict[str, np.ndarray]:
  """The tiny R3D with a classifier in torchvision's names."""
  shapes = {"stem.0.weight": (4, 3, 3, 7, 7), "fc.weight": (classes, 4), "fc.bias": (classes,)}
  norms = ["stem.1"]
  for stage in range(1, 5):
    shapes |= {f"layer{stage}.0.conv{i}.0.weight": (4, 4, 3, 3, 3) for i in (1, 2)}
    norms += [f"layer{stage}.0.conv{i}.1" for i in (1, 2)]
    if stage > 1:
      shapes[f"layer{stage}.0.downsample.0.weight"] = (4, 4, 1, 1, 1)
      norms.append(f"layer{stage}.0.downsample.1")
  shapes |= {f"{norm}.{name}": (4,) for norm in norms for name in ("weight", "bias", "running_mean", "running_var")}
  rng = np.random.default_rng(0)
  tensors = {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}
  return tensors | {f"{norm}.num_batches_tracked": np.array(9) for norm in norms}


HUB_CONFIG = {
  "model_type": "dinov3_vit",
  "hidden_size": 16,
  "num_hidden_layers": 1,
  "num_attention_heads": 2,
  "intermediate_size": 24,
  "patch_size": 4,
  "num_register_tokens": 1,
  "use_gated_mlp": False,
}
VIT = vit_tensors(TINY)
PARAMETERS = sum(tensor.size for tensor in VIT.values()) - 16  # the mask token is for pretraining only


@pytest.fixture(autouse=True, scope="module")
def tables():
  """Two sizes of a tiny ViT and a tiny R3D among the backbones."""
  twice = dataclasses.replace(TINY, width=32)
  rows = {
    "tiny": Backbone("dinov3", TINY, Hub("made/tiny"), PARAMETERS),
    "tiny_twice": Backbone("dinov3", twice, Hub("made/twice"), sum(t.size for t in vit_tensors(twice).values())),
    "r3d_tiny": Backbone("r3d", R3D_TINY, Hub("made/r3d"), 4 * 3 * 147 + 8 * 432 + 3 * 16 + 2 * 4 * 12),
  }
  with pytest.MonkeyPatch.context() as patch:
    for name, row in rows.items():
      patch.setitem(BACKBONES, name, row)
    yield


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp("net") / "net.safetensors"
  safetensors.numpy.save_file(VIT, path)
  return path


@pytest.fixture(scope="module")
def net(tables, file):
  return features.load("tiny", file)


@pytest.fixture(scope="module")
def frames():
  return np.random.default_rng(1).integers(0, 256, (1, 2, 8, 8, 3), np.uint8)


def write_folder(folder, tensors, config=None):
  safetensors.numpy.save_file(tensors, folder / "model.safetensors")
  if config is not None:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
  return folder


def refusal(error, call, *arguments, **options) -> str:
  with pytest.raises(error) as caught:
    call(*arguments, **options)
  assert "\n" not in str(caught.value)
  return str(caught.value)


# Weights


def test_a_network_is_the_same_however_its_weights_come(net, tmp_path):
  write_folder(tmp_path, VIT, HUB_CONFIG)
  net.save(tmp_path / "ours.safetensors")
  doubled = {name: tensor.astype(np.float64) for name, tensor in VIT.items()}
  safetensors.numpy.save_file(dict(reversed(doubled.items())), tmp_path / "doubled.safetensors")
  for weights in (tmp_path, tmp_path / "ours.safetensors", tmp_path / "doubled.safetensors"):
    again = features.load("tiny", weights)
    assert again.fingerprint == net.fingerprint and again.config == net.config and again.origin == str(weights)
  converted = features.convert("tiny", VIT)
  assert dataclasses.replace(net, variables=converted).fingerprint == net.fingerprint
  other = vit_tensors(TINY) | {"norm.bias": VIT["norm.bias"] + np.float32(1e-7)}
  assert dataclasses.replace(net, variables=features.convert("tiny", other)).fingerprint != net.fingerprint


def test_a_saved_network_keeps_its_sizes_and_options(tmp_path):
  """Sizes from config.json and options of the caller, neither of which the name alone would give again."""
  small = vit_tensors(dataclasses.replace(TINY, width=8))
  net = features.load("tiny", write_folder(tmp_path, small, HUB_CONFIG | {"hidden_size": 8}), image_size=12)
  assert (net.config.width, net.config.image_size) == (8, 12)
  net.save(tmp_path / "ours")
  again = features.load("tiny", tmp_path / "ours")
  assert again.config == net.config and again.fingerprint == net.fingerprint
  assert features.load("tiny", tmp_path / "ours", image_size=16).config.image_size == 16
  assert refusal(WeightsError, features.load, "tiny_twice", tmp_path / "ours") == (
    f"{tmp_path / 'ours'} was saved from tiny, not from tiny_twice: use features.load('tiny', ...)."
  )


def test_a_network_that_cannot_be_saved_is_told(net, tmp_path):
  (tmp_path / "folder").mkdir()
  assert (
    refusal(WeightsError, net.save, tmp_path / "folder") == f"{tmp_path / 'folder'} can't be written: Is a directory."
  )


def test_the_classifier_of_the_file_is_used_where_the_mode_has_one(tmp_path):
  native = features.convert("r3d_tiny", r3d_tensors(), mode="native")
  assert native["params"]["logits"]["kernel"].shape == (4, 5)
  assert "logits" not in features.convert("r3d_tiny", r3d_tensors())["params"]
  safetensors.numpy.save_file(r3d_tensors(), tmp_path / "r3d.safetensors")
  net = features.load("r3d_tiny", tmp_path / "r3d.safetensors", mode="native")
  assert net.config.classes == 5 and net.config.mode == "native"
  np.testing.assert_array_equal(net.variables["params"]["logits"]["bias"], r3d_tensors()["fc.bias"])
  headless = {name: tensor for name, tensor in r3d_tensors().items() if not name.startswith("fc.")}
  assert "logits" not in features.convert("r3d_tiny", headless, mode="native")["params"]
  net.save(tmp_path / "ours.safetensors")
  assert features.load("r3d_tiny", tmp_path / "ours.safetensors").config == net.config


def test_weights_of_another_size_are_recognised(tmp_path):
  path = tmp_path / "twice.safetensors"
  safetensors.numpy.save_file(vit_tensors(dataclasses.replace(TINY, width=32)), path)
  message = refusal(WeightsError, features.load, "tiny", path)
  assert message.startswith(f"{path} does not fit tiny: ")
  assert "embeddings.cls_token is [1, 1, 32], which becomes [1, 32], but params/cls_token is [1, 16]" in message
  assert message.endswith(
    "They are those of tiny_twice: use features.load('tiny_twice', ...), or get the weights of tiny."
  )


def test_weights_of_another_network_are_recognised(tmp_path):
  message = refusal(WeightsError, features.convert, "r3d_tiny", VIT)
  assert "are unknown: embeddings.cls_token [1, 1, 16], " in message and "variables are missing: " in message
  assert message.endswith("They are those of tiny: use features.load('tiny', ...), or get the weights of r3d_tiny.")
  unlike = {name: np.ones((3, 3), np.float32) for name in VIT}
  message = refusal(WeightsError, features.convert, "r3d_tiny", unlike)
  assert "The names are those of dinov3_vits16 or " in message
  nobody = {f"x{i}": np.ones(3) for i in range(3)}
  assert refusal(WeightsError, features.convert, "tiny", nobody).endswith("or get the weights of this one.")


def test_a_file_with_a_part_missing_is_told(net):
  part = {name: tensor for name, tensor in VIT.items() if "k_proj" not in name}
  assert "params/block_0/attention/qkv_kernel [16, 48] (2 parts are there of 3)" in refusal(
    WeightsError, features.convert, "tiny", part
  )


@pytest.mark.parametrize("wrong", [[np.ones(3)], "net.safetensors", None, {3: np.ones(3)}])
def test_convert_takes_a_mapping(wrong):
  assert refusal(WeightsError, features.convert, "tiny", wrong).startswith(
    f"features.convert takes a mapping from names to arrays, this is a {type(wrong).__name__}; files"
  )


@pytest.mark.parametrize(
  ("config", "message"),
  [
    ("{", "config.json is not valid JSON"),
    ([1], "config.json holds a list, not an object with named values; get it again."),
    (HUB_CONFIG | {"model_type": "vit"}, "{folder}: config.json is of a 'vit', not of a 'dinov3_vit'"),
    (HUB_CONFIG | {"hidden_size": "16"}, "{folder}: config.json has hidden_size = '16'"),
    (
      HUB_CONFIG | {"num_attention_heads": 3},
      "{folder}: its sizes are not those of a tiny: semantic.width = 16 and heads",
    ),
    (HUB_CONFIG | {"hidden_size": 8}, "{folder} does not fit tiny: "),
  ],
)
def test_a_config_that_does_not_fit_is_told(tmp_path, config, message):
  write_folder(tmp_path, VIT, config)
  assert message.format(folder=tmp_path) in refusal(WeightsError, features.load, "tiny", tmp_path)


def test_a_key_that_a_config_lacks_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(DINOv3Config, "with_hub_config", lambda self, values: {}["hidden_size"])
  write_folder(tmp_path, VIT, HUB_CONFIG)
  assert refusal(WeightsError, features.load, "tiny", tmp_path) == (
    f"{tmp_path}: config.json has no 'hidden_size'; get it again, or use other weights."
  )


def test_unknown_names_options_and_types_are_told(file):
  assert "'dinov9' is no backbone; use one of dinov3_vits16, " in refusal(ConfigError, features.load, "dinov9", file)
  assert "'dinov9' is no backbone" in refusal(ConfigError, features.convert, "dinov9", VIT)
  assert "tiny.mode is not a field" in refusal(ConfigError, features.load, "tiny", file, mode="native")
  assert "tiny.image_size = '8' is of type str" in refusal(ConfigError, features.load, "tiny", file, image_size="8")
  assert refusal(ConfigError, features.load, "tiny", file, dtype="float16") == (
    "dtype = 'float16': use 'float32' or 'bfloat16'."
  )


# The network


def test_a_network_is_shown_in_a_line(net, file):
  assert repr(net) == f"Network('tiny', float32, {PARAMETERS:,} parameters from {file})"
  assert net == net and net != dataclasses.replace(net) and len({net, net}) == 1


def test_bytes_are_prepared_inside(net, frames):
  """Also of another size than the network's own."""
  for clip in (frames, np.random.default_rng(2).integers(0, 256, (1, 2, 20, 12, 3), np.uint8)):
    outputs, expected = net(clip), net.forward(prepare(jnp.asarray(clip), 8, IMAGENET))
    assert {name: leaf.shape for name, leaf in outputs.items()} == {
      "tokens": (1, 2, 4, 16),
      "cls": (1, 2, 16),
      "registers": (1, 2, 1, 16),
    }
    for name, leaf in outputs.items():
      np.testing.assert_allclose(leaf, expected[name], rtol=1e-4, atol=1e-4)


class FromElsewhere:
  """An array of another library."""

  def __init__(self, array):
    self.array = array

  def __array__(self, dtype=None, copy=None):
    return self.array


def test_frames_may_be_any_kind_of_array(net, frames):
  expected = net(frames)["cls"]
  frozen = frames.copy()
  frozen.setflags(write=False)
  for same in (frozen, jnp.asarray(frames), np.asfortranarray(frames), FromElsewhere(frames)):
    np.testing.assert_array_equal(net(same)["cls"], expected)


def test_floats_of_any_width_are_computed_in_float32(net):
  x = np.float16(np.random.default_rng(1).standard_normal((1, 2, 8, 8, 3)))
  expected = net.forward(x)["cls"]
  assert expected.dtype == jnp.float32
  for same in (x.astype(np.float64), x.astype(">f4"), jnp.asarray(x), jnp.asarray(x, jnp.float32)):
    np.testing.assert_array_equal(net.forward(same)["cls"], expected)


def test_bfloat16_changes_the_arithmetic_and_not_the_weights(net, file, frames):
  half = features.load("tiny", file, dtype="bfloat16")
  assert half.fingerprint == net.fingerprint
  assert {leaf.dtype for leaf in jax.tree.leaves(half.variables)} == {jnp.dtype("float32")}
  exact, rough = net(frames)["tokens"], half(frames)["tokens"].astype(jnp.float32)
  error = np.abs(exact - rough).max() / np.abs(exact).max()
  assert 1e-5 < error < 0.05


def test_a_network_can_be_traced(net):
  x = jnp.ones((1, 2, 8, 8, 3))
  assert jax.eval_shape(lambda x: net.forward(x)["cls"], x).shape == (1, 2, 16)
  assert jax.eval_shape(jax.grad(lambda x: net.forward(x)["cls"].sum()), x).shape == x.shape


def test_a_random_network_is_the_same_every_time(net):
  first, second = features.load("tiny", "random"), features.load("tiny", network.RANDOM)
  assert first.fingerprint == second.fingerprint != net.fingerprint
  assert first.origin == "random"


RULE = "net(frames) takes uint8 RGB frames; frames already normalised go to net.forward"


@pytest.mark.parametrize(
  ("clip", "message"),
  [
    (np.zeros((1, 2, 8, 8, 3), np.float32), f"{RULE}; these are float32."),
    (np.zeros((1, 2, 8, 8, 3), np.int64), f"{RULE}; these are int64."),
    (np.zeros((1, 2, 8, 8, 3), bool), f"{RULE}; these are bool."),
    ([[0]], f"{RULE}; this is a list. Give an array [B, T, H, W, 3]."),
    (None, f"{RULE}; this is a NoneType. Give an array [B, T, H, W, 3]."),
    (np.zeros((2, 8, 8, 3), np.uint8), "these have [2, 8, 8, 3]. There is no axis for the clips: give frames[None]."),
    (
      np.zeros((1, 2, 3, 8, 8), np.uint8),
      "these have [1, 2, 3, 8, 8]. The channels stand on axis 2: give np.moveaxis(frames, 2, -1).",
    ),
    (
      np.zeros((1, 3, 2, 8, 8), np.uint8),
      "these have [1, 3, 2, 8, 8]. The channels stand on axis 1: give np.moveaxis(frames, 1, -1).",
    ),
    (np.zeros((1, 2, 8, 8, 4), np.uint8), "frames have the shape [B, T, H, W, 3]; these have [1, 2, 8, 8, 4]."),
    (np.zeros((8, 8), np.uint8), "frames have the shape [B, T, H, W, 3]; these have [8, 8]."),
    (np.zeros((0, 2, 8, 8, 3), np.uint8), "frames of the shape [0, 2, 8, 8, 3] hold nothing."),
    (np.zeros((1, 2, 0, 8, 3), np.uint8), "frames of the shape [1, 2, 0, 8, 3] hold nothing."),
  ],
)
def test_frames_of_another_kind_are_told(net, clip, message):
  assert refusal(DataError, net, clip).endswith(message)


def test_normalised_frames_of_another_kind_are_told(net):
  assert refusal(DataError, net.forward, np.zeros((1, 2, 8, 8, 3), np.uint8)) == (
    "net.forward(x) takes normalised floating point frames; uint8 frames go to net(frames); these are uint8."
  )
  assert "9 x 8" in refusal(DataError, net.forward, np.zeros((1, 2, 9, 8, 3), np.float32))


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_frames_that_are_not_finite_are_told(net, kind):
  x = np.zeros((2, 3, 8, 8, 3))
  x[1, 2, 3, 4, 0] = np.nan
  assert refusal(DataError, net.forward, kind(x)) == (
    "x holds 1 value that is NaN or infinite, of 1152, the first in clip 1, frame 2; find where it comes from."
  )
  x[0, 1] = np.inf
  assert "x holds 193 values that are NaN or infinite, of 1152, the first in clip 0, frame 1" in refusal(
    DataError, net.forward, kind(x)
  )


def test_values_beyond_float32_are_told(net):
  assert "x holds 192 values that are NaN or inf" in refusal(DataError, net.forward, np.full((1, 1, 8, 8, 3), 1e300))


def test_torch_is_not_imported_with_the_library():
  code = (
    "import sys, gasmcast.features.network, gasmcast.features.weights.pytorch_files\nsys.exit('torch' in sys.modules)"
  )
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rounding_the_kernels_once_gives_what_rounding_them_in_every_call_gives():
  net = features.load("dinov3_vits16", "random", dtype="bfloat16", width=16, depth=1, heads=2, mlp_width=32)
  x = np.float32(np.random.default_rng(0).standard_normal((1, 1, 32, 48, 3)))
  expected = jax.jit(net.module.apply)(net.variables, x)
  for name, leaf in net.forward(x).items():
    np.testing.assert_array_equal(leaf, expected[name])
