"""The second twelve templates do what their names say, and can be seen to."""

import dataclasses
import itertools

import numpy as np
import pytest

from gasmcast.core.rng import generator
from gasmcast.datasets.generated import further_motions, rendering
from gasmcast.datasets.generated.further_motions import TEMPLATES, motion

SEEDS = range(30)
BEHIND, IN_FRONT = further_motions.NEARER_OR_FARTHER[0]


def _poses(template, seed):
  return motion(template, generator(seed, "motion"))


def _gap(first, second):
  """Between the circles around two objects."""
  return np.hypot(first.x - second.x, first.y - second.y) - (first.scale + second.scale) / 2


@pytest.mark.parametrize("pair", further_motions.MIRRORED_ONLY)
def test_left_is_right_in_a_mirror(pair):
  for phase in (0.0, 0.4, 1.0):
    for left, right in zip(_poses(pair[0], 0)(phase), _poses(pair[1], 0)(phase), strict=True):
      mirrored = dataclasses.replace(right, x=-right.x, angle=np.pi - right.angle)
      np.testing.assert_allclose(dataclasses.astuple(left), dataclasses.astuple(mirrored), rtol=1e-12)


@pytest.mark.parametrize("pair", further_motions.REVERSED_ONLY)
def test_the_second_of_a_pair_is_the_first_backwards(pair):
  for phase in (0.0, 0.4, 1.0):
    assert _poses(pair[0], 0)(phase) == _poses(pair[1], 0)(1.0 - phase)


def test_moving_to_the_right_of_begins_above_or_below_and_ends_beside():
  for seed in SEEDS:
    poses = _poses("Moving [something] to the right of [something]", seed)
    (first, rests), (last, still) = poses(0.0), poses(1.0)
    assert rests == still
    assert abs(first.x - rests.x) < 0.07 and _gap(first, rests) > 0.1
    assert 0.2 < last.x - rests.x < 0.35 and last.y == pytest.approx(rests.y) and _gap(last, rests) < 0.06
  begins = [_poses("Moving [something] to the right of [something]", seed)(0.0)[0].y > 0 for seed in range(100)]
  assert 0.3 < np.mean(begins) < 0.7


def test_tipping_begins_upright_and_ends_flat_at_the_same_floor():
  for seed in SEEDS:
    poses = _poses("Tipping [something] over to the right", seed)
    ((first,), (last,)) = poses(0.0), poses(1.0)
    assert poses(0.15)[0] == first  # it stands for a while
    assert abs(np.cos(first.angle)) < 0.1 and abs(np.sin(last.angle)) < 0.1
    assert last.angle - first.angle == pytest.approx(np.pi / 2)  # clockwise
    assert last.x - first.x > 0.2 and last.y > first.y
  ends_up = [_poses("Tipping [something] over to the right", seed)(0.0)[0].angle < 0 for seed in range(100)]
  assert 0.3 < np.mean(ends_up) < 0.7  # so which end is up says nothing


def test_what_is_put_onto_something_comes_from_above_and_ends_on_top_of_it():
  for seed in SEEDS:
    poses = _poses("Putting [something] onto [something]", seed)
    (first, rests), (last, still) = poses(0.0), poses(1.0)
    assert rests == still and first.y < last.y - 0.3 and abs(first.x - last.x) > 0.2
    assert abs(last.x - rests.x) < 0.07 and 0.15 < rests.y - last.y < 0.2


def test_pushing_moves_the_object_only_from_the_touch_on_and_away_from_the_pusher():
  for seed in SEEDS:
    poses = _poses("Pushing [something] with [something]", seed)
    pushed, pusher = zip(*(poses(phase) for phase in np.linspace(0, 1, 101)), strict=True)
    moves = np.array([np.hypot(b.x - a.x, b.y - a.y) for a, b in itertools.pairwise(pushed)])
    touches = np.array([_gap(*both) < 0 for both in zip(pushed, pusher, strict=True)])
    assert not touches[0] and touches[-1] and moves[0] == 0
    assert np.all(touches[:-1][moves > 0])
    assert 0.29 < np.hypot(pushed[-1].x - pushed[0].x, pushed[-1].y - pushed[0].y) < 0.37
    assert _gap(pushed[-1], pusher[0]) > _gap(pushed[0], pusher[0])


def test_lifting_goes_up_and_comes_back_and_lowering_goes_down():
  lifting, lowering = further_motions.ORDER_OF_EVENTS[0]
  for seed in SEEDS:
    for template, direction in ((lifting, -1), (lowering, 1)):  # y grows downwards
      heights = [_poses(template, seed)(phase)[0].y for phase in (0.0, 0.5, 1.0)]
      assert heights[0] == pytest.approx(heights[2])
      assert 0.37 < direction * (heights[1] - heights[0]) < 0.51


def test_frames_without_their_order_hardly_tell_lifting_from_lowering():
  """The share of frames in the upper half is the same on average, and varies from clip to clip."""
  above = {template: [] for template in further_motions.ORDER_OF_EVENTS[0]}
  for template, shares in above.items():
    for seed in range(300):
      phases = rendering._phases(20, generator(seed, "phases"))
      heights = np.array([_poses(template, seed)(phase)[0].y for phase in phases])
      shares.append(np.mean(heights < (heights.min() + heights.max()) / 2))
  lifting, lowering = (np.array(shares) for shares in above.values())
  assert abs(lifting.mean() - lowering.mean()) < 0.03 < 0.05 < lifting.std()


def test_what_moves_behind_is_on_the_lower_layer_and_passes_over_the_place_of_the_other():
  for seed in SEEDS:
    for template, sign in ((BEHIND, -1), (IN_FRONT, 1)):
      poses = _poses(template, seed)
      moved, rests = poses(0.5)
      assert np.sign(moved.layer - rests.layer) == sign
      assert np.hypot(moved.x - rests.x, moved.y - rests.y) < 0.08
      assert min(_gap(*poses(0.0)), _gap(*poses(1.0))) > 0
      (first, _), (last, _) = poses(0.0), poses(1.0)
      assert (first.x - rests.x) * (last.x - rests.x) + (first.y - rests.y) * (last.y - rests.y) < 0


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_actor_leaves_the_image_even_when_the_camera_pans_by_015(template):
  """Its centre stays in an image of 80 x 88, whatever the direction of the pan, which is centred in time."""
  for seed in SEEDS:
    for phase in np.linspace(0, 1, 9):
      for pose in _poses(template, seed)(phase):
        assert abs(pose.x) + 0.075 < 0.55 and abs(pose.y) + 0.075 < 0.5
