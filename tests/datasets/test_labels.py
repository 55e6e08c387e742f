"""The mirror image of a class is told by its name."""

import json

import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.datasets.labels import flip_map, mirrored_pairs


@pytest.mark.parametrize(
  ("names", "expected"),
  [
    (["Pulling from left to right", "Pulling from right to left", "Waving"], [1, 0, 2]),
    (["Turning clockwise", "Waving", "Turning counterclockwise"], [2, 1, 0]),
    (["Turning anticlockwise", "Turning clockwise"], [1, 0]),
    (["turn counter-clockwise", "turn clockwise"], [1, 0]),
    (["left turn clockwise", "right turn anticlockwise", "leftwards", "rightwards"], [1, 0, 3, 2]),
    (["Left hand up", "right Hand UP"], [1, 0]),
    (["Eating leftovers", "Standing upright", "Brightening"], [0, 1, 2]),  # no whole word
    (["Pulling it right out", "Going right away"], [0, 1]),  # at once
    (["Going right out", "Going left out"], [1, 0]),  # not if the mirror image is a class
    (["waving", "Waving"], [0, 1]),
    ([], []),
  ],
)
def test_directions_are_exchanged_as_whole_words(names, expected):
  assert flip_map(names).tolist() == expected


def test_a_direction_without_mirror_class_is_refused():
  with pytest.raises(
    ConfigError, match=r"'pushing left' has a direction .*\('pushing right'\); turn .* off \(flip = 0\)"
  ):
    flip_map(["Waving", "Pushing left"])


def test_two_spellings_of_one_class_are_refused():
  with pytest.raises(ConfigError, match=r"'anticlockwise' mirrors to 'clockwise', which mirrors to 'counterclockwise'"):
    flip_map(["clockwise", "counterclockwise", "anticlockwise"])


@pytest.mark.parametrize(
  ("names", "expected"),
  [
    (["from left to right", "Waving", "From right to left"], ((0, 2),)),
    (["pushing left", "Waving"], ()),  # no mirror image among the classes
    (["clockwise", "anticlockwise", "counterclockwise"], ((0, 1), (0, 2))),  # any of its spellings
    (["waving", "Waving", "leftover"], ()),
    ([], ()),
  ],
)
def test_mirrored_pairs_are_told_by_their_names_and_nothing_is_refused(names, expected):
  assert mirrored_pairs(names) == expected


def test_something_something_has_three_pairs(shared_data):
  labels = json.loads((shared_data / "annotations" / "ssv2" / "labels.json").read_text())
  names = sorted(labels, key=lambda name: int(labels[name]))
  pairs = {(names[index], names[other]) for index, other in enumerate(flip_map(names).tolist()) if index < other}
  assert pairs == {
    ("Pulling something from left to right", "Pulling something from right to left"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    ("Turning the camera left while filming something", "Turning the camera right while filming something"),
  }
