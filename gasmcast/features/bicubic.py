"""Bicubic resampling of a grid as PyTorch does it, by one small matrix a side.

Keys, "Cubic convolution interpolation for digital image processing" (1981). `torch.nn.functional.interpolate` takes
Keys' parameter as -3/4 and repeats the border without antialiasing; with it, it takes -1/2, widens the kernel by the
factor of the reduction and divides by the weights that lie inside. `jax.image.resize` has the latter alone.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_REACH = 2  # of the kernel, in source cells


def resample_matrix(source: int, target: int, antialias: bool) -> np.ndarray:
  """Weights, float32 [target, source], that make `target` cells of `source` cells; every row sums to 1."""
  scale = source / target
  centres = (np.arange(target) + 0.5) * scale - 0.5
  if antialias:
    width = max(scale, 1.0)
    weights = _keys((np.arange(source) - centres[:, None]) / width, -0.5)
    return np.float32(weights / weights.sum(1, keepdims=True))
  first = np.floor(centres).astype(int) - 1
  weights = np.zeros((target, source))
  for tap in range(2 * _REACH):
    at = np.clip(first + tap, 0, source - 1)
    weights[np.arange(target), at] += _keys(first + tap - centres, -0.75)
  return np.float32(weights)


def resample(grid: Float[Array, "h w D"], rows: int, columns: int, antialias: bool) -> Float[Array, "rows columns D"]:
  """The grid at another size, differentiable in its values. Float32 whatever the accelerator's default."""
  height, width, _ = grid.shape
  exact = jax.lax.Precision.HIGHEST
  if rows != height:
    grid = jnp.einsum("rh,hwd->rwd", resample_matrix(height, rows, antialias), grid, precision=exact)
  if columns != width:
    grid = jnp.einsum("cw,rwd->rcd", resample_matrix(width, columns, antialias), grid, precision=exact)
  return grid


def _keys(x: np.ndarray, a: float) -> np.ndarray:
  """Keys' kernel: 1 at 0, 0 at the other whole numbers and beyond 2."""
  x = np.abs(x)
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
  return np.where(x <= 1, near, np.where(x < _REACH, far, 0.0))
