"""Numbers that can be redone by hand."""

import numpy as np
import pytest

from gasmcast.videos.sample import centre_frames, frame_range, random_frames


def test_sixteen_of_48_are_the_middles_of_parts_of_three():
  assert centre_frames(48, 16).tolist() == [1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 46]


def test_sixteen_of_10_repeat_frames():
  assert centre_frames(10, 16).tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5, 5, 6, 7, 7, 8, 9, 9]


def test_one_frame_is_the_middle_one_and_one_frame_can_be_repeated():
  assert centre_frames(49, 1).tolist() == [24]
  assert centre_frames(1, 4).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("total", [1, 7, 8, 16, 31, 97])
def test_drawn_frames_stay_in_their_parts_and_every_frame_can_come(total):
  draws = np.stack([random_frames(total, 8, np.random.default_rng(seed)) for seed in range(600)])
  for part in range(8):
    low, high = part * total // 8, (part + 1) * total // 8
    assert set(draws[:, part].tolist()) == set(range(low, max(high, low + 1)))


def test_parts_are_drawn_uniformly():
  draws = np.concatenate([random_frames(6, 2, np.random.default_rng(seed)) for seed in range(3000)])
  # Six frames, each expected 1000 times with standard deviation sqrt(3000 * 1/3 * 2/3) = 26.
  assert np.abs(np.bincount(draws) - 1000).max() < 130


def test_the_same_generator_state_gives_the_same_frames():
  first, second = (random_frames(48, 16, np.random.default_rng(5)) for _ in range(2))
  assert first.tolist() == second.tolist()


@pytest.mark.parametrize(("total", "count"), [(0, 4), (4, 0)])
def test_nothing_can_be_chosen_from_nothing(total, count):
  with pytest.raises(ValueError, match=f"{count} frames of a video of {total} frames"):
    centre_frames(total, count)


@pytest.mark.parametrize(
  ("start", "stop", "rate", "expected"),
  [
    (None, None, 30.0, (0, None)),
    (1.0, 2.0, 12.0, (12, 24)),
    (None, 0.5, 12.0, (0, 6)),
    (2.0, None, 12.0, (24, None)),
    (0.52, 0.53, 12.0, (6, 7)),  # shorter than a frame: the one on the screen
    (0.99, 1.01, 10.0, (9, 11)),  # frame 9 until 1.0 s, then frame 10
    (4.35, 4.36, 100.0, (435, 436)),  # 4.35 * 100 is 434.99999999999994 in floating point
  ],
)
def test_seconds_become_the_frames_on_the_screen(start, stop, rate, expected):
  assert frame_range(start, stop, rate) == expected
