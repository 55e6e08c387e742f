"""V-JEPA 2: exact sizes, the published numbers, and what its rotary codes (with their mistake) do."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from gasmcast import features
from gasmcast.core.errors import ConfigError, DataError, WeightsError
from gasmcast.features.vjepa2 import VJEPA2, VJEPA2Config, rope_angles, rotate, token_positions
from tests.golden import make_vjepa2

TINY = VJEPA2Config(width=32, depth=1, heads=2, mlp_ratio=2.0, patch=4, image_size=16)
SIZES = {
  "vjepa2_vitl16": {},
  "vjepa2_vith16": {"hidden_size": 1280, "num_hidden_layers": 32},
  "vjepa2_vitg16": {"hidden_size": 1408, "num_hidden_layers": 40, "num_attention_heads": 22, "mlp_ratio": 48 / 11},
}


def _frames(*shape, seed=0):
  return jnp.float32(np.random.default_rng(seed).standard_normal((*shape, 3)))


def _error(ours, reference):
  """Relative to the largest value, over all."""
  return float(np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max())


@pytest.fixture(scope="module")
def tiny():
  """(variables, compiled apply) of the tiny network; every variable is off its neutral value."""
  net, clip = VJEPA2(TINY), jax.ShapeDtypeStruct((1, 2, 16, 16, 3), jnp.float32)
  shapes = jax.eval_shape(net.init, jax.random.key(0), clip)
  rng = np.random.default_rng(0)
  draw = lambda leaf: jnp.float32(rng.standard_normal(leaf.shape) / math.sqrt(leaf.shape[0]) + (leaf.ndim == 1) / 2)
  return jax.tree.map(draw, shapes), jax.jit(net.apply)


@pytest.fixture(scope="module")
def golden_folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("vjepa2")
  (folder / "config.json").write_text(json.dumps(make_vjepa2.CONFIG))
  safetensors.numpy.save_file(make_vjepa2.tensors(), folder / "model.safetensors")
  return folder


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name):
  """A name, and the config.json of the Hub, give the same network, with the authors' number of parameters."""
  backbone = features.BACKBONES[name]
  assert VJEPA2Config().with_hub_config({"model_type": "vjepa2"} | SIZES[name]) == backbone.config
  clip = jax.ShapeDtypeStruct((1, 2, 16, 16, 3), jnp.float32)
  variables = jax.eval_shape(VJEPA2(backbone.config).init, jax.random.key(0), clip)
  assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == backbone.parameters


def test_sixteen_frames_give_eight_segments():
  net, clip = VJEPA2(VJEPA2Config(depth=1)), jax.ShapeDtypeStruct((3, 16, 256, 256, 3), jnp.float32)
  outputs = jax.eval_shape(net.apply, jax.eval_shape(net.init, jax.random.key(0), clip), clip)
  assert {name: leaf.shape for name, leaf in outputs.items()} == {
    "tokens": (3, 8, 256, 1024),
    "grid": (3, 8, 16, 16, 1024),
    "segments": (3, 8, 1024),
    "pooled": (3, 1024),
  }


def test_segments_are_means_of_tokens(tiny):
  variables, apply = tiny
  outputs = apply(variables, _frames(2, 6, 16, 24))
  assert outputs["grid"].shape == (2, 3, 4, 6, 32)
  np.testing.assert_array_equal(outputs["grid"].reshape(2, 3, 24, 32), outputs["tokens"])
  np.testing.assert_allclose(outputs["segments"], np.mean(outputs["tokens"], 2), atol=1e-6)
  np.testing.assert_allclose(outputs["pooled"], np.mean(outputs["tokens"], (1, 2)), atol=1e-6)


