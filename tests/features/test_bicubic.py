"""Bicubic resampling: weights by hand, what it keeps, and PyTorch's own answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.features.bicubic import resample, resample_matrix

SIZES = [(37, 16), (37, 36), (37, 74), (37, 1), (5, 5), (3, 64)]


def test_weights_of_a_halved_row_by_hand():
  """Targets lie midway between two cells: Keys' kernel with a = -3/4 is 19/32 at 1/2 and -3/32 at 3/2, and the cell
  beyond the border is the border's again."""
  expected = [[16 / 32, 19 / 32, -3 / 32, 0], [0, -3 / 32, 19 / 32, 16 / 32]]
  np.testing.assert_allclose(resample_matrix(4, 2, antialias=False), expected, atol=1e-7)


def test_antialiased_weights_of_a_halved_row_by_hand():
  """The kernel with a = -1/2 is twice as wide: 111/128 at 1/4, 29/128 at 3/4, -9/128 at 5/4; the sum inside is 1."""
  row = np.array([111, 111, 29, -9]) / 242
  np.testing.assert_allclose(resample_matrix(4, 2, antialias=True), [row, row[::-1]], atol=1e-7)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_a_constant_stays_and_a_mirror_image_too(source, target, antialias):
  weights = resample_matrix(source, target, antialias)
  np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
  np.testing.assert_allclose(weights[::-1, ::-1], weights, atol=1e-6)


@pytest.mark.parametrize("antialias", [False, True])
def test_the_same_size_changes_nothing(antialias):
  np.testing.assert_allclose(resample_matrix(37, 37, antialias), np.eye(37), atol=1e-6)
  grid = jnp.float32(np.random.default_rng(0).standard_normal((4, 5, 2)))
  np.testing.assert_array_equal(resample(grid, 4, 5, antialias), grid)


@pytest.mark.parametrize(("antialias", "error"), [(True, 0), (False, 3 / 64)])
def test_a_ramp_stays_a_ramp_away_from_the_border_for_one_of_the_kernels(antialias, error):
  """Keys' kernel is exact for it with a = -1/2 alone; with -3/4, a quarter of the way from a cell, it is 3/64 off."""
  ramp = resample_matrix(32, 64, antialias) @ np.arange(32.0)
  np.testing.assert_allclose(np.abs(ramp - (np.arange(64) / 2 - 0.25))[4:-4], error, atol=1e-5)


def test_rows_and_columns_are_not_mixed_up():
  grid = jnp.stack(jnp.meshgrid(jnp.arange(12.0), jnp.arange(8.0), indexing="ij"), -1)
  shrunk = resample(grid, 6, 2, antialias=True)
  assert shrunk.shape == (6, 2, 2)
  assert float(jnp.ptp(shrunk[..., 0], 1).max()) < 1e-5  # the first channel counts rows
  assert float(jnp.ptp(shrunk[..., 1], 0).max()) < 1e-5


def test_every_stored_cell_is_trained_at_a_quarter_of_the_size():
  gradient = jax.grad(lambda grid: resample(grid, 3, 2, antialias=True).sum())(jnp.zeros((12, 8, 1)))
  np.testing.assert_allclose(gradient.sum(), 6, rtol=1e-5)
  assert float(gradient.min()) > 0


@pytest.mark.torch
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (18, 23), (74, 50), (36, 38), (2, 3), (37, 1)])
def test_weights_are_those_of_pytorch(rows, columns, antialias):
  torch = pytest.importorskip("torch")
  grid = np.float32(np.random.default_rng(0).standard_normal((37, 37, 8)))
  expected = torch.nn.functional.interpolate(
    torch.from_numpy(grid).permute(2, 0, 1)[None], size=(rows, columns), mode="bicubic", antialias=antialias
  )
  expected = expected[0].permute(1, 2, 0).numpy()
  error = np.abs(np.asarray(resample(grid, rows, columns, antialias)) - expected).max() / np.abs(expected).max()
  assert error < 1e-5  # PyTorch finds the places in float32, which costs 3e-6
