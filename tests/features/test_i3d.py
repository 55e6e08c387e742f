"""I3D: exact size, what a second implementation answers, a-trous segments, and the real weights on real clips."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gasmcast.core.errors import ConfigError, DataError, WeightsError
from gasmcast.features.backbones import BACKBONES
from gasmcast.features.i3d import I3D, I3DConfig, _max_pool, _Mixed, _pool_pairs, _Unit, same_padding
from gasmcast.features.network import convert, load
from gasmcast.videos.decode import read_frames
from tests.golden import make_i3d

TINY = I3DConfig(width_divisor=8, image_size=64)
SEEDED = I3DConfig(classes=make_i3d.CLASSES)  # with the weights that are generated from their published names


def _relative(a, b):
  return float(np.abs(np.asarray(a, np.float32) - b).max() / np.abs(b).max())


def _normal(*shape):
  return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _shapes(module, *shape):
  return jax.eval_shape(lambda rng: module.init(rng, jnp.zeros(shape), False), jax.random.key(0))


def _variables(module, *shape):
  """Random everywhere, running statistics too, so that no term is at a neutral value."""
  rng = np.random.default_rng(1)

  def draw(path, leaf):
    values = rng.standard_normal(leaf.shape).astype(np.float32)
    if path[-1].key == "kernel":
      return values * np.float32(np.sqrt(2 / math.prod(leaf.shape[:-1])))
    return 1 + np.abs(values) / 9 if path[-1].key == "var" else values / 9

  return jax.tree_util.tree_map_with_path(draw, _shapes(module, *shape))


@pytest.fixture(scope="module")
def golden():
  with np.load(make_i3d.FILE) as file:
    return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def seeded():
  return convert("i3d_rgb", make_i3d.weights())


@pytest.fixture(scope="module")
def native(seeded):
  """What the native network makes of the golden file's 16 frames."""
  return jax.jit(I3D(SEEDED).apply)(seeded, make_i3d.inputs())


def test_i3d_has_the_published_size():
  clip = (1, 16, 224, 224, 3)
  network = I3D(I3DConfig(classes=400))
  variables = _shapes(network, *clip)
  count = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
  assert count(variables["params"]) - 1025 * 400 == BACKBONES["i3d_rgb"].parameters == 12_279_984
  assert count(variables) == 12_704_544  # with the running statistics and the classifier of 400 classes
  outputs = jax.eval_shape(network.apply, variables, jnp.zeros(clip))
  shapes = {name: leaf.shape for name, leaf in outputs.items()}
  assert shapes == {"segments": (1, 2, 1024), "grid": (1, 2, 7, 7, 1024), "pooled": (1, 1024), "logits": (1, 400)}


def test_every_second_frame_has_an_atrous_segment_and_there_are_no_logits():
  network = I3D(dataclasses.replace(TINY, mode="atrous", classes=3), jnp.bfloat16)
  outputs = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x)[0], jnp.zeros((1, 16, 64, 64, 3)))
  assert {name: leaf.shape for name, leaf in outputs.items()} == {
    "segments": (1, 8, 128),
    "grid": (1, 8, 2, 2, 128),
    "pooled": (1, 128),
  }
  assert all(leaf.dtype == jnp.float32 for leaf in outputs.values())


def test_a_second_implementation_answers_the_same(native, golden):
  assert _relative(native["grid"], golden["grid"]) < 1e-5
  assert _relative(native["segments"], golden["grid"].mean((2, 3))) < 1e-5
  assert _relative(native["pooled"], golden["grid"].mean((1, 2, 3))) < 1e-5
  assert _relative(native["logits"], golden["logits"]) < 1e-5


def test_atrous_segments_0_and_4_of_16_frames_are_the_native_outputs(seeded, native):
  outputs = jax.jit(I3D(dataclasses.replace(SEEDED, mode="atrous")).apply)(seeded, make_i3d.inputs())
  assert outputs["grid"].shape[1] == 8 and native["grid"].shape[1] == 2
  for name in ("segments", "grid"):
    assert _relative(outputs[name][:, ::4], native[name]) < 2e-6
  assert _relative(outputs["segments"][:, 1], outputs["segments"][:, 0]) > 0.01  # those between are not copies
  assert _relative(outputs["pooled"], outputs["segments"].mean(1)) < 2e-6