@pytest.mark.parametrize("name", make_vjepa2.CLIPS)
def test_golden_outputs(name, golden_folder):
  net = features.load("vjepa2_vitl16", golden_folder)
  assert (net.config.width, net.config.mlp_width, net.config.image_size) == (64, 147, 48)
  with np.load(make_vjepa2.FILE) as outputs:
    reference = outputs[name]
  frames = make_vjepa2.frames(name)
  tokens = net.forward(frames)["tokens"]
  assert tokens.shape[:2] == (frames.shape[0], frames.shape[1] // 2)
  assert _error(tokens.reshape(reference.shape), reference) < 1e-5


def test_every_token_sees_the_whole_clip_and_no_other(tiny):
  variables, apply = tiny
  frames = _frames(2, 6, 16, 24)
  before, after = (apply(variables, x)["tokens"] for x in (frames, frames.at[0, 5].add(1.0)))
  assert np.abs(before - after)[0].max(-1).min() > 1e-5
  np.testing.assert_array_equal(before[1], after[1])


def test_the_two_frames_of_a_tubelet_have_weights_of_their_own(tiny):
  """Frames exchanged within tubelets, and the halves of the patch kernel with them: the same tokens."""
  variables, apply = tiny
  frames = _frames(2, 6, 16, 24)
  exchanged = frames.reshape(2, 3, 2, 16, 24, 3)[:, :, ::-1].reshape(frames.shape)
  kernel = variables["params"]["patch_embedding"]["kernel"]
  halves = {"kernel": jnp.roll(kernel, len(kernel) // 2, axis=0)}
  params = variables["params"] | {"patch_embedding": variables["params"]["patch_embedding"] | halves}
  tokens = apply(variables, frames)["tokens"]
  np.testing.assert_allclose(apply({"params": params}, exchanged)["tokens"], tokens, atol=1e-5)
  assert _error(apply(variables, exchanged)["tokens"], tokens) > 1e-2


def test_tokens_know_their_time(tiny):
  """With the same picture throughout, only the rotary codes tell one tubelet from another."""
  variables, apply = tiny
  still = jnp.tile(_frames(1, 1, 16, 16), (1, 6, 1, 1, 1)).at[:, :2].add(1.0)
  segments = apply(variables, still)["segments"][0]
  assert np.abs(segments[1] - segments[2]).max() > 1e-4


def test_positions_by_hand():
  np.testing.assert_array_equal(
    token_positions(8, 2, 3), [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2], [1, 0, 0], [1, 0, 1]]
  )


def test_positions_count_on_the_grid_that_was_asked_for(tiny):
  """Frames of 2 x 2 patches: on the config's grid of 4 x 4, four tubelets are one moment; on their own each is one."""
  variables, _ = tiny
  frames = _frames(1, 4, 8, 8)
  tokens = lambda **fields: jax.jit(VJEPA2(dataclasses.replace(TINY, **fields)).apply)(variables, frames)["tokens"]
  own = tokens(positions="frames")
  np.testing.assert_allclose(own, tokens(image_size=8), atol=1e-6)
  assert _error(own, tokens()) > 1e-3


def test_angles_by_hand():
  """Heads of 14 channels: 4 for each axis with the frequencies 1 and 1/100, each list of angles twice, and 2 left."""
  angles = rope_angles(np.array([[2, 3, 5]]), 14)
  assert angles.dtype == np.float32
  np.testing.assert_allclose(angles[0], [2, 0.02] * 2 + [3, 0.03] * 2 + [5, 0.05] * 2 + [0, 0], rtol=1e-6)


def test_neighbouring_channels_turn_by_different_angles_as_published():
  a, b = 0.6, 0.8
  angles = rope_angles(np.array([[2, 0, 0]]), 14)
  cos, sin = np.cos(angles), np.sin(angles) * np.tile([-1, 1], 7)
  x = jnp.zeros((1, 1, 1, 14)).at[..., :2].set(jnp.array([a, b])).at[..., 12:].set(7.0)
  turned = rotate(x, cos, sin)[0, 0, 0]
  expected = [a * math.cos(2) - b * math.sin(2), b * math.cos(0.02) + a * math.sin(0.02)]
  np.testing.assert_allclose(turned[:2], expected, rtol=1e-5)
  np.testing.assert_array_equal(turned[2:], x[0, 0, 0, 2:])
  assert abs(float(jnp.linalg.norm(turned[:2])) - 1) > 0.1  # a rotation would keep the length of 1


def test_all_blocks_share_one_table_of_angles():
  net, clip = VJEPA2(dataclasses.replace(TINY, depth=3)), jax.ShapeDtypeStruct((1, 4, 16, 16, 3), jnp.float32)
  jaxpr = jax.make_jaxpr(net.apply)(jax.eval_shape(net.init, jax.random.key(0), clip), clip)
  assert [np.shape(leaf) for leaf in jaxpr.consts] == [(32, 16)] * 2  # cosines and sines


def test_bfloat16_is_close(tiny):
  variables, apply = tiny
  frames = _frames(2, 6, 16, 24)
  outputs = jax.jit(VJEPA2(TINY, jnp.bfloat16).apply)(variables, frames)
  reference = apply(variables, frames)
  for name, leaf in outputs.items():
    assert leaf.dtype == jnp.float32
    assert _error(leaf, reference[name]) < 0.05


def test_training_reaches_every_parameter(tiny):
  variables, _ = tiny
  net, frames, target = VJEPA2(TINY, jnp.bfloat16), _frames(2, 4, 16, 16), _frames(2, 4, 16, seed=1)
  loss = lambda v: (net.apply(v, frames, train=True)["tokens"][..., :3] * target[:, :2]).sum()
  for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(variables)):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


@pytest.mark.parametrize(
  ("clip", "message"),
  [
    ((1, 5, 16, 16), "a clip of 5 frames does not divide into tubelets of 2 frames; give a multiple of 2"),
    ((1, 1, 16, 16), r"a clip of 1 frames .* \(to see a single image, repeat it\)"),
    ((1, 4, 18, 16), "frames of 18 x 16 pixels do not divide into patches of 4; .* example to 16 x 16"),
    ((1, 4, 16, 18), "frames of 16 x 18 pixels"),
  ],
)
def test_clips_that_do_not_divide_into_tubelets_are_refused(tiny, clip, message):
  with pytest.raises(DataError, match=message):
    VJEPA2(TINY).apply(tiny[0], _frames(*clip))


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"heads": 0}, "motion.heads = 0: it must be at least 1"),
    ({"mlp_ratio": 0.0001}, "motion.mlp_ratio = 0.0001: of width 1024 that leaves the MLP no channel"),
    ({"width": 50, "heads": 4}, "width = 50 and heads = 4: a head's width must be a whole, even number of at least 6"),
    ({"width": 28, "heads": 4}, "width = 28 and heads = 4"),
    ({"width": 16, "heads": 4}, "width = 16 and heads = 4"),
    ({"image_size": 250}, "motion.image_size = 250 is not a multiple of the patch size 16"),
  ],
)
def test_impossible_sizes_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    VJEPA2Config(**fields)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({}, "config.json is of a None, not of a 'vjepa2'"),
    ({"model_type": "vit"}, "config.json is of a 'vit', not of a 'vjepa2'"),
    ({"model_type": "vjepa2", "hidden_act": "silu"}, "a 'vjepa2' with hidden_act = 'silu'; only hidden_act = 'gelu'"),
    ({"model_type": "vjepa2", "qkv_bias": False, "in_chans": 1}, "only in_chans = 3, qkv_bias = True is built here"),
    ({"model_type": "vjepa2", "hidden_size": "1024"}, "config.json has hidden_size = '1024', which is no int"),
  ],
)
def test_a_hub_config_of_another_network_is_refused(values, message):
  with pytest.raises(WeightsError, match=message):
    VJEPA2Config().with_hub_config(values)


