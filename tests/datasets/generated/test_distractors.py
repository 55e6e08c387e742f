"""Distractors can't be taken for actors: smaller, slower, and never where an actor comes."""

import numpy as np
import pytest

from gasmcast.core.rng import generator
from gasmcast.datasets.generated import distractors, templates

NAMES = templates.SETS["twenty_four"].names
ASPECT = 1.1
TIMES = np.linspace(0, 1, 41)


def _scene(template, seed, number=distractors.MOST):
  actors = templates.motion(template, generator(seed, "motion"))
  return actors, distractors.place(number, actors, ASPECT, generator(seed, "distractors"))


def _circles(poses):
  return np.array([(pose.x, pose.y, pose.scale / 2) for pose in poses])


def _gaps(first, second):
  """Between every circle of one list and every one of another."""
  far = np.hypot(first[:, None, 0] - second[None, :, 0], first[:, None, 1] - second[None, :, 1])
  return far - first[:, None, 2] - second[None, :, 2]


@pytest.mark.parametrize("template", NAMES)
def test_they_keep_clear_of_all_places_where_an_actor_ever_is(template):
  for seed in range(8):
    actors, found = _scene(template, seed)
    swept = _circles(pose for time in TIMES for pose in actors(time))
    taken = [_circles(path(time) for time in TIMES) for path in found]
    assert len(found) == distractors.MOST
    for number, circles in enumerate(taken):
      assert _gaps(circles, swept).min() > distractors.FROM_ACTORS - 0.003  # actors were looked at in other moments
      assert np.all(np.abs(circles[:, :2]) < (ASPECT / 2 + 0.03, 0.53))
      for others in taken[:number]:
        assert _gaps(circles, others).min() > distractors.FROM_OTHERS - 1e-9


def test_they_are_smaller_than_any_actor():
  smallest = min(
    pose.scale
    for template in NAMES
    for seed in range(100)
    for time in (0.0, 1.0)
    for pose in templates.motion(template, generator(seed, "motion"))(time)
  )
  sizes = [path(0.0).scale for seed in range(100) for path in _scene(NAMES[0], seed)[1]]
  assert min(sizes) >= distractors.SIZES[0] and max(sizes) <= distractors.SIZES[1]
  assert max(sizes) < smallest


def test_about_half_of_them_rest_and_the_others_drift_far_less_than_any_actor_moves():
  ends = [(path(0.0), path(1.0)) for seed in range(100) for path in _scene(NAMES[0], seed)[1]]
  drifts = np.array([np.hypot(last.x - first.x, last.y - first.y) for first, last in ends])
  assert 0.4 < np.mean(drifts == 0) < 0.6
  assert drifts[drifts > 0].min() > 0.02 and drifts.max() <= distractors.DRIFT
  assert max(abs(last.angle - first.angle) for first, last in ends) <= distractors.TURN
  assert all(first.scale == last.scale for first, last in ends)
  for template in NAMES:
    assert min(_change(template, seed) for seed in range(20)) > 4


def _change(template, seed):
  """How far the busiest actor moves, in units of the longest drift, or turns, in units of the widest turn; or how much
  it grows or shrinks, in tenths."""
  motion = templates.motion(template, generator(seed, "motion"))
  changes = []
  for first, middle, last in zip(motion(0.0), motion(0.5), motion(1.0), strict=True):
    ways = [np.hypot(pose.x - first.x, pose.y - first.y) for pose in (middle, last)]
    turn, growth = abs(last.angle - first.angle), abs(np.log(last.scale / first.scale))
    changes.append(max(max(ways) / distractors.DRIFT, turn / distractors.TURN, growth / 0.1))
  return max(changes)


def test_what_finds_no_room_is_left_out():
  actors, found = _scene("Turning [something] clockwise", 0, number=60)
  assert distractors.MOST < len(found) < 60
  assert distractors.place(0, actors, ASPECT, generator(0, "distractors")) == ()
