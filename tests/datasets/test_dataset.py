"""What every reader ends with."""

import dataclasses
import pathlib

import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.core.types import Example
from gasmcast.datasets.dataset import make_dataset, require_folder, require_labels, require_split

EXAMPLE = Example("1", "/data/a.mp4", {"action": 0}, 1.0, 2.0, "p", {"speed": 0.5}, None)
CLASSES = {"action": ("run", "jump")}


def make(example=EXAMPLE, root="/data", classes=CLASSES, values=("speed",), name="mine", split="train"):
  return make_dataset(name, split, pathlib.Path(root), [example], classes, values)


def test_the_fingerprint_changes_with_everything_that_an_example_says():
  changes = [
    *({"id": "2"}, {"path": "/data/b.mp4"}, {"labels": {"action": 1}}, {"start": 0.0}, {"stop": None}, {"group": ""}),
    *({"values": {"speed": 0.25}}, {"rate": 12.0}),
  ]
  datasets = [make(), *(make(dataclasses.replace(EXAMPLE, **change)) for change in changes)]
  datasets += [make(classes={"action": ("jump", "run")}), make(values=()), make(name="x"), make(split="test")]
  assert len({dataset.fingerprint for dataset in datasets}) == 1 + len(changes) + 4


def test_the_fingerprint_does_not_change_with_the_place():
  assert make().fingerprint == make(dataclasses.replace(EXAMPLE, path="/x/y/a.mp4"), root="/x/y").fingerprint


def test_answers_are_needed_of_every_label_and_value():
  require_labels(make())
  for change in ({"labels": {}}, {"values": {}}):
    with pytest.raises(
      DataError, match=r"^mine: 1 of 1 examples of the split 'train' have no answers \(the first: '1'\)"
    ):
      require_labels(make(dataclasses.replace(EXAMPLE, **change)))
  with pytest.raises(DataError, match=r"add the file that holds them, or run --job predict"):
    require_labels(make(dataclasses.replace(EXAMPLE, labels={}, values={}), classes={}, values=()))


def test_what_can_not_be_a_data_set_is_refused(tmp_path):
  with pytest.raises(DataError, match=r"gives no examples for the split 'train'; a split needs at least one"):
    make_dataset("mine", "train", tmp_path, [], CLASSES)
  with pytest.raises(ConfigError, match=r"split = 'val' is none of train, validation, test"):
    require_split("val")
  with pytest.raises(DataError, match=r"none is not a folder; give the one that holds videos"):
    require_folder(tmp_path / "none", "videos")
