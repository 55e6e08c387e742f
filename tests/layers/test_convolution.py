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
}


@pytest.mark.parametrize("formulation", ["direct", "summed_taps", "folded_taps", "unfolded"])
@pytest.mark.parametrize("case", CASES)
def test_every_formulation_is_the_textbook_convolution(case, formulation):
  size, strides, padding, dilation = CASES[case]
  rng = np.random.default_rng(0)
  x, kernel = rng.standard_normal((2, 6, 8, 9, 3)), rng.standard_normal((*size, 3, 4))
  expected = _textbook(x, kernel, strides, padding, dilation)
  y = convolve(jnp.float32(x), jnp.float32(kernel), strides, padding, dilation, formulation)
  np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("formulation", ["summed_taps", "folded_taps", "unfolded"])
def test_gradients_agree_with_the_direct_formulation(formulation):
  rng = np.random.default_rng(1)
  x, kernel = jnp.float32(rng.standard_normal((2, 6, 8, 8, 3))), jnp.float32(rng.standard_normal((3, 3, 3, 3, 4)))

  def gradients(name):
    loss = lambda x, kernel: (convolve(x, kernel, (2, 2, 2), (2, 1, 1), 2, name) ** 2).sum()
    return jax.jit(jax.grad(loss, argnums=(0, 1)))(x, kernel)

  for found, expected in zip(gradients(formulation), gradients("direct"), strict=True):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))


def test_the_platform_decides_the_formulation():
  assert formulation_for("cpu", 3, (8, 8), (7, 7)) == "folded_taps"
  assert formulation_for("cpu", 64, (8, 8), (3, 3)) == "summed_taps"
  assert formulation_for("cpu", 64, (8, 2), (3, 3)) == "unfolded"
  assert formulation_for("gpu", 3, (2, 2), (3, 3)) == formulation_for("tpu", 512, (8, 8), (3, 3)) == "direct"


def test_low_precision_is_low_precision_and_parameters_are_not():
  layer = Conv3D(4, dtype=jnp.bfloat16)
  x = jnp.ones((1, 4, 5, 5, 2))
  variables = layer.init(jax.random.key(0), x)
  assert variables["params"]["kernel"].dtype == jnp.float32
  assert layer.apply(variables, x).dtype == jnp.bfloat16