def test_a_hub_config_decides_the_sizes_and_not_the_options():
  config = VJEPA2Config(width=96, heads=4, positions="frames")
  values = {"model_type": "vjepa2", "hidden_size": 48, "num_attention_heads": 2, "layer_norm_eps": 1e-5}
  values |= {"tubelet_size": 4, "patch_size": 8, "crop_size": 384, "mlp_ratio": 4}
  wanted = {"width": 48, "heads": 2, "epsilon": 1e-5, "tubelet": 4, "patch": 8, "image_size": 384}
  assert config.with_hub_config(values) == VJEPA2Config(positions="frames", **wanted)


@pytest.mark.torch
@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts_of_transformers(name):
  torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
  with torch.device("meta"):
    model = transformers.VJEPA2Model(transformers.VJEPA2Config(**SIZES[name]))
  assert sum(p.numel() for p in model.encoder.parameters()) == features.BACKBONES[name].parameters


@pytest.fixture(scope="module")
def published(tmp_path_factory):
  """(model, folder, folder of its classifier): all parameters random, as transformers saves them."""
  torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
  config = transformers.VJEPA2Config(
    hidden_size=84,
    num_hidden_layers=3,
    num_attention_heads=3,  # heads of 28 channels, of which 4 have no rotary code
    mlp_ratio=3.3,
    crop_size=64,
    layer_norm_eps=1e-5,
    pred_hidden_size=24,
    pred_num_attention_heads=2,
    pred_num_hidden_layers=1,
    num_pooler_layers=1,
    num_labels=5,
  )
  classifier = transformers.VJEPA2ForVideoClassification(config).eval()
  rng = np.random.default_rng(0)
  for parameter in classifier.parameters():
    values = rng.standard_normal(parameter.shape) / math.sqrt(math.prod(parameter.shape[1:]))
    parameter.data = torch.tensor(values, dtype=torch.float32)
  folders = [tmp_path_factory.mktemp(name) for name in ("model", "classifier")]
  for part, folder in zip((classifier.vjepa2, classifier), folders, strict=True):
    part.save_pretrained(folder)
  return classifier.vjepa2, *folders


@pytest.mark.torch
@pytest.mark.parametrize("clip", [(2, 4, 64, 64), (1, 16, 64, 64), (1, 8, 96, 96), (2, 6, 48, 80)])
def test_tokens_equal_those_of_transformers(published, clip):
  """The size of the config at two lengths, another resolution, and frames that are not square."""
  torch = pytest.importorskip("torch")
  model, folder, _ = published
  frames = np.asarray(_frames(*clip))
  with torch.no_grad():
    pixels = torch.from_numpy(np.moveaxis(frames, -1, 2).copy())
    reference = model(pixels, skip_predictor=True).last_hidden_state.numpy()
  tokens = features.load("vjepa2_vitl16", folder).forward(frames)["tokens"]
  error = _error(tokens.reshape(reference.shape), reference)
  print(f"{clip}: {error:.1e}")
  assert error < 1e-5


@pytest.mark.torch
def test_the_file_of_a_classifier_holds_the_same_encoder(published):
  _, *folders = published
  one, other = (features.load("vjepa2_vitl16", folder) for folder in folders)
  assert one.config == other.config and one.fingerprint == other.fingerprint
