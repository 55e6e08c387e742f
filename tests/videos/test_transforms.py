"""One decision a clip; geometry and colour that can be checked by eye."""

import numpy as np
import pytest

from gasmcast.videos.transforms import (
  ColourJitter,
  HorizontalFlip,
  RandomResizedCrop,
  ResizeCentreCrop,
  resize,
  short_side_shape,
)


def noise(frames, height, width, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


@pytest.mark.parametrize(
  ("shape", "short_side", "expected"),
  [((240, 320), 120, (120, 160)), ((320, 240), 120, (160, 120)), ((48, 48), 96, (96, 96)), ((3, 5), 2, (2, 3))],
)
def test_the_shorter_side_is_given_and_the_longer_one_rounded_half_up(shape, short_side, expected):
  assert short_side_shape(*shape, short_side) == expected


def test_shrinking_by_two_averages_blocks_of_four():
  image = np.array([[10, 20], [30, 40]], np.uint8)[:, :, None].repeat(3, 2)
  assert resize(image, 1, 1).tolist() == [[[25, 25, 25]]]


def test_resizing_to_the_same_shape_returns_the_image_itself():
  image = noise(1, 6, 4)[0]
  assert resize(image, 6, 4) is image


def test_the_centre_crop_cuts_the_middle_square():
  clip = noise(2, 6, 10)
  np.testing.assert_array_equal(ResizeCentreCrop(6)(clip), clip[:, :, 2:8])
  np.testing.assert_array_equal(ResizeCentreCrop(6)(clip.transpose(0, 2, 1, 3)), clip.transpose(0, 2, 1, 3)[:, 2:8])


@pytest.mark.parametrize("shape", [(24, 32), (33, 17), (5, 9)])
def test_crops_are_squares_of_the_asked_size(shape):
  clip = noise(3, *shape)
  assert ResizeCentreCrop(16)(clip).shape == (3, 16, 16, 3)
  crop = RandomResizedCrop(16, (0.2, 1.0), (0.75, 4 / 3))
  assert crop(clip, np.random.default_rng(0)).shape == (3, 16, 16, 3)


def test_random_boxes_lie_inside_the_frame_with_area_and_ratio_within_bounds():
  crop = RandomResizedCrop(16, (0.25, 0.5), (0.5, 2.0))
  rng = np.random.default_rng(0)
  for _ in range(300):
    top, left, height, width = crop.box(120, 160, rng)
    assert 0 <= top <= top + height <= 120 and 0 <= left <= left + width <= 160
    assert 0.24 < height * width / (120 * 160) < 0.51
    assert 0.49 < width / height < 2.05


def test_a_box_that_never_fits_becomes_the_largest_centred_one():
  # A square of the whole area of a 100 x 400 frame would be 200 x 200.
  assert RandomResizedCrop(16, (1.0, 1.0), (1.0, 1.0)).box(100, 400, np.random.default_rng(0)) == (0, 150, 100, 100)
  assert RandomResizedCrop(16, (1.0, 1.0), (1.0, 1.0)).box(400, 100, np.random.default_rng(0)) == (150, 0, 100, 100)


def test_one_box_and_one_colour_serve_all_frames_of_a_clip():
  still = noise(1, 24, 32).repeat(4, 0)
  rng = np.random.default_rng(3)
  changed = ColourJitter(0.5, 0.5, 0.5)(RandomResizedCrop(16, (0.3, 0.6), (0.75, 1.5))(still, rng), rng)
  assert (changed == changed[:1]).all()


class Fixed:
  """A generator whose uniform draws are given."""

  def __init__(self, *draws):
    self.draws = list(draws)

  def uniform(self, low, high):
    return self.draws.pop(0)


@pytest.mark.parametrize(
  ("draws", "expected"),
  [
    # Two grey pixels 100 and 200 (mean 150).
    ((1.0, 1.0, 1.0), (100, 200)),
    ((1.2, 1.0, 1.0), (120, 240)),
    ((1.5, 1.0, 1.0), (150, 255)),  # 300 is clipped
    ((1.0, 0.5, 1.0), (125, 175)),  # half way to 150
    ((1.0, 1.0, 0.0), (100, 200)),  # grey has no saturation to lose
    ((1.2, 0.5, 0.3), (150, 210)),  # 120 and 240, half way to their mean 180
  ],
)
def test_brightness_and_contrast_of_grey_pixels(draws, expected):
  clip = np.array([[[[100] * 3, [200] * 3]]], np.uint8)
  changed = ColourJitter(0.6, 0.6, 1.0)(clip, Fixed(*draws))
  np.testing.assert_allclose(changed[0, 0, :, 0], expected, atol=1)
  np.testing.assert_allclose(changed[0, 0, :, 2], expected, atol=1)


def test_without_saturation_a_pixel_is_its_luma():
  clip = np.array([[[[200, 100, 50]]]], np.uint8)  # 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
  assert ColourJitter(0.0, 0.0, 1.0)(clip, Fixed(1.0, 1.0, 0.0))[0, 0, 0].tolist() == [124, 124, 124]


def test_half_saturation_is_half_way_to_luma():
  clip = np.array([[[[200, 100, 50]]]], np.uint8)
  changed = ColourJitter(0.0, 0.0, 1.0)(clip, Fixed(1.0, 1.0, 0.5))[0, 0, 0]
  np.testing.assert_allclose(changed, [162, 112, 87], atol=1)


def test_strength_zero_changes_nothing():
  clip = noise(2, 8, 8)
  np.testing.assert_array_equal(ColourJitter(0, 0, 0)(clip, np.random.default_rng(0)), clip)


def test_a_flip_mirrors_every_frame_and_exchanges_the_labels_that_have_a_map():
  clip = noise(2, 3, 4)
  flip = HorizontalFlip(1.0, {"action": np.array([1, 0, 2])})
  frames, labels = flip(clip, {"action": 0, "scene": 5}, np.random.default_rng(0))
  np.testing.assert_array_equal(frames, clip[:, :, ::-1])
  assert labels == {"action": 1, "scene": 5}


def test_a_mirrored_clip_without_an_answer_has_none():
  flip, clip = HorizontalFlip(1.0, {"action": np.array([1, 0])}), noise(1, 4, 6)
  frames, labels = flip(clip, {}, np.random.default_rng(0))
  np.testing.assert_array_equal(frames, clip[:, :, ::-1])
  assert labels == {}


def test_a_flip_happens_with_its_probability():
  flip, clip = HorizontalFlip(0.25, {"action": np.array([1, 0])}), noise(1, 1, 2)
  rng = np.random.default_rng(0)
  mirrored = sum(flip(clip, {"action": 0}, rng)[1]["action"] for _ in range(2000))
  assert abs(mirrored - 500) < 100  # five standard deviations of 19
  assert HorizontalFlip(0.0, {})(clip, {"action": 0}, rng)[0] is clip
