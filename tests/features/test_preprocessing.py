"""What a backbone sees of uint8 frames."""

import jax.numpy as jnp
import numpy as np

from gasmcast.features.preprocessing import IMAGENET, KINETICS, prepare


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
