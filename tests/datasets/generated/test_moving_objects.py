"""The rendered data set: reproducible, disjoint in its objects, in the layout of Something-Something-V2, and fair."""

import dataclasses
import functools
import json
import pathlib
import re

import cv2
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.core.rng import generator
from gasmcast.datasets import something_something
from gasmcast.datasets.generated import motions, objects
from gasmcast.datasets.generated.moving_objects import Recipe, generate

RECIPE = Recipe(seed=3, train=13, validation=12, test=12, height=40, width=44, frames_min=6, frames_max=8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("generated") / "moving_objects"
  generate(folder, RECIPE, workers=1)
  return folder


def _entries(root, split):
  return json.loads((root / f"{split}.json").read_text())


def test_the_reader_of_something_something_reads_it(root):
  train = something_something.load(root, "train")
  assert len(train.examples) == 13
  assert train.classes["action"][:2] == (
    "Moving something from left to right",
    "Moving something from right to left",
  )
  assert [example.labels["action"] for example in train.examples] == [*range(12), 0]
  assert train.pairs["mirrored"] == ((0, 1), (6, 7))
  assert train.pairs["reversed in time"] == tuple((i, i + 1) for i in range(0, 12, 2))
  capture = cv2.VideoCapture(train.examples[0].path)
  assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (44, 40)
  signature = pathlib.Path(train.examples[0].path).read_bytes()[:4]
  assert signature == b"\x1a\x45\xdf\xa3"  # of a WebM file


def test_annotations_have_the_fields_of_the_original(root):
  entry = _entries(root, "test")[0]
  assert set(entry) == {"id", "label", "template", "placeholders"}
  assert entry["template"] == "Moving [something] from left to right"
  assert entry["label"] == f"moving {entry['placeholders'][0]} from left to right"
  assert re.fullmatch(r"an? [a-z]+ [a-z]+ [a-z]+", entry["placeholders"][0])


def test_no_object_and_no_id_stands_in_two_splits(root):
  kinds, ids = {}, {}
  for split in ("train", "validation", "test"):
    kinds[split] = {name for entry in _entries(root, split) for name in entry["placeholders"]}
    ids[split] = {entry["id"] for entry in _entries(root, split)}
  for tree in (kinds, ids):
    assert not tree["train"] & tree["validation"]
    assert not tree["train"] & tree["test"]
    assert not tree["validation"] & tree["test"]
  assert len(set.union(*ids.values())) == 37


def test_all_kinds_are_dealt_once():
  splits = objects.split_kinds(0, {"train": 0.7, "validation": 0.12, "test": 0.18})
  assert {name: len(kinds) for name, kinds in splits.items()} == {"train": 210, "validation": 36, "test": 54}
  assert len(set().union(*splits.values())) == 300


def test_the_same_recipe_gives_the_same_pixels_and_another_seed_does_not(root, tmp_path):
  first = json.loads((root / "dataset.json").read_text())
  assert generate(tmp_path / "again", RECIPE, workers=2)["pixels"] == first["pixels"]
  other = generate(tmp_path / "other", dataclasses.replace(RECIPE, seed=4), workers=1)
  assert other["pixels"] != first["pixels"]
  assert something_something.load(root, "train").fingerprint == (
    something_something.load(tmp_path / "again", "train").fingerprint
  )


def test_a_whole_data_set_is_found_and_anything_else_is_refused(root, tmp_path):
  assert generate(root, RECIPE, workers=1) == json.loads((root / "dataset.json").read_text())
  with pytest.raises(DataError, match=r"made by another recipe \(dataset.recipe.seed: 3 -> 5\). Remove"):
    generate(root, dataclasses.replace(RECIPE, seed=5), workers=1)
  (tmp_path / "mine").mkdir()
  with pytest.raises(
    DataError, match="mine was not made by the job generate .* is left alone. To use it as it is, run --job train"
  ):
    generate(tmp_path / "mine", RECIPE, workers=1)


def test_a_changed_or_missing_video_is_named(tmp_path):
  folder = tmp_path / "set"
  recipe = dataclasses.replace(RECIPE, train=12)
  generate(folder, recipe, workers=1)
  videos = sorted((folder / "videos").iterdir())
  videos[0].write_bytes(videos[1].read_bytes())
  with pytest.raises(DataError, match=f"{videos[0].name} has changed since it was generated"):
    generate(folder, recipe, workers=1)
  videos[0].unlink()
  with pytest.raises(DataError, match=f"{videos[0].name} is missing"):
    generate(folder, recipe, workers=1)


def test_an_edited_annotation_is_named(tmp_path):
  generate(tmp_path / "set", RECIPE, workers=1)
  (tmp_path / "set" / "labels.json").write_text("{}")
  with pytest.raises(DataError, match=r"labels.json has changed since it was generated"):
    generate(tmp_path / "set", RECIPE, workers=1)


def test_an_interrupted_generation_leaves_nothing_under_the_name(tmp_path):
  def interrupt(done, total):
    assert total == 37
    if done == 3:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    generate(tmp_path / "set", RECIPE, workers=1, progress=interrupt)
  assert list(tmp_path.iterdir()) == []
  assert len(generate(tmp_path / "set", RECIPE, workers=1)["files"]) == 37 + 5  # and the annotations


@pytest.mark.parametrize("pair", motions.PAIRS)
def test_the_second_of_a_pair_is_the_first_backwards(pair):
  forward, backward = (motions.motion(template, generator(0, "motion")) for template in pair)
  for phase in (0.0, 0.3, 1.0):
    for first, second in zip(forward(phase), backward(1.0 - phase), strict=True):
      np.testing.assert_allclose(dataclasses.astuple(first), dataclasses.astuple(second), rtol=1e-12)


def test_motions_do_what_their_names_say():
  for seed in range(20):
    poses = functools.partial(_poses, seed)
    assert poses(0, 1.0)[0].x - poses(0, 0.0)[0].x > 0.4  # left to right
    assert poses(2, 1.0)[0].y - poses(2, 0.0)[0].y > 0.4  # down: y grows downwards
    assert poses(4, 1.0)[0].scale / poses(4, 0.0)[0].scale > 2  # towards the camera
    assert 0.5 < (poses(6, 1.0)[0].angle - poses(6, 0.0)[0].angle) / np.pi < 1  # clockwise on the screen
    target, cover = poses(8, 1.0)
    assert np.hypot(cover.x - target.x, cover.y - target.y) < 1e-9 and cover.scale > 1.5 * target.scale
    assert _gap(poses(10, 1.0)) < 0.5 * _gap(poses(10, 0.0))  # closer to each other


def _poses(seed, template, phase):
  return motions.motion(motions.TEMPLATES[template], generator(seed, "motion"))(phase)


def _gap(poses):
  first, second = poses
  return np.hypot(first.x - second.x, first.y - second.y)


def test_sprites_show_their_outline_and_direction():
  for shape in objects.SHAPES:
    for texture in objects.TEXTURES:
      sprite = objects.draw(objects.ObjectKind("red", texture, shape), generator(0, shape, texture))
      assert sprite.shape == (objects.SPRITE, objects.SPRITE, 4)
      inside = sprite[..., 3] > 127
      assert 0.1 < inside.mean() < 0.75
      turned = sprite[::-1, ::-1].astype(int)
      both = inside & inside[::-1, ::-1]
      assert np.abs(turned - sprite)[both][:, :3].mean() > 10  # half a turn can be seen


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"test": 11}, "recipe.test = 11: a split needs a clip of each of the 12 classes"),
    ({"frames_min": 9, "frames_max": 8}, "need 2 <= frames_min <= frames_max"),
    ({"height": 41}, "must be even and at least 32 pixels"),
  ],
)
def test_impossible_recipes_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    Recipe(**fields)
