"""Clips with five traits: the order of the columns, the range of the values, the films."""

import pytest

from gasmcast.core.errors import DataError
from gasmcast.datasets.dataset import require_labels
from gasmcast.datasets.first_impressions import OFFICIAL, TRAITS, load

HEADER = "video,openness,conscientiousness,extraversion,agreeableness,neuroticism,interview"
ROWS = ("-a.b-c_1234.001.mp4,0.1,0.2,0.3,0.4,0.5,0.6", "-a.b-c_1234.002.mp4,0,1,0.333333,.4,5e-1,1.000000")


def write(root, header=HEADER, rows=ROWS, name="training.csv", videos=("train/x/-a.b-c_1234.001.mp4",)):
  (root / name).write_text("\n".join((header, *rows)) + "\n")
  for video in videos:
    (root / video).parent.mkdir(parents=True, exist_ok=True)
    (root / video).touch()
  return root


def test_values_come_in_the_one_order_of_the_traits(tmp_path):
  dataset = load(write(tmp_path), "train")
  assert dataset.values == (*TRAITS, "interview") and dataset.classes == {}
  assert [list(example.values.items()) for example in dataset.examples] == [
    list(zip(dataset.values, numbers, strict=True))
    for numbers in ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (0, 1, 0.333333, 0.4, 0.5, 1))
  ]
  require_labels(dataset)


def test_columns_are_found_by_name_and_not_by_position(tmp_path):
  header = "interview,neuroticism,video,extraversion,openness,extra,agreeableness,conscientiousness"
  dataset = load(write(tmp_path, header, ["0.6,0.5,-a.b-c_1234.001.mp4,0.3,0.1,?,0.4,0.2"]), "train")
  assert list(dataset.examples[0].values.values()) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
  write(tmp_path, HEADER.removesuffix(",interview"), [ROWS[0].removesuffix(",0.6")])
  assert load(tmp_path, "train").values == TRAITS


def test_clips_of_one_film_are_one_group_and_are_found_where_they_lie(tmp_path):
  first, second = load(write(tmp_path), "train").examples
  assert (first.group, second.group) == ("-a.b-c_1234", "-a.b-c_1234")
  assert first.path == str(tmp_path / "train" / "x" / "-a.b-c_1234.001.mp4")
  assert second.path == str(tmp_path / "train" / "-a.b-c_1234.002.mp4")  # not there: its reader says so


def test_a_split_without_answers_has_no_values(tmp_path):
  dataset = load(write(tmp_path, "video", ["-a.b-c_1234.001.mp4"], "test.csv"), "test")
  assert (dataset.values, dataset.examples[0].values) == ((), {})
  with pytest.raises(DataError, match=r"1 of 1 examples of the split 'test' have no answers"):
    require_labels(dataset)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (
      {"header": HEADER.replace("openness", "open")},
      r"training.csv has no column 'openness' among .*all of openness, ",
    ),
    ({"header": HEADER.replace("video", "name")}, r"training.csv, line 1: no column 'video' among"),
    (
      {"rows": [ROWS[0].replace("0.3", "1.3")]},
      r"line 2, column extraversion: '1.3' is no number from 0 to 1; correct",
    ),
    ({"rows": [ROWS[0].replace("0.3", "nan")]}, r"line 2, column extraversion: 'nan' is no number from 0 to 1"),
    ({"rows": [ROWS[0].replace("0.3", "")]}, r"line 2, column extraversion: '' is no number"),
    ({"rows": [ROWS[0], ROWS[0]]}, r"line 3, column video: '-a.b-c_1234.001.mp4' gives .* as line 2 does; remove one"),
    (
      {"rows": [ROWS[0].replace(".001", "")]},
      r"line 2, column video: '-a.b-c_1234.mp4' is no clip such as --Ymqszjv54",
    ),
    ({"rows": ["../" + ROWS[0]]}, r"line 2, column video: '../-a.b-c_1234.001.mp4' is no plain file name"),
    ({"videos": ("deep/b/c/d/e/f/-a.b-c_1234.001.mp4",)}, r"none of the 2 videos of the split 'train', such as -a.b-c"),
    ({"videos": ("a/-a.b-c_1234.001.mp4", "b/-a.b-c_1234.001.mp4")}, r"a/-a.*mp4 and .*b/-a.*mp4 have the same name"),
    ({"name": "other.csv"}, r"holds no training.csv or train.csv; the columns are video,openness,conscientiousness"),
  ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, content, message):
  with pytest.raises(DataError, match=message) as refusal:
    load(write(tmp_path, **content), "train")
  assert str(tmp_path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_pickle_is_refused_unopened(tmp_path):
  (tmp_path / "annotation_training.pkl").write_bytes(b"cposix\nsystem\n(S'exit 1'\ntR.")
  with pytest.raises(
    DataError, match=r"annotation_training.pkl is a pickle, which can run code when it is opened.*write"
  ):
    load(tmp_path, "train")


def test_the_official_files_have_their_official_counts(shared_data, tmp_path):
  for name in ("training", "validation"):
    (tmp_path / f"{name}.csv").symlink_to(shared_data / "annotations" / "first_impressions" / f"{name}.csv")
  for video in ("--Ymqszjv54.001.mp4", "-6otZ7M-Mro.003.mp4"):
    (tmp_path / video).touch()
  splits = {split: load(tmp_path, split) for split in ("train", "validation")}
  assert {split: len(dataset.examples) for split, dataset in splits.items()} == {
    split: OFFICIAL[split] for split in splits
  }
  films = [{example.group for example in dataset.examples} for dataset in splits.values()]
  assert [*map(len, films), len(films[0] & films[1])] == [2_624, 1_484, 1_222]
  assert list(splits["train"].examples[0].values.values()) == [0.744444, 0.650485, 0.551402, 0.527473, 0.5, 0.588785]
