"""DINOv3: exact sizes, the published numbers, token layout, and what its rotary codes may and may not change."""

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
from gasmcast.features.dinov3 import DINOv3, DINOv3Config, rope_angles, rotate
from tests.features import torch_vit
from tests.golden import make_vit

TINY = DINOv3Config(width=16, depth=2, heads=2, mlp_width=32, patch=4, image_size=16)
GATED = {"use_gated_mlp": True, "hidden_act": "silu"}
SIZES = {  # as config.json of the Hub has them; "num_register_tokens" stands in all
  "dinov3_vits16": {},
  "dinov3_vits16plus": GATED,
  "dinov3_vitb16": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
  "dinov3_vitl16": {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
  },
  "dinov3_vith16plus": {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "intermediate_size": 5120,
    **GATED,
  },
}
AUTHORS = {  # what is called so in the Hub's files -> in the authors'
  "embeddings.cls_token": "cls_token",
  "embeddings.mask_token": "mask_token",
  "embeddings.register_tokens": "storage_tokens",
  "embeddings.patch_embeddings": "patch_embed.proj",
  "layer.": "blocks.",
  "attention.o_proj": "attn.proj",
  "layer_scale1.lambda1": "ls1.gamma",
  "layer_scale2.lambda1": "ls2.gamma",
}


def _frames(height=16, width=16):
  return jnp.float32(np.random.default_rng(0).standard_normal((2, 3, height, width, 3)))


def _error(ours, reference):
  """The largest, relative to the largest value."""
  return float(np.abs(np.asarray(ours, np.float32) - reference).max() / np.abs(reference).max())


def _golden_shapes(model):
  with np.load(make_vit.FILE) as golden:
    return json.loads(str(golden[f"{model}/shapes"]))


def _load(model, folder):
  make_vit.write_folder(folder, model, _golden_shapes(model))
  return features.load("dinov3_vits16", folder)


@pytest.fixture(scope="module", params=["dinov3", "dinov3_gated"])
def golden_net(request, tmp_path_factory):
  """(name of the model, the network)."""
  return request.param, _load(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name):
  """A name and the config.json of the Hub give the same network. The published counts hold a mask token of one width
  that inference does not use."""
  backbone = features.BACKBONES[name]
  hub = {"model_type": "dinov3_vit", "num_register_tokens": 4} | SIZES[name]
  assert DINOv3Config().with_hub_config(hub) == backbone.config
  clip = jax.ShapeDtypeStruct((1, 1, 32, 32, 3), jnp.float32)
  variables = jax.eval_shape(DINOv3(backbone.config).init, jax.random.key(0), clip)
  assert (
    sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == backbone.parameters - backbone.config.width
  )


@pytest.mark.parametrize("clip", make_vit.CLIPS)
def test_answers_are_those_of_the_published_code(golden_net, clip):
  model, net = golden_net
  frames = make_vit.frames(model, clip)
  outputs = net.forward(frames)
  with np.load(make_vit.FILE) as golden:
    expected = golden[f"{model}/{clip}"]
  ours = np.concatenate([outputs["cls"][:, :, None], outputs["registers"], outputs["tokens"]], 2)
  assert outputs["registers"].shape[2] == 3
  assert ours.shape == expected.shape
  assert _error(ours, expected) < 1e-5


@pytest.mark.parametrize("model", ["dinov3", "dinov3_gated"])
def test_the_authors_own_files_give_the_same_variables(model):
  """Queries, keys and values are one tensor there; the keys' bias is masked; the rotary periods are stored."""
  hub = {name: make_vit.draw(name, tuple(shape)) for name, shape in _golden_shapes(model).items()}
  mlp = {"up_proj": "w2", "gate_proj": "w1", "down_proj": "w3"} if "gated" in model else {}
  mlp = mlp or {"up_proj": "fc1", "down_proj": "fc2"}
  theirs = {"rope_embed.periods": np.ones(4, np.float32)}
  for name, tensor in hub.items():
    for old, new in (AUTHORS | mlp).items():
      name = name.replace(old, new)
    theirs[name] = tensor
  for block in ("blocks.0.attention.", "blocks.1.attention."):
    theirs[block + "k_proj.bias"] = np.full(32, 7, np.float32)
    for part in ("weight", "bias"):
      qkv = [theirs.pop(f"{block}{name}_proj.{part}") for name in "qkv"]
      theirs[block.replace("attention", "attn") + f"qkv.{part}"] = np.concatenate(qkv)
    theirs[block.replace("attention", "attn") + "qkv.bias_mask"] = np.full(96, np.nan, np.float32)
  theirs["mask_token"] = theirs["mask_token"][0]
  sizes = {"width": 32, "depth": 2, "heads": 2, "mlp_width": 48, "patch": 8, "registers": 3}
  convert = lambda tensors: rules.flatten(
    features.convert("dinov3_vits16", tensors, gated_mlp="gated" in model, **sizes)
  )
  ours, authors = convert(hub), convert(theirs)
  assert ours.keys() == authors.keys()
  for path, value in ours.items():
    np.testing.assert_array_equal(value, authors[path], err_msg=path)


