"""Orthogonal momentum: singular values, sizes, and which matrices a kernel is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.training.optim import OptimConfig, make_optimizer


def updates(gradients, steps=1, **fields):
  """The last of several updates with the learning rate 1, by name."""
  config = OptimConfig(optimizer="muon", lr=1.0, schedule="constant", weight_decay=0.0, clip_norm=0.0, **fields)
  tx, _ = make_optimizer(config, steps=100)
  state = tx.init(gradients[0])
  step = jax.jit(tx.update)
  for gradient in gradients[:steps]:
    moved, state = step(gradient, state, gradient)
  return {name: np.asarray(leaf) for name, leaf in moved.items()}


def drawn(seed, **shapes):
  rng = np.random.default_rng(seed)
  return {name.replace("__", "/"): jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


def singular_values(matrix):
  """As shares of what an orthogonal matrix of the size that the updates are to have would have."""
  return np.linalg.svd(matrix, compute_uv=False) / (0.2 * np.sqrt(max(matrix.shape)))


def newton_schulz(matrix):
  """Jordan et al. 2024, five times a x + (b a + c a a) x with a = x x^T, in NumPy and float64."""
  x = np.asarray(matrix, np.float64)
  turned = x.shape[0] > x.shape[1]
  x = x.T if turned else x
  x = x / np.linalg.norm(x)
  for _ in range(5):
    a = x @ x.T
    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
  return x.T if turned else x


def test_an_update_is_the_orthogonal_part_of_the_momentum():
  """Two steps with momentum 0.9 and Nesterov: g + 0.9 (g + 0.9 g_before), whose length does not matter."""
  first, second = drawn(0, layer__kernel=(6, 4)), drawn(1, layer__kernel=(6, 4))
  found = updates([first, second], steps=2, momentum=0.9, nesterov=True)["layer/kernel"]
  old, new = (np.asarray(gradient["layer/kernel"], np.float64) for gradient in (first, second))
  expected = -0.2 * np.sqrt(6) * newton_schulz(new + 0.9 * (new + 0.9 * old))
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
  assert np.all(np.abs(singular_values(found) - 0.9) < 0.35)  # 0.55 to 1.25, where these coefficients lead


def test_updates_have_the_size_of_adams():
  found = updates([drawn(0, layer__kernel=(64, 16))])["layer/kernel"]
  assert np.sqrt(np.mean(found**2)) == pytest.approx(0.2 * 0.9, abs=0.06)


def test_query_key_and_value_side_by_side_are_three_matrices():
  gradient = drawn(0, block__qkv_kernel=(6, 12))
  gradient["block/qkv_kernel"] = gradient["block/qkv_kernel"].at[:, :4].multiply(1000.0)
  found = updates([gradient])["block/qkv_kernel"]
  for part in np.split(found, 3, axis=1):  # the large gradient of the query takes nothing from the others
    assert singular_values(part).min() > 0.5


def test_a_convolution_is_one_matrix_from_its_window_to_its_channels():
  found = updates([drawn(0, conv__kernel=(3, 3, 2, 5))])["conv/kernel"]
  assert found.shape == (3, 3, 2, 5)
  assert singular_values(found.reshape(18, 5)).min() > 0.5


def test_the_heads_of_a_kernel_with_three_axes_are_matrices_of_their_own():
  rules = ((r"query/kernel$", "heads"), (".*", "adam"))
  found = updates([drawn(0, query__kernel=(6, 2, 4))], muon_rules=rules)["query/kernel"]
  for head in range(2):
    assert singular_values(found[:, head]).min() > 0.5


def test_what_is_no_matrix_is_moved_by_adam():
  shapes = {"norm__scale": (4,), "head__kernel": (4, 3), "depthwise__kernel": (3, 3, 1, 2), "time_embedding": (8, 4)}
  found = updates([drawn(0, layer__kernel=(4, 4), **shapes)])
  for name in ("norm/scale", "head/kernel", "depthwise/kernel", "time_embedding"):
    np.testing.assert_allclose(np.abs(found[name]), 1.0, rtol=1e-3)  # Adam's first update is the sign


def test_the_state_has_one_momentum_a_matrix_and_two_moments_for_the_rest():
  tx, _ = make_optimizer(OptimConfig(optimizer="muon"), steps=10)
  state = tx.init(drawn(0, layer__kernel=(6, 4), layer__bias=(4,)))
  counts = 2  # of Adam and of the schedule
  assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 24 + 2 * 4 + counts


@pytest.mark.parametrize(
  ("kind", "shape", "needed"),
  [
    ("matrix", (4,), "two axes or more"),
    ("qkv", (4, 8), "two axes, the last of three equal parts"),
    ("heads", (4, 8), "three axes"),
  ],
)
def test_a_kernel_that_is_not_of_its_kind_is_refused(kind, shape, needed):
  tx, _ = make_optimizer(OptimConfig(optimizer="muon", muon_rules=((".*", kind),)), steps=10)
  with pytest.raises(ConfigError) as error:
    tx.init({"a/kernel": jnp.ones(shape)})
  assert str(error.value) == (
    f"config.optim.muon_rules: 'a/kernel' of the shape {shape} is not of the kind {kind!r}, which has {needed}; give "
    "it 'adam' by a rule before."
  )
