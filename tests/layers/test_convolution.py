"""All formulations of the 3-D convolution are one function, and that function is the textbook one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.layers.convolution import Conv3D, convolve, formulation_for


def _textbook(x, kernel, strides, padding, dilation):
  """The definition, loop by loop, in float64."""
  x = np.pad(x.astype(np.float64), ((0, 0), *((p, p) for p in padding), (0, 0)))
  kt, kh, kw, _, out = kernel.shape
  steps = (x.shape[1] - dilation * (kt - 1) - 1) // strides[0] + 1
  rows, columns = (x.shape[2] - kh) // strides[1] + 1, (x.shape[3] - kw) // strides[2] + 1
  y = np.zeros((x.shape[0], steps, rows, columns, out))
  for t in range(steps):
    for i in range(rows):
      for j in range(columns):
        frames = [strides[0] * t + dilation * tap for tap in range(kt)]
        top, left = strides[1] * i, strides[2] * j
        window = x[:, frames][:, :, top : top + kh, left : left + kw]
        y[:, t, i, j] = np.einsum("bthwi,thwio->bo", window, kernel)
  return y


CASES = {
  "plain": ((3, 3, 3), (1, 1, 1), (1, 1, 1), 1),
  "strided": ((3, 3, 3), (2, 2, 2), (1, 1, 1), 1),
  "stem": ((3, 7, 7), (1, 2, 2), (1, 3, 3), 1),
  "dilated": ((3, 3, 3), (1, 1, 1), (2, 1, 1), 2),
  "dilated beyond the clip": ((3, 3, 3), (1, 2, 2), (4, 1, 1), 4),
  "pointwise": ((1, 1, 1), (2, 2, 2), (0, 0, 0), 1),
  "strided in time and height": ((3, 3, 3), (2, 2, 1), (1, 1, 1), 1),
  "padded twice": ((3, 3, 3), (1, 1, 1), (1, 2, 2), 1),
  "unpadded": ((2, 3, 3), (1, 1, 1), (0, 0, 0), 1),
}


FORMULATIONS = {
  "direct": set(CASES),
  "folded_taps": set(CASES),
  "summed_taps": set(CASES),
  "unfolded": set(CASES),
  "winograd": {case for case, (kernel, strides, *_) in CASES.items() if kernel[2] == 3 and strides[2] == 1},
}


@pytest.mark.parametrize(("formulation", "case"), [(f, c) for f, cases in FORMULATIONS.items() for c in sorted(cases)])
def test_every_formulation_is_the_textbook_convolution(case, formulation):
  size, strides, padding, dilation = CASES[case]
  rng = np.random.default_rng(0)
  x, kernel = rng.standard_normal((2, 6, 8, 9, 3)), rng.standard_normal((*size, 3, 4))
  expected = _textbook(x, kernel, strides, padding, dilation)
  y = convolve(jnp.float32(x), jnp.float32(kernel), strides, padding, dilation, formulation)
  np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
  ("formulation", "width_stride"),
  [("summed_taps", 2), ("folded_taps", 2), ("unfolded", 2), ("winograd", 1), ("summed_taps", 1)],
)
def test_gradients_agree_with_the_direct_formulation(formulation, width_stride):
  rng = np.random.default_rng(1)
  x, kernel = jnp.float32(rng.standard_normal((2, 6, 8, 8, 3))), jnp.float32(rng.standard_normal((3, 3, 3, 3, 4)))

  def gradients(name):
    strides = (2, 2, width_stride)
    loss = lambda x, kernel: (convolve(x, kernel, strides, (2, 1, 1), 2, name) ** 2).sum()
    return jax.jit(jax.grad(loss, argnums=(0, 1)))(x, kernel)

  for found, expected in zip(gradients(formulation), gradients("direct"), strict=True):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))


def test_winograd_at_the_size_of_a_real_layer_rounds_by_a_few_millionths():
  """The first stage of R3D-18 on 2 frames; the reference is the sum of 2-D convolutions."""
  rng = np.random.default_rng(2)
  x = jnp.float32(rng.standard_normal((1, 2, 56, 56, 64)))
  kernel = jnp.float32(rng.standard_normal((3, 3, 3, 64, 64)) / 24)
  run = lambda name: np.asarray(jax.jit(lambda x, k: convolve(x, k, (1, 1, 1), (1, 1, 1), 1, name))(x, kernel))
  exact, fast = run("summed_taps"), run("winograd")
  assert np.abs(fast - exact).max() < 5e-6 * np.abs(exact).max()


@pytest.mark.parametrize("formulation", ["folded_taps", "summed_taps", "winograd", "unfolded"])
def test_neither_forward_nor_gradient_holds_a_3d_convolution(formulation):
  x, kernel = jnp.zeros((1, 4, 8, 8, 3)), jnp.zeros((3, 3, 3, 3, 4))

  def text(name):
    loss = lambda x, kernel: convolve(x, kernel, (1, 1, 1), (1, 1, 1), 1, name).sum()
    return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, kernel).as_text()

  of_3d = lambda name: [line for line in text(name).splitlines() if "stablehlo.convolution" in line and "2, f]" in line]
  assert of_3d("direct") and not of_3d(formulation)


def test_the_platform_decides_the_formulation():
  assert formulation_for("cpu", 3, (56, 56), (7, 7), 2) == "folded_taps"  # the stem of R3D-18
  assert formulation_for("cpu", 64, (56, 56), (3, 3), 1) == "winograd"
  assert formulation_for("cpu", 64, (28, 28), (3, 3), 2) == "folded_taps"
  assert formulation_for("cpu", 128, (14, 14), (3, 3), 2) == "summed_taps"
  assert formulation_for("cpu", 256, (14, 14), (3, 3), 1) == "summed_taps"
  assert formulation_for("cpu", 64, (8, 2), (3, 3), 1) == "unfolded"
  assert formulation_for("cpu", 512, (1, 1), (1, 1), 1) == "summed_taps"
  assert formulation_for("gpu", 3, (2, 2), (3, 3), 1) == "direct"
  assert formulation_for("tpu", 512, (56, 56), (3, 3), 1) == "direct"


def test_low_precision_is_low_precision_and_parameters_are_not():
  layer = Conv3D(4, dtype=jnp.bfloat16)
  x = jnp.ones((1, 4, 5, 5, 2))
  variables = layer.init(jax.random.key(0), x)
  assert variables["params"]["kernel"].dtype == jnp.float32
  assert layer.apply(variables, x).dtype == jnp.bfloat16