def test_names_in_memory_differ_from_those_of_the_files_by_a_prefix(tmp_path):
  net = _load("dinov3", tmp_path)
  file = {name: make_vit.draw(name, tuple(shape)) for name, shape in _golden_shapes("dinov3").items()}
  memory = {("model." + name if name.startswith("layer.") else name): tensor for name, tensor in file.items()}
  sizes = {"width": 32, "depth": 2, "heads": 2, "mlp_width": 48, "patch": 8, "registers": 3}
  variables = features.convert("dinov3_vits16", memory, **sizes)
  jax.tree.map(np.testing.assert_array_equal, variables, net.variables)


def test_bfloat16_is_close_to_float32(golden_net):
  model, net = golden_net
  frames = make_vit.frames(model, "native")
  exact, rounded = net.forward(frames), dataclasses.replace(net, dtype="bfloat16").forward(frames)
  for output, value in exact.items():
    assert rounded[output].dtype == jnp.float32
    assert 0 < _error(rounded[output], np.asarray(value)) < 3e-2, output


@pytest.fixture(scope="module")
def tiny():
  """(variables, compiled apply) of the tiny network."""
  net = DINOv3(TINY)
  return jax.jit(net.init)(jax.random.key(0), _frames()), jax.jit(net.apply)


def test_tokens_are_class_registers_and_patches_of_each_frame(tiny):
  variables, apply = tiny
  outputs = apply(variables, _frames(16, 24))
  assert outputs["tokens"].shape == (2, 3, 24, 16)
  assert outputs["cls"].shape == (2, 3, 16)
  assert outputs["registers"].shape == (2, 3, 4, 16)
  for leaf in outputs.values():  # after a LayerNorm with unit scale
    np.testing.assert_allclose(leaf.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(leaf.std(-1), 1, atol=1e-2)


def test_frames_are_independent_of_each_other(tiny):
  variables, apply = tiny
  frames = _frames(16, 24)
  changed = apply(variables, frames.at[:, 1].set(0.0))["tokens"]
  np.testing.assert_allclose(changed[:, ::2], apply(variables, frames)["tokens"][:, ::2], atol=1e-6)


def test_angles_by_hand():
  """A 1 x 2 grid: row centre 0, column centres -1/2 and 1/2; frequencies 1 and 1/10 for heads of width 8."""
  angles = rope_angles(1, 2, 8)
  expected = [0, 0, -math.pi, -math.pi / 10]
  np.testing.assert_allclose(angles[0], expected * 2, atol=1e-6)
  np.testing.assert_allclose(angles[1], [-a for a in expected] * 2, atol=1e-6)


def test_rotation_keeps_lengths_and_the_prefix():
  x = jnp.float32(np.random.default_rng(0).standard_normal((1, 2, 7, 8)))
  angles = rope_angles(2, 2, 8)
  turned = rotate(x, angles)
  np.testing.assert_array_equal(turned[:, :, :3], x[:, :, :3])
  np.testing.assert_allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)
  c, s = np.cos(angles[0, 0]), np.sin(angles[0, 0])
  np.testing.assert_allclose(turned[0, 0, 3, 0], x[0, 0, 3, 0] * c - x[0, 0, 3, 4] * s, rtol=1e-4, atol=1e-6)


