"""The lists of papers: a line a video."""

import json

import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.datasets import something_something
from gasmcast.datasets.frame_list import load

LABELS = {"Moving up": "0", "Moving down": "1"}


def write(root, text, name="train.txt", labels=LABELS, videos=""):
  (root / name).write_text(text)
  if labels is not None:
    (root / "labels.json").write_text(json.dumps(labels))
  if videos:
    (root / videos).mkdir(exist_ok=True)
  return root


def test_ids_of_videos_with_their_number_of_frames(tmp_path):
  dataset = load(write(tmp_path, "78687 54 1\n42326 51 0\n", videos="20bn-something-something-v2"), "train")
  assert [(each.id, each.labels["action"], each.start, each.rate) for each in dataset.examples] == [
    ("78687", 1, None, None),
    ("42326", 0, None, None),
  ]
  assert dataset.examples[0].path == str(tmp_path / "20bn-something-something-v2" / "78687.webm")
  assert dataset.classes == {"action": ("Moving up", "Moving down")}


def test_paths_of_videos(tmp_path):
  dataset = load(write(tmp_path, "a/b.mp4 1\n/c.MP4 0\n", "val.csv"), "validation")
  assert [example.path for example in dataset.examples] == [str(tmp_path / "a" / "b.mp4"), "/c.MP4"]


def test_folders_of_frames_have_the_rate_that_is_given(tmp_path):
  write(tmp_path, "one 30 1\ntwo 12 0\n", "train_videofolder.txt")
  with pytest.raises(ConfigError, match=r"line 1: 'one' is a folder of frames, so how many make a second must be said"):
    load(tmp_path, "train")
  first = load(tmp_path, "train", rate=12).examples[0]
  assert (first.path, first.start, first.stop, first.rate) == (str(tmp_path / "one"), None, 2.5, 12.0)
  first, second = load(
    write(tmp_path, "one 0 30 1\none 30 6 0\n", "mine.txt"), "train", file="mine.txt", rate=12
  ).examples
  assert (first.id, first.start, first.stop) == ("one[0,30)", 0.0, 2.5)
  assert (second.id, second.start, second.stop, second.group) == ("one[30,36)", 2.5, 3.0, "one")


def test_a_test_list_of_one_class_publishes_no_answers(tmp_path):
  write(tmp_path, "1 5 0\n2 5 0\n", "test.txt", videos="videos")
  assert [example.labels for example in load(tmp_path, "test").examples] == [{}, {}]
  assert load(tmp_path, "test", answers=True).examples[0].labels == {"action": 0}
  assert load(write(tmp_path, "1 5 0\n2 5 1\n", "test.txt"), "test").examples[0].labels == {"action": 0}
  assert load(tmp_path, "test", answers=False).examples[0].labels == {}
  assert load(write(tmp_path, "1 5 0\n2 5 0\n"), "train").examples[0].labels == {"action": 0}


@pytest.mark.parametrize(
  ("text", "options", "error", "message"),
  [
    ("1 5 2\n", {}, DataError, r"train.txt, line 1, column label: '2' is no whole number from 0 to 1; correct it"),
    ("1 0 1\n", {}, DataError, r"line 1, column frames: '0' is no whole number of at least 1"),
    ("1 5 1\n\n1 5 1\n", {}, DataError, r"line 3, column path: '1' gives '1', as line 1 does"),
    (
      "1 5 1\n2 1\n",
      {},
      DataError,
      r"line 2: '2 1' has 2 cells; every line is to be 'path label' or 'path frames label'",
    ),
    ("../1 5 1\n", {}, DataError, r"column path: '../1' leads out of"),
    (
      "a.mp4 5 5 1\n",
      {},
      DataError,
      r"column path: 'a.mp4' is a video, but a start counted in frames is about a folder",
    ),
    ("", {}, DataError, r"train.txt holds no rows"),
    ("1 5 1\n", {"file": "x"}, DataError, r"holds no list of the split 'train'; looked for x"),
    ("1 5 1\n", {"rate": 0}, ConfigError, r"rate = 0 is no number of frames a second above 0"),
    ("1 5 1\n", {"rate": "12"}, ConfigError, r"rate = '12' is no number"),
    ("1 5 1\n", {"answers": 1}, ConfigError, r"answers = 1 is none of True, False, None"),
    ("1 5 1\n", {"file": 1}, ConfigError, r"file = 1 is no path of a list"),
  ],
)
def test_what_is_wrong_is_said(tmp_path, text, options, error, message):
  with pytest.raises(error, match=message):
    load(write(tmp_path, text, videos="videos"), "train", **options)


def test_files_that_are_missing_or_there_twice_are_named(tmp_path):
  with pytest.raises(DataError, match=r"holds no labels.json; write the names of the classes"):
    load(write(tmp_path, "1 5 1\n", labels=None), "train")
  with pytest.raises(
    DataError, match=r"no list of the split 'validation'; looked for val.txt, validation.txt, val.csv"
  ):
    load(write(tmp_path, "1 5 1\n"), "validation")
  with pytest.raises(DataError, match=r"train.txt and .*train.csv are two lists for one split"):
    load(write(tmp_path, "1 5 1\n", "train.csv"), "train")


def test_the_lists_of_something_something_have_the_official_counts(shared_data, tmp_path):
  for file in (shared_data / "annotations" / "ssv2").glob("*"):
    (tmp_path / file.name).symlink_to(file)
  (tmp_path / "videos").mkdir()
  ids = set()
  for split, count in something_something.OFFICIAL.items():
    dataset = load(tmp_path, split)
    assert (len(dataset.examples), len(dataset.classes["action"])) == (count, 174)
    assert len({example.labels.get("action") for example in dataset.examples}) == (1 if split == "test" else 174)
    assert bool(dataset.examples[0].labels) == (split != "test")
    ids |= {example.id for example in dataset.examples}
  assert len(ids) == 220_847
