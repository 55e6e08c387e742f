"""A convolution with its batch norm: where it pads, which statistics it uses, how they move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.features.conv_norm import ConvNorm, conv_norm_rules
from gasmcast.features.conversion import convert_tensors


def _ones(net, x):
  """Variables with a kernel of ones and running statistics that leave numbers as they are."""
  shapes = jax.eval_shape(net.init, jax.random.key(0), x)
  variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  variables["params"]["kernel"] += 1
  variables["params"]["norm"]["scale"] += 1
  variables["batch_stats"]["norm"]["var"] += 1
  return variables


@pytest.mark.parametrize(
  ("padding", "expected"),
  [
    (1, [0 + 1, 1 + 2 + 3]),  # torch: a zero before and after; the windows are (_, 0, 1) and (1, 2, 3)
    ("SAME", [0 + 1 + 2, 2 + 3]),  # TensorFlow: a zero after; the windows are (0, 1, 2) and (2, 3, _)
  ],
)
def test_where_a_stride_of_two_pads(padding, expected):
  x = jnp.arange(4.0).reshape(1, 1, 4, 1) * jnp.eye(4)[2].reshape(1, 4, 1, 1)  # one row of numbers, in a square
  net = ConvNorm(1, 3, 2, padding, epsilon=0.0)
  y = jax.jit(net.apply)(_ones(net, x), x)
  assert y.shape == (1, 2, 2, 1)
  np.testing.assert_allclose(y[0, 1, :, 0], expected, atol=1e-6)


def test_running_statistics_move_a_tenth_of_the_way():
  """Values 1 and 3 have the mean 2 and the variance 1; the running ones are 5 and 4."""
  x = jnp.float32([1, 3]).reshape(1, 1, 2, 1)
  net = ConvNorm(1, epsilon=0.0)
  variables = _ones(net, x)
  variables["batch_stats"]["norm"] = {"mean": np.full(1, 5.0, np.float32), "var": np.full(1, 4.0, np.float32)}
  apply = jax.jit(lambda train: net.apply(variables, x, train, mutable=["batch_stats"]), static_argnums=0)
  y, moved = apply(True)
  np.testing.assert_allclose(y.ravel(), [-1, 1], atol=1e-6)
  np.testing.assert_allclose(moved["batch_stats"]["norm"]["mean"], [0.9 * 5 + 0.1 * 2], rtol=1e-6)
  np.testing.assert_allclose(moved["batch_stats"]["norm"]["var"], [0.9 * 4 + 0.1 * 1], rtol=1e-6)
  y, still = apply(False)
  np.testing.assert_allclose(y.ravel(), [(1 - 5) / 2, (3 - 5) / 2], atol=1e-6)
  assert still["batch_stats"]["norm"] == variables["batch_stats"]["norm"]


def test_a_depthwise_kernel_begins_at_the_scale_that_keeps_the_signal():
  """An input reaches 9 outputs, whatever the number of channels: variance 2 / 9."""
  net = ConvNorm(64, 3, depthwise=True)
  kernel = net.init(jax.random.key(0), jnp.zeros((1, 3, 3, 64)))["params"]["kernel"]
  assert kernel.shape == (3, 3, 1, 64)
  assert float(kernel.var()) == pytest.approx(2 / 9, rel=0.15)


def test_the_norm_of_a_bfloat16_network_is_float32():
  x = jnp.full((1, 1, 1, 1), 256.0, jnp.bfloat16)
  net = ConvNorm(1, epsilon=0.0, dtype=jnp.bfloat16)
  variables = _ones(net, x)
  variables["batch_stats"]["norm"]["mean"] += 255.5  # not a bfloat16 number: it would be 256
  y = jax.jit(net.apply)(variables, x)
  assert y.dtype == jnp.bfloat16
  assert float(y.ravel()[0]) == 0.5
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_rules_fill_all_variables_from_torch_names():
  rng = np.random.default_rng(0)
  tensors = {f"bn2.{name}": rng.random(4) for name in ("weight", "bias", "running_mean", "running_var")}
  tensors |= {"conv2.weight": rng.random((4, 3, 1, 2)), "bn2.num_batches_tracked": np.zeros((), np.int64)}
  rules = conv_norm_rules(r"conv(\d)", r"bn(\d)", r"part\1")
  paths = {"kernel": (1, 2, 3, 4), "norm/scale": (4,), "norm/bias": (4,)}
  wanted = {f"params/part2/{path}": jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in paths.items()}
  wanted |= {f"batch_stats/part2/norm/{name}": jax.ShapeDtypeStruct((4,), jnp.float32) for name in ("mean", "var")}
  filled = convert_tensors(tensors, rules, wanted, "these tensors")
  assert filled["params/part2/kernel"][0, 1, 2, 3] == np.float32(tensors["conv2.weight"][3, 2, 0, 1])
  for path, name in (
    ("params/part2/norm/scale", "weight"),
    ("params/part2/norm/bias", "bias"),
    ("batch_stats/part2/norm/mean", "running_mean"),
    ("batch_stats/part2/norm/var", "running_var"),
  ):
    np.testing.assert_array_equal(filled[path], np.float32(tensors[f"bn2.{name}"]))
