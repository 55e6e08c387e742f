"""A folder a class."""

import os

import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.datasets.folder import load

HALVES = {"train": 0.5, "validation": 0.5}


def write(root, *paths):
  for path in paths:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()
  return root


def test_a_split_a_folder(tmp_path):
  paths = ("train/run/b.mp4", "train/run/a.MOV", "train/jump/deeper/c.webm", "val/walk/d.avi", "train/.hidden/e.mp4")
  write(tmp_path, *paths, "train/run/.f.mp4", "train/run/notes.txt", "readme.md")
  dataset = load(tmp_path, "train")
  assert dataset.classes == {"action": ("jump", "run", "walk")}  # of all splits
  assert [(example.id, example.labels["action"]) for example in dataset.examples] == [
    ("jump/deeper/c.webm", 0),
    ("run/a.MOV", 1),
    ("run/b.mp4", 1),
  ]
  assert dataset.examples[0].path == str(tmp_path / "train" / "jump" / "deeper" / "c.webm")
  assert [example.labels["action"] for example in load(tmp_path, "validation").examples] == [2]
  with pytest.raises(DataError, match=r"has no folder for the split 'test'; it has train, validation"):
    load(tmp_path, "test")
  with pytest.raises(ConfigError, match=r"shares = .*, but .* has folders of splits; remove one of the two"):
    load(tmp_path, "train", shares=HALVES)


def test_shares_split_a_folder_the_same_way_each_time_and_whole(tmp_path):
  write(tmp_path, *(f"{name}/{number}.mp4" for name in ("run", "jump") for number in range(30)))
  train, validation = ([e.id for e in load(tmp_path, split, shares=HALVES).examples] for split in HALVES)
  assert (
    not set(train) & set(validation) and len(train) + len(validation) == 60 and min(map(len, (train, validation))) > 15
  )
  assert train == [example.id for example in load(str(tmp_path), "train", shares=HALVES).examples]
  (tmp_path / "run" / "new.mp4").touch()
  assert set(train) <= {example.id for example in load(tmp_path, "train", shares=HALVES).examples}


def test_a_group_stands_in_one_split(tmp_path):
  write(tmp_path, *(f"{name}/person{p}_{n}.mp4" for name in ("run", "jump") for p in range(20) for n in range(3)))
  splits = [load(tmp_path, split, shares=HALVES, group="(person[0-9]+)_").examples for split in HALVES]
  people = [{example.group for example in examples} for examples in splits]
  assert not people[0] & people[1] and len(people[0] | people[1]) == 20
  with pytest.raises(DataError, match=r"run/other.mp4: 'run/other.mp4' does not match group = '\(person\[0-9\]\+\)_'"):
    load(write(tmp_path, "run/other.mp4"), "train", shares=HALVES, group="(person[0-9]+)_")


def test_the_name_of_the_class_is_not_taken_for_a_group(tmp_path):
  write(tmp_path, *(f"person_{name}/{who}_{n}.mp4" for name in ("runs", "jumps") for who in "abcdefgh" for n in "01"))
  splits = [load(tmp_path, split, shares=HALVES, group="([a-z]+)_").examples for split in HALVES]
  assert {example.group for examples in splits for example in examples} == set("abcdefgh")


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path):
  fingerprints = [
    load(write(tmp_path / name, "train/run/a.mp4", *more), "train").fingerprint
    for name, more in (("x", ()), ("y", ()), ("z", ("train/run/b.mp4",)), ("u", ("test/walk/b.mp4",)))
  ]
  assert fingerprints[0] == fingerprints[1] and len(set(fingerprints)) == 3


@pytest.mark.parametrize(
  ("paths", "options", "error", "message"),
  [
    (["run/a.mp4"], {}, ConfigError, r"has no folder train, validation or test; make them, or give shares such as"),
    (
      ["a.mp4"],
      {"shares": HALVES},
      DataError,
      r"holds no folder of a class; put the videos of each class into a folder",
    ),
    (
      ["train/run/a.txt", "train/run/b.zip"],
      {},
      DataError,
      r"'run' has no video \(2 files: '.txt, .zip'\); videos end w",
    ),
    (["train/run/a.mp4", "train/walk/.b.mp4"], {}, DataError, r"the class 'walk' has no video \(it is empty\)"),
    (["train/run/a.mp4", "test/run/.x", "test/run/b"], {}, None, ""),
    (["val/run/a.mp4", "validation/run/b.mp4"], {}, DataError, r"validation and .*val are two folders for one split"),
    (["train/run/a\nb.mp4"], {}, DataError, r"'run/a\\nb.mp4' is no name in plain text; rename the file"),
    (["train/r\x07n/a.mp4"], {}, DataError, r"the folder 'r\\x07n' is no name of a class; rename it"),
    (
      ["run/a.mp4"],
      {"shares": {"train": 0.0, "test": 1.0}},
      DataError,
      r"no examples for the split 'train'; a split n",
    ),
    (["train/run/a.mp4"], {"group": "("}, ConfigError, r"group = '\(' is no regular expression \(missing \), unterm"),
    (["train/run/a.mp4"], {"group": "a"}, ConfigError, r"group = 'a' has 0 parentheses, not 1; write one such as"),
    (["train/run/a.mp4"], {"group": 3}, ConfigError, r"group = 3 is no regular expression"),
  ],
)
def test_what_is_wrong_is_said(tmp_path, paths, options, error, message):
  write(tmp_path, *paths)
  if error is None:
    assert len(load(tmp_path, "train", **options).examples) == 1
  else:
    with pytest.raises(error, match=message) as refusal:
      load(tmp_path, "train", **options)
    assert "\n" not in str(refusal.value)


def test_a_file_name_that_is_no_text_is_refused(tmp_path):
  write(tmp_path, "train/run/a.mp4")
  (tmp_path / "train" / "run" / os.fsdecode(b"\xff.mp4")).touch()
  with pytest.raises(DataError, match=r"'run/\\udcff.mp4' is no name in plain text"):
    load(tmp_path, "train")