def test_products_of_rotated_vectors_depend_on_the_offset_alone():
  q, k = (jnp.float32(np.random.default_rng(seed).standard_normal((1, 1, 1, 16))) for seed in (0, 1))
  grid = (5, 5)
  angles = rope_angles(*grid, 16)
  rotated = lambda x: rotate(jnp.repeat(x, 25, axis=2), angles)[0, 0].reshape(*grid, 16)
  q, k = rotated(q), rotated(k)
  np.testing.assert_allclose(q[0, 0] @ k[1, 2], q[3, 2] @ k[4, 4], rtol=1e-4)
  assert abs(float(q[0, 0] @ k[1, 2] - q[1, 2] @ k[0, 0])) > 1e-3  # and the offset is signed


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"width": 12, "heads": 2}, "a head's width must be a multiple of 4"),
    ({"image_size": 20, "patch": 16}, "image_size = 20 is not a multiple of the patch size 16"),
    ({"heads": 0}, "semantic.heads = 0: it must be at least 1"),
    ({"registers": -1}, "semantic.registers = -1: it must be at least 0"),
  ],
)
def test_impossible_sizes_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    DINOv3Config(**fields)


def test_frames_that_do_not_divide_into_patches_are_refused():
  with pytest.raises(DataError, match="18 x 16 pixels do not divide into patches of 4"):
    DINOv3(TINY).init(jax.random.key(0), _frames(18, 16))


def test_a_missing_key_of_config_json_has_the_default_of_transformers():
  """Its class is an S/16 without registers."""
  expected = DINOv3Config(width=384, heads=6, mlp_width=1536, registers=0)
  assert DINOv3Config().with_hub_config({"model_type": "dinov3_vit"}) == expected


def test_image_size_shrinks_to_whole_patches():
  config = DINOv3Config().with_hub_config({"model_type": "dinov3_vit", "patch_size": [12, 12]})
  assert (config.patch, config.image_size) == (12, 216)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"model_type": "dinov2"}, "config.json is of a 'dinov2', not of a 'dinov3_vit'; name its backbone"),
    (
      {"query_bias": False, "value_bias": False},
      "with query_bias = False, value_bias = False; only query_bias = True, value_bias = True is built here",
    ),
    ({"key_bias": True}, "with key_bias = True; only key_bias = False is built here"),
    ({"proj_bias": False}, "with proj_bias = False; only proj_bias = True is built here"),
    ({"mlp_bias": False}, "with mlp_bias = False; only mlp_bias = True is built here"),
    ({"hidden_act": "silu"}, "with hidden_act = 'silu'; only hidden_act = 'gelu' is built here"),
    ({"use_gated_mlp": True}, "with hidden_act = 'gelu'; only hidden_act = 'silu' is built here"),
    ({"rope_theta": 10_000.0}, "with rope_theta = 10000.0; only rope_theta = 100.0 is built here"),
    ({"layer_norm_eps": 1e-6}, "with layer_norm_eps = 1e-06; only layer_norm_eps = 1e-05 is built here"),
    ({"num_channels": 4}, "with num_channels = 4; only num_channels = 3 is built here"),
    ({"hidden_size": "wide"}, "hidden_size = 'wide', which is no int: the file is damaged"),
    ({"use_gated_mlp": 1}, "use_gated_mlp = 1, which is no bool"),
    ({"num_hidden_layers": True}, "num_hidden_layers = True, which is no int"),
    ({"patch_size": [16, 8]}, "patch_size = \\[16, 8\\], which is no int"),
  ],
)
def test_what_is_not_built_here_is_refused(values, message):
  with pytest.raises(WeightsError, match=message):
    DINOv3Config().with_hub_config({"model_type": "dinov3_vit"} | values)


@pytest.mark.torch
@pytest.mark.parametrize("gated", [False, True])
def test_answers_equal_those_of_transformers(gated, tmp_path):
  pytest.importorskip("transformers")
  pytest.importorskip("torch")
  sizes = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "num_register_tokens": 4,
    **(GATED if gated else {}),
  }
  clips = [(64, 64), (224, 224), (96, 160)]
  errors = torch_vit.errors("dinov3_vits16", "dinov3_vit", sizes, clips, tmp_path)
  assert max(errors.values()) < 1e-5, errors


@pytest.mark.network
def test_the_published_small_network_gives_the_known_class_token(shared_data):
  """Of a 256 x 256 image of noise. Downloads the weights (gated: the licence must have been accepted)."""
  with np.load(shared_data / "golden" / "dinov3_vits16_reference.npz") as reference:
    image, expected = reference["img"], reference["cls_token"]
  outputs = features.load("dinov3_vits16").forward(np.moveaxis(image, 0, -1)[None, None])
  assert _error(outputs["cls"][0, 0], expected) < 1e-3
