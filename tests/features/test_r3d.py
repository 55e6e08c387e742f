"""R3D: exact size, what each mode computes, and the equality that makes the a-trous mode trustworthy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.features import network
from gasmcast.features.r3d import R3D, R3DConfig, _Block, _windows
from tests.golden import make_torchvision_seeded as seeded

TINY = {"widths": (8, 8, 16, 16), "blocks": (2, 2, 2, 2), "image_size": 16}


def _frames(frames=16, size=16, seed=0):
  return jnp.float32(np.random.default_rng(seed).standard_normal((2, frames, size, size, 3)))


def _variables(config, frames=16):
  """Random everywhere, running statistics too, so that no term is at a neutral value."""
  shapes = jax.eval_shape(R3D(config).init, jax.random.key(0), _frames(frames))
  rng = np.random.default_rng(1)
  spread = lambda leaf: rng.standard_normal(leaf.shape) / np.sqrt(max(1, math.prod(leaf.shape[:-1])))
  draw = lambda leaf: rng.uniform(0.5, 1.5, leaf.shape) if len(leaf.shape) == 1 else spread(leaf)
  return jax.tree.map(lambda leaf: jnp.float32(draw(leaf)), shapes)


def test_r3d_18_has_the_published_size():
  clip = jax.ShapeDtypeStruct((1, 16, 112, 112, 3), jnp.float32)
  variables = jax.eval_shape(R3D().init, jax.random.key(0), clip)
  count = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
  assert count(variables["params"]) == 33_166_272
  outputs = jax.eval_shape(R3D().apply, variables, clip)
  assert outputs["segments"].shape == (1, 8, 512)
  assert outputs["grid"].shape == (1, 8, 7, 7, 512)
  assert outputs["pooled"].shape == (1, 512)


def test_torchvision_gives_the_same_logits_and_stages():
  variables = network.convert("r3d_18", seeded.weights("r3d_18"), mode="native")
  net, golden = R3D(R3DConfig(mode="native", classes=174)), seeded.read("r3d_18")

  @jax.jit
  def run(variables, clips):
    outputs, state = net.apply(
      variables, clips, capture_intermediates=lambda part, _: isinstance(part, _Block), mutable=["intermediates"]
    )
    stages = [state["intermediates"][f"layer{stage}_1"]["__call__"][0] for stage in (1, 2, 3, 4)]
    return outputs, [(stage.mean((0, 1, 2, 3)), stage[0, :2, :2, :2, :4]) for stage in stages]

  outputs, stages = run(variables, seeded.inputs("r3d_18").transpose(0, 2, 3, 4, 1))
  error = lambda ours, theirs: np.abs(ours - theirs).max() / np.abs(theirs).max()
  assert error(outputs["logits"], golden["logits"]) < 1e-4
  assert error(outputs["logits"], golden["logits_f64"]) < 1e-4
  assert error(outputs["pooled"].mean(0), golden["avgpool/mean_over_batch_and_pos"]) < 1e-4
  for i, (mean, corner) in enumerate(stages, 1):
    assert error(mean, golden[f"layer{i}/mean_over_batch_and_pos"]) < 1e-4
    assert error(corner.transpose(3, 0, 1, 2), golden[f"layer{i}/corner"]) < 1e-4


def test_atrous_segments_0_and_4_are_the_native_outputs():
  atrous, native = R3DConfig(mode="atrous", **TINY), R3DConfig(mode="native", **TINY)
  variables, frames = _variables(atrous), _frames()
  dense = jax.jit(R3D(atrous).apply)(variables, frames)["grid"]
  published = jax.jit(R3D(native).apply)(variables, frames)["grid"]
  assert dense.shape[1] == 8 and published.shape[1] == 2
  np.testing.assert_allclose(dense[:, ::4], published, rtol=2e-6, atol=2e-6)
  assert np.abs(dense[:, 1] - dense[:, 0]).max() > 1e-3  # the segments between are not copies


def test_undilated_is_another_function():
  atrous, undilated = R3DConfig(mode="atrous", **TINY), R3DConfig(mode="undilated", **TINY)
  variables, frames = _variables(atrous), _frames()
  difference = R3D(atrous).apply(variables, frames)["grid"] - R3D(undilated).apply(variables, frames)["grid"]
  assert np.abs(difference[:, ::4]).max() > 1e-3


def test_windows_are_reflected_at_the_ends():
  frames = jnp.arange(16.0).reshape(1, 16, 1, 1, 1)
  windows = _windows(frames)[..., 0, 0, 0]
  assert windows.shape == (8, 8)
  np.testing.assert_array_equal(windows[0], [3, 2, 1, 0, 1, 2, 3, 4])
  np.testing.assert_array_equal(windows[3], [3, 4, 5, 6, 7, 8, 9, 10])
  np.testing.assert_array_equal(windows[7], [11, 12, 13, 14, 15, 14, 13, 12])


def test_a_windowed_segment_is_the_native_network_on_its_window():
  config = R3DConfig(mode="windowed", **TINY)
  variables, frames = _variables(config), _frames()
  segments = jax.jit(R3D(config).apply)(variables, frames)["segments"]
  native = jax.jit(R3D(R3DConfig(mode="native", **TINY)).apply)
  np.testing.assert_allclose(segments[:, 3], native(variables, frames[:, 3:11])["segments"][:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("mode", "frames", "segments"), [("atrous", 16, 8), ("native", 16, 2), ("native", 8, 1)])
def test_the_number_of_segments(mode, frames, segments):
  config = R3DConfig(mode=mode, **TINY)
  clip = jax.ShapeDtypeStruct((1, frames, 16, 16, 3), jnp.float32)
  variables = jax.eval_shape(R3D(config).init, jax.random.key(0), clip)
  assert jax.eval_shape(R3D(config).apply, variables, clip)["segments"].shape[1] == segments


def test_running_statistics_move_in_training_only():
  config = R3DConfig(**TINY)
  variables, frames = _variables(config), _frames()
  _, still = R3D(config).apply(variables, frames, mutable=["batch_stats"])
  _, moved = R3D(config).apply(variables, frames, train=True, mutable=["batch_stats"])
  mean = lambda tree: tree["batch_stats"]["stem_norm"]["batch"]["mean"]
  np.testing.assert_array_equal(mean(still), mean(variables))
  assert np.abs(mean(moved) - mean(variables)).max() > 0


def test_differences_are_the_change_from_the_frame_before():
  config = R3DConfig(norm="group", differences=True, **TINY)
  variables = R3D(config).init(jax.random.key(0), _frames())
  assert variables["params"]["stem"]["kernel"].shape == (3, 7, 7, 6, 8)
  assert "batch_stats" not in variables


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"widths": (8, 8, 8)}, "motion.widths has 3 and motion.blocks 4 entries: the network has 4 stages."),
    ({"widths": (8, 8, 8, 12), "norm": "group"}, "groups of 8 channels; use multiples of 8"),
  ],
)
def test_impossible_sizes_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
    R3DConfig(**fields)


def test_a_classifier_saved_in_our_names_is_left_out_where_the_mode_has_none(tmp_path):
  sizes = {"widths": (4, 4, 4, 4), "blocks": (1, 1, 1, 1), "image_size": 16}
  native = network.load("r3d_18", "random", mode="native", classes=3, **sizes)
  native.save(tmp_path / "net.safetensors")
  assert "logits" in network.load("r3d_18", tmp_path / "net.safetensors").variables["params"]
  atrous = network.load("r3d_18", tmp_path / "net.safetensors", mode="atrous")
  assert "logits" not in atrous.variables["params"]
  np.testing.assert_array_equal(
    atrous.variables["params"]["stem"]["kernel"], native.variables["params"]["stem"]["kernel"]
  )
