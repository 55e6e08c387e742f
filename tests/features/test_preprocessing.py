"""What a backbone sees of uint8 frames."""

import jax.numpy as jnp
import numpy as np

from gasmcast.features.preprocessing import IMAGENET, KINETICS, Normalisation, prepare, with_margin


def test_scale_and_normalisation_by_hand():
  frames = jnp.zeros((1, 1, 2, 2, 3), jnp.uint8).at[..., 0].set(255)
  x = prepare(frames, 2, IMAGENET)
  np.testing.assert_allclose(x[0, 0, 0, 0], [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5)


def test_shrinking_averages():
  """A checkerboard of black and white becomes grey: nothing aliases."""
  board = (np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8)
  frames = jnp.asarray(np.broadcast_to(board[None, None, :, :, None], (1, 2, 8, 8, 3)))
  x = prepare(frames, 2, KINETICS) * np.array(KINETICS.std) + np.array(KINETICS.mean)
  np.testing.assert_allclose(x, 0.5, atol=0.02)


def _ramp(height, width):
  """Red is the column's number, green the row's."""
  rows, columns = np.indices((height, width))
  frame = np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8)
  return jnp.asarray(frame[None, None])


def _seen(frames, size, short_side=None):
  """Columns and rows that are seen."""
  return np.asarray(prepare(frames, size, Normalisation((0, 0, 0), (1, 1, 1)), short_side)[0, 0] * 255)


def test_the_short_side_is_resized_and_the_centre_taken():
  """20 x 16 pixels at a short side of 16 need no resizing; 14 of them are seen from row 3 and column 1 on."""
  x = _seen(_ramp(20, 16), 14, 16)
  np.testing.assert_allclose(x[0, :, 0], np.arange(1, 15), atol=1e-4)
  np.testing.assert_allclose(x[:, 0, 1], np.arange(3, 17), atol=1e-4)


def test_the_short_side_decides_whichever_it_is():
  """32 x 64 pixels at half the size: pixel k is the mean of 2k and 2k + 1 away from the edges."""
  x = _seen(_ramp(32, 64), 16)
  np.testing.assert_allclose(x[8, :, 0], 16.5 + 2 * np.arange(16), atol=0.2)
  np.testing.assert_allclose(x[2:-2, 8, 1], 0.5 + 2 * np.arange(2, 14), atol=0.2)


def test_frames_of_the_right_size_are_taken_as_they_are():
  np.testing.assert_allclose(_seen(_ramp(14, 14), 14, 16)[..., :2], np.asarray(_ramp(14, 14))[0, 0, ..., :2], atol=1e-4)


def test_the_margin_of_published_evaluations():
  assert [with_margin(size) for size in (224, 112, 256)] == [256, 128, 292]
