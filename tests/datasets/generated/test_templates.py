"""The sets of motion templates: their order, and that their pairs and the label-mapped flip say what is true."""

import functools

import numpy as np
import pytest

from gasmcast.core.rng import generator
from gasmcast.datasets import labels
from gasmcast.datasets.generated import further_motions, motions, templates
from tests.datasets.generated.pose_statistics import ALIKE, distance, sample

SET = templates.SETS["twenty_four"]
CLASS_NAMES = [name.replace("[", "").replace("]", "") for name in SET.names]


def mirrored(motion):
  return lambda phase: tuple(motions.mirrored(pose) for pose in motion(phase))


def reversed_in_time(motion):
  return lambda phase: motion(1.0 - phase)


@functools.cache
def drawn(template):
  return sample(template, "drawn")


def test_the_larger_set_begins_with_the_smaller_one():
  assert templates.SETS["twelve"].names == SET.names[:12] == motions.TEMPLATES
  assert len(set(SET.names)) == len(SET.names) == 24


def test_pairs_name_classes_of_their_own_set_and_leave_none_out():
  for found in templates.SETS.values():
    paired = {name for pairs in found.pairs.values() for pair in pairs for name in pair}
    assert paired == set(found.names)
  assert set(templates.SETS["twelve"].pairs) == {"mirrored", "reversed in time"}  # as before there was a larger one


@pytest.mark.parametrize("template", SET.names)
def test_every_placeholder_has_a_pose_at_every_moment(template):
  motion = templates.motion(template, generator(0, "motion"))
  assert {len(motion(phase)) for phase in (0.0, 0.5, 1.0)} == {motions.objects_needed(template)}


def test_the_flip_exchanges_the_classes_of_the_mirrored_pairs_and_no_others():
  numbers = {name: number for number, name in enumerate(SET.names)}
  pairs = [(numbers[first], numbers[second]) for first, second in SET.pairs["mirrored"]]
  assert labels.mirrored_pairs(CLASS_NAMES) == tuple(pairs) == ((0, 1), (6, 7), (12, 13), (14, 15))
  expected = np.arange(24)
  for first, second in pairs:
    expected[[first, second]] = second, first
  assert labels.flip_map(CLASS_NAMES).tolist() == expected.tolist()


@pytest.mark.parametrize("template", SET.names)
def test_a_class_seen_in_a_mirror_is_the_class_that_the_flip_gives_it(template):
  in_mirror = sample(template, "mirrored", mirrored)
  image = SET.names[labels.flip_map(CLASS_NAMES)[SET.names.index(template)]]
  assert distance(in_mirror, drawn(image)) < ALIKE
  if image != template:
    assert distance(in_mirror, drawn(template)) > 0.9


@pytest.mark.parametrize("pair", SET.pairs["reversed in time"])
def test_a_class_played_backwards_is_the_other_of_its_pair(pair):
  for template, other in (pair, pair[::-1]):
    backwards = sample(template, "backwards", reversed_in_time)
    assert distance(backwards, drawn(other)) < ALIKE
    assert distance(backwards, drawn(template)) > 0.9


@pytest.mark.parametrize("template", [name for pair in further_motions.MIRRORED_ONLY for name in pair])
def test_a_class_that_is_mirrored_only_is_no_class_when_played_backwards(template):
  backwards = sample(template, "backwards", reversed_in_time)
  assert min(distance(backwards, drawn(other)) for other in SET.names) > 0.9


@pytest.mark.parametrize("pair", further_motions.MIRRORED_ONLY)
def test_how_a_class_that_is_mirrored_only_begins_does_not_tell_the_side(pair):
  first_frame = slice(6 * motions.objects_needed(pair[0]))  # the numbers of the poses at phase 0
  assert distance(drawn(pair[0])[:, first_frame], drawn(pair[1])[:, first_frame]) < ALIKE


@pytest.mark.parametrize("kind", ["order of events", "nearer or farther"])
def test_the_classes_of_the_other_kinds_stay_themselves_when_played_backwards(kind):
  for template in (name for pair in SET.pairs[kind] for name in pair):
    assert distance(sample(template, "backwards", reversed_in_time), drawn(template)) < ALIKE


def test_no_two_classes_are_alike():
  """Or the tests above would say little."""
  for number, template in enumerate(SET.names):
    assert min([1.0, *(distance(drawn(template), drawn(other)) for other in SET.names[:number])]) > 0.9
