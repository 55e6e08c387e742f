"""Recipes with more classes, distractors, a moving camera and families of backgrounds: whole, fair, and told apart."""

import dataclasses
import json

import numpy as np
import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.datasets import labels, something_something
from gasmcast.datasets.generated import moving_objects, rendering, templates
from gasmcast.datasets.generated.moving_objects import SPLITS, Recipe, generate

EASY = Recipe(seed=3, train=24, validation=24, test=24, height=40, width=44, frames_min=6, frames_max=8)
HARD = dataclasses.replace(EASY, templates="twenty_four", distractors=3, camera=0.15, zoom=0.1, backgrounds="families")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("generated") / "hard"
  generate(folder, HARD, workers=1)
  return folder


def test_the_reader_finds_24_classes_and_what_sets_them_apart(root):
  test = something_something.load(root, "test")
  names = test.classes["action"]
  assert len(names) == 24 and names[12] == "Moving something to the left of something"
  assert [example.labels["action"] for example in test.examples] == list(range(24))
  assert test.pairs["mirrored"] == ((0, 1), (6, 7), (12, 13), (14, 15)) == labels.mirrored_pairs(names)
  assert test.pairs["reversed in time"] == (*((i, i + 1) for i in range(0, 12, 2)), (16, 17), (18, 19))
  assert test.pairs["order of events"] == ((20, 21),)
  assert test.pairs["nearer or farther"] == ((22, 23),)


def test_annotations_tell_the_actors_and_no_distractor(root):
  entry = json.loads((root / "train.json").read_text())[22]
  assert entry["template"] == "Moving [something] behind [something]"
  assert entry["label"] == "moving {} behind {}".format(*entry["placeholders"])


def test_the_same_recipe_gives_the_same_pixels(root, tmp_path):
  first = json.loads((root / "dataset.json").read_text())
  assert first["recipe"]["backgrounds"] == "families" and first["version"] == 1
  assert generate(tmp_path / "again", HARD, workers=1)["pixels"] == first["pixels"]


@pytest.mark.parametrize(
  "fields",
  [{"distractors": 2}, {"camera": 0.1}, {"zoom": 0.1}, {"backgrounds": "families"}, {"templates": "twenty_four"}],
)
def test_every_field_changes_the_pixels_on_its_own(fields):
  changed = dataclasses.replace(EASY, **fields)
  before, after = (moving_objects._plan(recipe)[13] for recipe in (EASY, changed))
  frames = moving_objects._render(before, EASY), moving_objects._render(after, changed)
  assert np.abs(frames[0].astype(int) - frames[1]).mean() > 0.5


def test_no_kind_of_object_and_no_family_of_backgrounds_stands_in_two_splits():
  clips = moving_objects._plan(dataclasses.replace(HARD, train=240, validation=48, test=48))
  kinds, families = {}, {}
  for split in SPLITS:
    own = [clip for clip in clips if clip.split == split]
    kinds[split] = {kind for clip in own for kind in (*clip.kinds, *clip.distractors)}
    families[split] = {clip.background for clip in own}
  for tree in (kinds, families):
    assert sum(map(len, tree.values())) == len(set().union(*tree.values()))
  assert {split: len(names) for split, names in families.items()} == {"train": 6, "validation": 2, "test": 2}


def test_distractors_are_of_other_kinds_than_the_actors():
  for clip in moving_objects._plan(HARD):
    assert len({*clip.kinds, *clip.distractors}) == len(clip.kinds) + 3


def test_the_actors_are_the_same_with_and_without_distractors_and_a_moving_camera(monkeypatch):
  monkeypatch.setattr(rendering, "render", lambda motion, sprites, frames, *_: (motion(0.3), sprites, frames))
  with_them = dataclasses.replace(EASY, distractors=3, camera=0.2, zoom=0.2)
  for plain, busy in zip(moving_objects._plan(EASY)[::7], moving_objects._plan(with_them)[::7], strict=True):
    poses, sprites, frames = moving_objects._render(plain, EASY)
    others = moving_objects._render(busy, with_them)
    assert (poses, frames) == (others[0], others[2])
    assert all(np.array_equal(*pair) for pair in zip(sprites, others[1], strict=True))


def test_camera_and_number_of_distractors_say_nothing_about_the_class():
  """One clip as each of the classes: the same camera, as many distractors."""
  clip = moving_objects._plan(HARD)[0]
  seen = set()
  for template in templates.SETS["twenty_four"].names:
    kinds = (clip.kinds[0],) * template.count("[something]")
    changed = dataclasses.replace(clip, template=template, kinds=kinds)
    motion = templates.motion(template, np.random.default_rng(0))
    around = moving_objects._surroundings(changed, HARD, motion)
    seen.add((len(around.distractors), around.camera(0.0), around.camera(0.7), around.background))
  assert len(seen) == 1


def test_the_camera_pans_alike_in_all_classes():
  recipe = dataclasses.replace(HARD, train=24 * 40)
  pans = {}
  for clip in moving_objects._plan(recipe)[: recipe.train]:
    around = moving_objects._surroundings(dataclasses.replace(clip, distractors=()), recipe, lambda phase: ())
    begin, end = around.camera(0.0), around.camera(1.0)
    pans.setdefault(clip.template, []).append((end.x - begin.x, end.y - begin.y))
  assert len(pans) == 24
  for found in pans.values():
    assert np.hypot(*np.transpose(found)) == pytest.approx(0.15)
    assert np.hypot(*np.mean(found, 0)) < 0.55 * 0.15  # of 40 random directions: exceeded once in 180,000


def test_a_folder_from_before_the_harder_setting_is_refused(root, tmp_path):
  recipe = json.loads((root / "dataset.json").read_text())
  for name in ("templates", "distractors", "camera", "zoom", "backgrounds"):
    del recipe["recipe"][name]
  (tmp_path / "old").mkdir()
  (tmp_path / "old" / "dataset.json").write_text(json.dumps(recipe))
  with pytest.raises(DataError, match=r"made by another recipe \(dataset.recipe.backgrounds: None -> 'families'"):
    generate(tmp_path / "old", HARD, workers=1)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"templates": "twenty_four", "test": 23}, "recipe.test = 23: a split needs a clip of each of the 24 classes"),
    ({"distractors": 6}, "recipe.distractors = 6: there is room for 5; use 0 to 5"),
    ({"camera": 0.3}, "recipe.camera = 0.3, zoom = 0.0: the camera must move less than the objects do; use 0 to 0.25"),
    ({"zoom": -0.1}, "zoom = -0.1: the camera must move less"),
  ],
)
def test_impossible_recipes_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    Recipe(**fields)
