"""DINOv2: exact sizes, the published numbers at any grid of patches, and what its config.json may say."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast import features
from gasmcast.core import rules
from gasmcast.core.errors import ConfigError, DataError, WeightsError
from gasmcast.features.dinov2 import DINOv2, DINOv2Config
from tests.features import torch_vit
from tests.golden import make_vit

TINY = DINOv2Config(16, 1, 2, 32, patch=4, registers=2, antialias=True, position_grid=6, image_size=16)
PUBLISHED = {"image_size": 518, "patch_size": 14}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
SIZES = {  # as config.json of the Hub has them, beside PUBLISHED
  "dinov2_vits14": {"hidden_size": 384, "num_attention_heads": 6},
  "dinov2_vitb14": {},
  "dinov2_vitl14": LARGE,
  "dinov2_vits14_reg": {"hidden_size": 384, "num_attention_heads": 6},
  "dinov2_vitb14_reg": {},
  "dinov2_vitl14_reg": LARGE,
}
AUTHORS = {  # what is called so in the Hub's files -> in the authors'
  "embeddings.position_embeddings": "pos_embed",
  "embeddings.patch_embeddings.projection": "patch_embed.proj",
  "embeddings.": "",
  "encoder.layer.": "blocks.",
  "attention.output.dense": "attn.proj",
  "layer_scale1.lambda1": "ls1.gamma",
  "layer_scale2.lambda1": "ls2.gamma",
  "layernorm.": "norm.",
}


def _frames(height=16, width=16):
  return jnp.float32(np.random.default_rng(0).standard_normal((2, 3, height, width, 3)))


def _error(ours, reference):
  """The largest, relative to the largest value."""
  return float(np.abs(np.asarray(ours, np.float32) - reference).max() / np.abs(reference).max())


def _golden_tensors(model):
  with np.load(make_vit.FILE) as golden:
    shapes = json.loads(str(golden[f"{model}/shapes"]))
  return {name: make_vit.draw(name, tuple(shape)) for name, shape in shapes.items()}


@pytest.fixture(scope="module", params=["dinov2", "dinov2_reg"])
def golden_net(request, tmp_path_factory):
  """(name of the model, the network); the folder's config.json says whether there are registers."""
  folder = tmp_path_factory.mktemp(request.param)
  shapes = {name: tensor.shape for name, tensor in _golden_tensors(request.param).items()}
  make_vit.write_folder(folder, request.param, shapes)
  return request.param, features.load("dinov2_vits14", folder)


@pytest.fixture(scope="module")
def tiny():
  """(variables, compiled apply) of the tiny network."""
  net = DINOv2(TINY)
  return jax.jit(net.init)(jax.random.key(0), _frames()), jax.jit(net.apply)


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name):
  """A name and the config.json of the Hub give the same network. The published counts hold a mask token of one width
  that inference does not use."""
  backbone = features.BACKBONES[name]
  kind = "dinov2_with_registers" if name.endswith("_reg") else "dinov2"
  assert DINOv2Config().with_hub_config({"model_type": kind} | PUBLISHED | SIZES[name]) == backbone.config
  clip = jax.ShapeDtypeStruct((1, 1, 28, 28, 3), jnp.float32)
  variables = jax.eval_shape(DINOv2(backbone.config).init, jax.random.key(0), clip)
  assert (
    sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == backbone.parameters - backbone.config.width
  )
  assert variables["params"]["position_embeddings"].shape[0] == 1370


@pytest.mark.parametrize("clip", make_vit.CLIPS)
def test_answers_are_those_of_the_published_code(golden_net, clip):
  """On the grid of the position embeddings, on a smaller one and on one that is not square."""
  model, net = golden_net
  outputs = net.forward(make_vit.frames(model, clip))
  with np.load(make_vit.FILE) as golden:
    expected = golden[f"{model}/{clip}"]
  ours = np.concatenate([outputs["cls"][:, :, None], outputs["registers"], outputs["tokens"]], 2)
  assert outputs["registers"].shape[2] == (3 if model == "dinov2_reg" else 0)
  assert ours.shape == expected.shape
  assert _error(ours, expected) < 1e-5


def test_bfloat16_is_close_to_float32(golden_net):
  model, net = golden_net
  frames = make_vit.frames(model, "smaller")
  exact, rounded = net.forward(frames), dataclasses.replace(net, dtype="bfloat16").forward(frames)
  for output in ("cls", "tokens"):
    assert rounded[output].dtype == jnp.float32
    assert 0 < _error(rounded[output], np.asarray(exact[output])) < 3e-2, output


@pytest.mark.parametrize("model", ["dinov2", "dinov2_reg"])
def test_the_authors_own_files_give_the_same_variables(model):
  """Queries, keys and values are one tensor there."""
  hub, theirs = _golden_tensors(model), {}
  for name, tensor in hub.items():
    for old, new in AUTHORS.items():
      name = name.replace(old, new)
    theirs[name] = tensor
  for block in ("blocks.0.", "blocks.1."):
    for part in ("weight", "bias"):
      qkv = [theirs.pop(f"{block}attention.attention.{name}.{part}") for name in ("query", "key", "value")]
      theirs[f"{block}attn.qkv.{part}"] = np.concatenate(qkv)
  assert {"cls_token", "mask_token", "pos_embed", "blocks.1.mlp.fc1.weight", "norm.weight"} <= theirs.keys()
  name = "dinov2_vits14_reg" if model == "dinov2_reg" else "dinov2_vits14"
  sizes = {"width": 32, "depth": 2, "heads": 2, "mlp_width": 64, "patch": 7, "position_grid": 5}
  if model == "dinov2_reg":
    sizes["registers"] = 3
  ours, authors = (rules.flatten(features.convert(name, tensors, **sizes)) for tensors in (hub, theirs))
  assert ours.keys() == authors.keys()
  for path, value in ours.items():
    np.testing.assert_array_equal(value, authors[path], err_msg=path)


