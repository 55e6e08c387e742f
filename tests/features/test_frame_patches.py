"""Cutting frames into patches, by hand."""

import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.features.frame_patches import cut, require_patches


def test_patches_go_row_by_row_and_so_do_their_pixels():
  """Pixel (row, column) of a 4 x 6 frame holds 10 * row + column, and 100 more in the second channel."""
  frame = 10 * np.arange(4)[:, None] + np.arange(6)
  frames = np.stack([frame, frame + 100], -1)[None, None]
  patches = cut(frames, 2)
  assert patches.shape == (1, 6, 8)
  np.testing.assert_array_equal(patches[0, 0], [0, 100, 1, 101, 10, 110, 11, 111])
  np.testing.assert_array_equal(patches[0, 2, ::2], [4, 5, 14, 15])
  np.testing.assert_array_equal(patches[0, 3, ::2], [20, 21, 30, 31])


def test_clips_and_frames_become_one_axis_clip_by_clip():
  frames = np.arange(6.0).reshape(2, 3, 1, 1, 1) * np.ones((1, 1, 4, 4, 3))
  np.testing.assert_array_equal(cut(frames, 4)[:, 0, 0], np.arange(6))


@pytest.mark.parametrize(
  ("height", "width", "remedy"), [(230, 224, "224 x 224"), (448, 250, "448 x 240"), (8, 40, "16 x 32")]
)
def test_frames_that_do_not_divide_are_refused_with_a_size_that_does(height, width, remedy):
  with pytest.raises(DataError, match=rf"{height} x {width} pixels do not divide into patches of 16; .* to {remedy}\."):
    require_patches(height, width, 16)
  require_patches(*map(int, remedy.split(" x ")), 16)
