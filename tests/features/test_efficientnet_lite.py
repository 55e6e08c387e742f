"""EfficientNet-Lite0: the published network's answers, with generated weights and on real photographs with its own."""

import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core import rules
from gasmcast.core.errors import ConfigError, WeightsError
from gasmcast.features import network
from gasmcast.features.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from tests.golden import make_efficientnet_lite as seeded

TINY = {"widths": (8,) * 7, "blocks": (1, 2, 1, 1, 1, 1, 1), "stem": 8, "head": 16}
PEMBROKE, GERMAN_SHEPHERD = 263, 235  # of the 1,000 classes of ImageNet


def _count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _error(ours, theirs):
  return np.abs(ours - theirs).max() / np.abs(theirs).max()


def _frames(height=40, width=65):
  return np.random.default_rng(0).standard_normal((2, 3, height, width, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny():
  """(variables, compiled apply) of a tiny network, random everywhere."""
  net = EfficientNetLite(EfficientNetLiteConfig(**TINY))
  rng = np.random.default_rng(1)

  def draw(name, shape):
    if name.endswith("kernel"):  # so that few values pass 6
      return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
    return rng.uniform(0.5, 1.5, shape) if name.endswith(("scale", "var")) else 0.1 * rng.standard_normal(shape)

  shapes = rules.flatten(jax.eval_shape(net.init, jax.random.key(0), _frames()))
  variables = {name: draw(name, leaf.shape).astype(np.float32) for name, leaf in shapes.items()}
  return rules.unflatten(variables), jax.jit(net.apply)


def test_the_torch_port_gives_the_same_numbers():
  variables = network.convert("efficientnet_lite0", seeded.weights())
  net = EfficientNetLite(EfficientNetLiteConfig(classes=5))
  outputs = jax.jit(net.apply)(variables, seeded.inputs().transpose(0, 2, 3, 1)[:, None])
  assert outputs["tokens"].shape == (2, 1, 3 * 3, 1280)
  corner = outputs["tokens"][..., :4].reshape(2, 3, 3, 4).transpose(0, 3, 1, 2)
  with np.load(seeded.FILE) as golden:
    assert _error(outputs["logits"][:, 0], golden["logits"]) < 1e-4
    assert _error(outputs["logits"][:, 0], golden["logits_f64"]) < 1e-4
    assert _error(outputs["pooled"][:, 0], golden["head_mean"]) < 1e-4
    assert _error(corner, golden["head_corner"]) < 1e-4


def test_it_has_the_published_size():
  clip = jax.ShapeDtypeStruct((1, 2, 224, 224, 3), jnp.float32)
  variables = jax.eval_shape(EfficientNetLite().init, jax.random.key(0), clip)
  assert _count(variables["params"]) == 3_371_008
  outputs = jax.eval_shape(EfficientNetLite().apply, variables, clip)
  assert {name: leaf.shape for name, leaf in outputs.items()} == {"tokens": (1, 2, 49, 1280), "pooled": (1, 2, 1280)}
  assert EfficientNetLiteConfig().grid == (7, 7)
  net = EfficientNetLite(EfficientNetLiteConfig(classes=1000))
  assert _count(jax.eval_shape(net.init, jax.random.key(0), clip)["params"]) == 4_652_008


def test_tokens_are_the_cells_of_each_frame_alone(tiny):
  (variables, apply), frames = tiny, _frames()
  outputs = apply(variables, frames)
  assert outputs["tokens"].shape == (2, 3, 2 * 3, 16)  # of 40 x 65 pixels: every halving rounds up
  assert outputs["tokens"].min() >= 0 and outputs["tokens"].max() <= 6  # after ReLU6
  np.testing.assert_allclose(outputs["pooled"], outputs["tokens"].mean(2), rtol=1e-5)
  changed = frames.copy()
  changed[:, 1] = 0
  others = apply(variables, changed)
  np.testing.assert_allclose(others["tokens"][:, ::2], outputs["tokens"][:, ::2], rtol=1e-5)
  assert _error(others["tokens"][:, 1], outputs["tokens"][:, 1]) > 1e-3


def test_bfloat16_is_close_to_float32(tiny):
  variables, apply = tiny
  rounded = jax.jit(EfficientNetLite(EfficientNetLiteConfig(**TINY), jnp.bfloat16).apply)(variables, _frames())
  assert rounded["tokens"].dtype == jnp.float32
  exact = apply(variables, _frames())["tokens"]
  # every one of 26 layers rounds its convolution and its norm to 2^-9; on photographs 0.88 becomes 0.88, 0.87 0.86
  assert 1e-4 < np.linalg.norm(rounded["tokens"] - exact) / np.linalg.norm(exact) < 5e-2


def test_everything_trains(tiny):
  variables, _ = tiny
  net = EfficientNetLite(EfficientNetLiteConfig(**TINY))

  def loss(params):
    outputs, state = net.apply({**variables, "params": params}, _frames(), True, mutable=["batch_stats"])
    return (outputs["pooled"] ** 2).sum(), state["batch_stats"]

  gradients, moved = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
  assert all(np.any(gradient) for gradient in rules.flatten(gradients).values())
  before, after = rules.flatten(variables["batch_stats"]), rules.flatten(moved)
  assert not any(np.array_equal(after[name], before[name]) for name in before)


def test_real_photographs_get_the_known_answers(shared_data):
  """As they come from the files; .88 and .87 were published for a resizing that averages areas."""
  net = network.load("efficientnet_lite0", shared_data / "weights" / "efficientnet_lite0.safetensors")
  read = lambda name: cv2.cvtColor(cv2.imread(str(shared_data / "labelled_clips" / name)), cv2.COLOR_BGR2RGB)
  photographs = np.stack([read("dog1.jpg"), read("dog2.jpg")])[:, None]
  probabilities = jax.nn.softmax(net(photographs)["logits"][:, 0])
  assert list(probabilities.argmax(-1)) == [PEMBROKE, GERMAN_SHEPHERD]
  assert float(probabilities[0, PEMBROKE]) == pytest.approx(0.88, abs=0.03)
  assert float(probabilities[1, GERMAN_SHEPHERD]) == pytest.approx(0.87, abs=0.03)


def test_a_hub_config_is_refused():
  with pytest.raises(WeightsError, match="config.json is of a 'efficientnet', not of an EfficientNet-Lite0; name its"):
    EfficientNetLiteConfig().with_hub_config({"model_type": "efficientnet"})


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"widths": (8, 8)}, "semantic.widths has 2 and semantic.blocks 7 entries: the network has 7 stages."),
    ({"head": 0}, "semantic has the sizes .*: all must be at least 1."),
    ({"classes": -1}, "semantic.classes = -1 is negative; use 0 for no classifier."),
  ],
)
def test_impossible_sizes_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    EfficientNetLiteConfig(**fields)
