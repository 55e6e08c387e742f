"""Both formulations of the depthwise convolution are one function, and that function is the textbook one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.layers.convolution import depthwise_formulation_for
from gasmcast.layers.depthwise import convolve_depthwise

CASES = {  # height and width of the image, kernel, stride, padding, zeros before and after that it stands for
  "same": ((6, 7), 3, 1, "SAME", ((1, 1), (1, 1))),
  "same, strided": ((6, 7), 3, 2, "SAME", ((0, 1), (1, 1))),
  "same, wide, strided": ((7, 8), 5, 2, "SAME", ((2, 2), (1, 2))),
  "symmetric, strided": ((6, 7), 3, 2, ((1, 1), (1, 1)), ((1, 1), (1, 1))),
  "valid": ((6, 7), 3, 1, "VALID", ((0, 0), (0, 0))),
  "larger than the image": ((1, 2), 5, 1, "SAME", ((2, 2), (2, 2))),
}
_CONVOLVE = jax.jit(convolve_depthwise, static_argnums=(2, 3, 4))


def _textbook(x, kernel, stride, zeros):
  """The definition, loop by loop, in float64."""
  x = np.pad(x, ((0, 0), *zeros, (0, 0)))
  kh, kw = kernel.shape[:2]
  rows, columns = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
  y = np.zeros((x.shape[0], rows, columns, x.shape[3]))
  for i in range(rows):
    for j in range(columns):
      window = x[:, stride * i : stride * i + kh, stride * j : stride * j + kw]
      y[:, i, j] = (window * kernel[:, :, 0]).sum((1, 2))
  return y


@pytest.mark.parametrize("formulation", ["grouped", "summed_taps"])
@pytest.mark.parametrize("case", CASES)
def test_both_formulations_are_the_textbook_convolution(case, formulation):
  size, side, stride, padding, zeros = CASES[case]
  rng = np.random.default_rng(0)
  x, kernel = rng.standard_normal((2, *size, 4)), rng.standard_normal((side, side, 1, 4))
  y = _CONVOLVE(jnp.float32(x), jnp.float32(kernel), stride, padding, formulation)
  np.testing.assert_allclose(y, _textbook(x, kernel, stride, zeros), rtol=0, atol=1e-5)


def test_gradients_of_both_formulations_agree():
  rng = np.random.default_rng(1)
  x, kernel = jnp.float32(rng.standard_normal((2, 6, 7, 4))), jnp.float32(rng.standard_normal((3, 3, 1, 4)))

  def gradients(formulation):
    loss = lambda x, kernel: (convolve_depthwise(x, kernel, 2, "SAME", formulation) ** 2).sum()
    return jax.jit(jax.grad(loss, (0, 1)))(x, kernel)

  for taps, grouped in zip(gradients("summed_taps"), gradients("grouped"), strict=True):
    np.testing.assert_allclose(taps, grouped, rtol=0, atol=1e-4)


def test_taps_in_bfloat16_are_summed_in_float32():
  """25 taps of 1 + 2^-7 make 25 + 25/128, which bfloat16 rounds to 25.25. A sum in bfloat16 comes to 25.125."""
  x, kernel = jnp.full((1, 5, 5, 1), 1 + 2**-7, jnp.bfloat16), jnp.ones((5, 5, 1, 1))
  y = _CONVOLVE(x, kernel, 1, "VALID", "summed_taps")
  assert y.dtype == jnp.bfloat16
  assert float(y[0, 0, 0, 0]) == 25.25


def test_the_formulation_of_each_platform():
  assert depthwise_formulation_for("cpu") == "summed_taps"
  assert depthwise_formulation_for("gpu") == depthwise_formulation_for("tpu") == "grouped"