def test_registers_in_the_file_of_a_network_without_are_refused():
  sizes = {"width": 32, "depth": 2, "heads": 2, "mlp_width": 64, "patch": 7, "position_grid": 5}
  with pytest.raises(WeightsError, match=r"embeddings.register_tokens \[1, 3, 32\] \(for params/register_tokens"):
    features.convert("dinov2_vits14", _golden_tensors("dinov2_reg"), **sizes)


def test_tokens_are_class_registers_and_patches_of_each_frame(tiny):
  variables, apply = tiny
  outputs = apply(variables, _frames(16, 24))
  assert outputs["tokens"].shape == (2, 3, 24, 16)
  assert outputs["cls"].shape == (2, 3, 16)
  assert outputs["registers"].shape == (2, 3, 2, 16)


def test_frames_are_independent_of_each_other(tiny):
  variables, apply = tiny
  frames = _frames(16, 24)
  changed = apply(variables, frames.at[:, 1].set(0.0))["tokens"]
  np.testing.assert_allclose(changed[:, ::2], apply(variables, frames)["tokens"][:, ::2], atol=1e-6)


def test_position_embeddings_are_trained_at_another_grid(tiny):
  """6 x 6 are stored, 4 x 4 are used: every one of them has a gradient, the class token's too."""
  variables, _ = tiny
  weight = jnp.float32(np.random.default_rng(1).standard_normal(16))
  loss = lambda params: sum(
    (leaf @ weight).sum() for leaf in DINOv2(TINY).apply({"params": params}, _frames()).values()
  )
  gradient = jax.jit(jax.grad(loss))(variables["params"])["position_embeddings"]
  assert gradient.shape == (37, 16)
  assert float(jnp.abs(gradient).max(1).min()) > 1e-4


def test_frames_that_do_not_divide_into_patches_are_refused():
  with pytest.raises(DataError, match="18 x 16 pixels do not divide into patches of 4; .* to 16 x 16"):
    TINY.check_frames(3, 18, 16)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"width": 12, "heads": 5}, "semantic.width = 12 is not a multiple of heads = 5"),
    ({"image_size": 225}, "semantic.image_size = 225 is not a multiple of the patch size 14"),
    ({"depth": 0}, "semantic.depth = 0: it must be at least 1"),
    ({"registers": -1}, "semantic.registers = -1: it must be at least 0"),
  ],
)
def test_impossible_sizes_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    DINOv2Config(**fields)


def test_a_missing_key_of_config_json_has_the_default_of_transformers():
  """Its classes are a B for 224 pixels: 14 a patch without registers, 16 with them."""
  read = DINOv2Config().with_hub_config
  assert read({"model_type": "dinov2"}) == DINOv2Config(position_grid=16)
  with_registers = DINOv2Config(patch=16, registers=4, antialias=True, position_grid=14)
  assert read({"model_type": "dinov2_with_registers"}) == with_registers


@pytest.mark.parametrize(
  ("values", "message"),
  [
    (
      {"model_type": "dinov3_vit"},
      "is of a 'dinov3_vit', not of a 'dinov2' or 'dinov2_with_registers'; name its backbone",
    ),
    (
      {"use_swiglu_ffn": True},
      "of a 'dinov2' with use_swiglu_ffn = True; only use_swiglu_ffn = False is built here. Use weights made so",
    ),
    ({"qkv_bias": False}, "with qkv_bias = False; only qkv_bias = True is built here"),
    ({"hidden_act": "relu"}, "with hidden_act = 'relu'; only hidden_act = 'gelu' is built here"),
    ({"layer_norm_eps": 1e-5}, "with layer_norm_eps = 1e-05; only layer_norm_eps = 1e-06 is built here"),
    ({"mlp_ratio": "4"}, "mlp_ratio = '4', which is no float"),
    ({"image_size": [518, 224]}, "image_size = \\[518, 224\\], which is no int"),
  ],
)
def test_what_is_not_built_here_is_refused(values, message):
  with pytest.raises(WeightsError, match=message):
    DINOv2Config().with_hub_config({"model_type": "dinov2"} | values)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["dinov2", "dinov2_with_registers"])
def test_answers_equal_those_of_transformers(kind, tmp_path):
  """On the stored grid of 9 x 9, on a larger and a smaller one, and on one that is not square."""
  pytest.importorskip("transformers")
  pytest.importorskip("torch")
  sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "mlp_ratio": 3}
  sizes |= {"image_size": 126, "patch_size": 14}
  clips = [(126, 126), (224, 224), (70, 70), (84, 168)]
  errors = torch_vit.errors("dinov2_vits14", kind, sizes, clips, tmp_path)
  assert max(errors.values()) < 1e-5, errors


@pytest.mark.network
def test_the_published_small_network_gives_the_known_class_token(shared_data):
  """Of a 518 x 518 image of noise. Downloads the weights."""
  with np.load(shared_data / "golden" / "dinov2_vits14_reg_reference.npz") as reference:
    image, expected = reference["img"], reference["cls_token"]
  outputs = features.load("dinov2_vits14_reg").forward(np.moveaxis(image, 0, -1)[None, None])
  assert _error(outputs["cls"][0, 0], expected) < 1e-3