@pytest.mark.long
@pytest.mark.parametrize("frames", [18, 13, 8, 3])
def test_every_fourth_atrous_segment_is_a_native_output_for_any_number_of_frames(frames):
  variables = _variables(I3D(TINY), 1, frames, 64, 64, 3)
  x = _normal(1, frames, 64, 64, 3)
  native = jax.jit(I3D(TINY).apply)(variables, x)["grid"]
  atrous = jax.jit(I3D(dataclasses.replace(TINY, mode="atrous")).apply)(variables, x)["grid"]
  assert atrous.shape[1] == -(-frames // 2) and native.shape[1] == -(-frames // 8)
  assert _relative(atrous[:, ::4], native) < 2e-6


def test_a_block_in_bfloat16_is_close_to_float32():
  block, x = _Mixed((8, 12, 16, 4, 8, 8), 2, jnp.float32), _normal(1, 4, 4, 4, 24)
  variables = _variables(block, *x.shape)
  exact = jax.jit(lambda x: block.apply(variables, x, False))(x)
  rounded = jax.jit(lambda x: block.clone(dtype=jnp.bfloat16).apply(variables, x, False))(x.astype(jnp.bfloat16))
  assert rounded.dtype == jnp.bfloat16
  assert 0 < _relative(rounded, exact) < 0.02


@pytest.mark.long
def test_the_network_in_bfloat16_is_close_to_float32(seeded, native):
  outputs = jax.jit(I3D(SEEDED, jnp.bfloat16).apply)(seeded, make_i3d.inputs())
  assert all(leaf.dtype == jnp.float32 for leaf in outputs.values())
  assert 0 < _relative(outputs["pooled"], native["pooled"]) < 0.05


def test_training_moves_the_running_statistics_a_tenth_of_the_way():
  unit, x = _Unit(5, 1), _normal(2, 3, 4, 4, 6)
  variables = _variables(unit, *x.shape)
  y, moved = jax.jit(lambda x: unit.apply(variables, x, True, mutable=["batch_stats"]))(x)
  z = (x @ variables["params"]["conv"]["kernel"]).reshape(-1, 5)
  for name, value in (("mean", z.mean(0)), ("var", z.var(0))):
    expected = 0.9 * variables["batch_stats"]["norm"][name] + 0.1 * value
    np.testing.assert_allclose(moved["batch_stats"]["norm"][name], expected, rtol=1e-5, atol=1e-6)
  expected = np.maximum((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-3) + variables["params"]["norm"]["bias"], 0)
  np.testing.assert_allclose(y.reshape(-1, 5), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["native", "atrous"])
def test_every_parameter_has_a_gradient(mode):
  network, x = I3D(dataclasses.replace(TINY, mode=mode)), _normal(2, 16, 64, 64, 3)
  variables = _variables(network, *x.shape)

  def loss(params):
    outputs, moved = network.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
    return (outputs["grid"] ** 2).sum(), moved["batch_stats"]

  gradient, moved = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path
  for before, after in zip(jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(moved), strict=True):
    assert (before != after).all()


@pytest.mark.parametrize(("window", "stride"), [(7, 2), (3, 2), (2, 2), (3, 1)])
def test_windows_begin_where_tensorflow_puts_them(window, stride):
  for length in range(1, 20):
    before, after = same_padding(length, window, stride)
    assert before == lax.padtype_to_pads((length,), (window,), (stride,), "SAME")[0][0]
    assert (length + before + after - window) // stride + 1 == -(-length // stride)


@pytest.mark.parametrize("frames", [8, 7])
def test_the_maximum_over_axes_in_turn_is_the_maximum_over_the_window(frames):
  x = -np.random.default_rng(0).uniform(1, 2, (1, frames, 5, 6, 2)).astype(np.float32)  # a zero pad would win
  for window, strides in (((3, 3, 3), (2, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((2, 2, 2), (2, 2, 2))):
    pads = lax.padtype_to_pads(x.shape[1:4], window, strides, "SAME")
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, window, (1, 2, 3)).max((-1, -2, -3))
    expected = windows[:, :: strides[0], :: strides[1], :: strides[2]]
    np.testing.assert_array_equal(jax.jit(lambda x: _max_pool(x, window, strides))(x), expected)  # noqa: B023
    dense = jax.jit(lambda x: _max_pool(x, window, strides, dense=True))(x)  # noqa: B023
    assert dense.shape[1] == frames
    np.testing.assert_array_equal(dense[:, :: strides[0]], expected)


def test_a_dilated_pool_reads_every_second_step():
  x = jnp.arange(8.0)[None, ::-1, None, None, None]  # 7 6 5 4 3 2 1 0
  pool = lambda window, **options: _max_pool(x, (window, 1, 1), (1, 1, 1), 2, **options)[0, :, 0, 0, 0].tolist()
  assert pool(3) == [7, 6, 7, 6, 5, 4, 3, 2]  # steps t - 2, t, t + 2
  assert pool(2, dense=True) == [7, 6, 5, 4, 3, 2, 1, 0]  # steps t, t + 2


def test_the_head_weighs_the_pairs_of_neighbouring_segments():
  segments = jnp.array([[[0.0], [3.0], [9.0]]])
  assert _pool_pairs(segments, 1).tolist() == [[3.75]]  # (1.5 + 6) / 2; the middle counts twice
  assert _pool_pairs(segments, 2).tolist() == [[4.5]]
  assert _pool_pairs(segments, 4).tolist() == [[4.0]]


def test_logits_need_the_grid_of_the_published_classifier():
  config = I3DConfig(classes=400)
  for clip in ((9, 193, 224), (250, 224, 193)):
    config.check_frames(*clip)
  for clip in ((8, 224, 224), (16, 192, 224), (16, 224, 225)):
    with pytest.raises(DataError) as error:
      config.check_frames(*clip)
    assert str(error.value) == (
      "The classifier of I3D averages 2 x 7 x 7 cells, so it takes 9 frames or more with sides of 193 to 224 pixels; "
      f"this clip has {clip[0]} frames of {clip[1]} x {clip[2]}. For features alone load it with classes=0."
    )
    I3DConfig().check_frames(*clip)
    I3DConfig(classes=400, mode="atrous").check_frames(*clip)


def test_other_sizes_are_refused():
  with pytest.raises(ConfigError, match="width_divisor = 3: the widths of I3D can be divided by 1, 2, 4 or 8"):
    I3DConfig(width_divisor=3)
  with pytest.raises(WeightsError, match="config.json is of a 'vit', not of an I3D network; name its backbone"):
    I3DConfig().with_hub_config({"model_type": "vit"})


def test_a_file_that_is_not_whole_is_refused():
  tensors = make_i3d.weights()
  del tensors["params|Mixed_5c|Branch_1/Conv3d_0b_3x3|Conv_0|kernel"]
  tensors["params|Mixed_6a|Branch_0/Conv3d_0a_1x1|Conv_0|kernel"] = np.zeros((1, 1, 1, 8, 8), np.float32)
  with pytest.raises(WeightsError) as error:
    convert("i3d_rgb", tensors)
  assert "params/mixed_5c/branch1b/conv/kernel [3, 3, 3, 192, 384]" in str(error.value)
  assert "Mixed_6a" in str(error.value)


def test_the_published_weights_answer_16_frames_as_published(shared_data):
  """Logits and pooled features by an independent forward pass."""
  with np.load(shared_data / "golden" / "i3d_k400_soccerjuggling16.npz") as file:
    golden = {name: file[name] for name in file.files}
  outputs = load("i3d_rgb", shared_data / "weights" / "i3d_k400_rgb.safetensors")(golden["frames_uint8"][None])
  assert _relative(outputs["logits"][0], golden["logits"]) < 1e-5
  assert _relative(outputs["pooled"][0], golden["pooled_1024"]) < 1e-5
  assert np.argmax(outputs["logits"][0]) == np.argmax(golden["logits"])


@pytest.mark.long
def test_the_published_weights_recognise_real_actions(shared_data):
  """64 frames as they come from the file; of two long clips, those in which the action is to be seen."""
  net = load("i3d_rgb", shared_data / "weights" / "i3d_k400_rgb.safetensors")
  names = (shared_data / "weights" / "kinetics400_labels.txt").read_text().splitlines()
  for video, first, step, action, least in (
    ("R6llTwEh07w.mp4", 0, 1, "using segway", 0.99),
    ("SOX5yA1l24A.mp4", 0, 1, "using segway", 0.95),
    ("WUzgd7C1pWA.mp4", 96, 1, "using segway", 0.95),
    ("basketball.mp4", 128, 2, "dunking basketball", 0.95),
    ("v_SoccerJuggling_g23_c01.avi", 0, 1, "juggling soccer ball", 0.99),
    ("v_SoccerJuggling_g24_c01.avi", 0, 1, "juggling soccer ball", 0.99),
    ("hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi", 0, 1, "cartwheeling", 0.5),
  ):
    wanted = first + step * np.arange(64)
    frames = read_frames(shared_data / "labelled_clips" / video, lambda count, wanted=wanted: wanted)
    probabilities = np.asarray(jax.nn.softmax(net(frames[None])["logits"][0]))
    best = int(probabilities.argmax())
    assert names[best] == action and probabilities[best] > least, (video, names[best], probabilities[best])
