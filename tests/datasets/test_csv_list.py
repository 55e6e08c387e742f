"""A CSV file that lists videos."""

import json

import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.datasets.csv_list import load
from gasmcast.datasets.dataset import require_labels


def write(root, **files):
  for name, lines in files.items():
    (root / f"{name}.csv").write_text("\n".join(lines) + "\n")
  return root


def test_a_file_a_split_with_classes_of_all_of_them(tmp_path):
  write(tmp_path, train=["path,label", "a.mp4,run", "b/c.mp4,jump"], test=["label,path", "walk,/d.mp4"])
  train, test = load(tmp_path, "train"), load(tmp_path, "test")
  assert train.classes == test.classes == {"action": ("jump", "run", "walk")}
  assert [(each.id, each.path, each.labels["action"]) for each in (*train.examples, *test.examples)] == [
    ("a.mp4", str(tmp_path / "a.mp4"), 1),
    ("b/c.mp4", str(tmp_path / "b" / "c.mp4"), 0),
    ("/d.mp4", "/d.mp4", 2),
  ]
  require_labels(train)


def test_one_file_with_a_column_split_and_all_the_others(tmp_path):
  header = "id,path,label.verb,label.noun,value.speed,start,stop,rate,split,group,note"
  rows = [
    "1,a.mp4,cut,knife,0.5,1,2.5,,train,p1,x",
    "2,frames,pour,cup,-3,,4,25,train,,y",
    "1,b.mp4,cut,cup,1,,,,test,p2,z",
  ]
  write(tmp_path, annotations=[header, *rows])
  dataset = load(tmp_path, "train")
  assert dataset.classes == {"verb": ("cut", "pour"), "noun": ("cup", "knife")} and dataset.values == ("speed",)
  first, second = dataset.examples
  assert (first.id, first.labels, first.start, first.stop, first.group, first.rate) == (
    "1",
    {"verb": 0, "noun": 1},
    1.0,
    2.5,
    "p1",
    None,
  )
  assert (second.values, second.start, second.stop, second.rate, second.group) == ({"speed": -3}, None, 4, 25, "frames")
  assert [example.id for example in load(tmp_path, "test").examples] == ["1"]


def test_shares_split_by_group_and_parts_of_one_video_stay_together(tmp_path):
  parts = [f"{video}.mp4,run,{part},{part + 1}" for video in range(40) for part in range(3)]
  write(tmp_path, mine=["path,label,start,stop", *parts])
  shares = {"train": 0.5, "test": 0.5}
  splits = [load(tmp_path, split, file="mine.csv", shares=shares).examples for split in shares]
  paths = [{example.path for example in examples} for examples in splits]
  assert sum(map(len, splits)) == 120 and not paths[0] & paths[1] and all(paths)
  assert splits[0][0].id.endswith(".mp4[0,1)")


def test_spellings_of_one_path_are_one_group(tmp_path):
  spellings = enumerate(("", "./", "a/../"))
  rows = [f"{before}{n}.mp4,run,{part},{part + 1}" for part, before in spellings for n in range(20)]
  write(tmp_path, annotations=["path,label,start,stop", *rows])
  paths = [{e.path for e in load(tmp_path, s, shares={"train": 0.5, "test": 0.5}).examples} for s in ("train", "test")]
  assert not paths[0] & paths[1] and all(paths)


def test_classes_are_numbered_as_in_labels_json_or_as_numbers(tmp_path):
  write(tmp_path, train=["path,label", "a.mp4,10", "b.mp4,9", "c.mp4,2"])
  assert load(tmp_path, "train").classes == {"action": ("2", "9", "10")}
  (tmp_path / "labels.json").write_text(json.dumps({"10": "0", "9": "1", "2": "2", "7": "3"}))
  dataset = load(tmp_path, "train")
  assert dataset.classes == {"action": ("10", "9", "2", "7")}
  assert [example.labels["action"] for example in dataset.examples] == [0, 1, 2]


def test_a_split_without_answers(tmp_path):
  write(
    tmp_path, train=["path,label", "a.mp4,run"], test=["path", "b.mp4"], validation=["path,label", "c.mp4,", "d.mp4,"]
  )
  for split in ("test", "validation"):
    dataset = load(tmp_path, split)
    assert dataset.examples[0].labels == {} and dataset.classes == {"action": ("run",)}
    with pytest.raises(DataError, match=r"of \d examples of the split '\w+' have no answers"):
      require_labels(dataset)
  only_paths = load(
    write(tmp_path / "new" if (tmp_path / "new").mkdir() is None else None, test=["path", "b.mp4"]), "test"
  )
  with pytest.raises(
    DataError, match=r"csv: 1 of 1 examples of the split 'test' have no answers \(the first: 'b.mp4'\)"
  ):
    require_labels(only_paths)


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    (["path,label", "../a.mp4,x"], r"train.csv, line 2, column path: '../a.mp4' leads out of .*; use a path below it"),
    (["path,label", ",x"], r"line 2, column path: '' is empty"),
    (["path,label", "a.mp4,x", "a.mp4,x"], r"line 3, column path: 'a.mp4' gives 'a.mp4', as line 2 does"),
    (["path,id", "a.mp4,1", "b.mp4,1"], r"line 3, column id: '1' gives '1', as line 2 does"),
    (["path,id", "a.mp4,"], r"line 2, column id: '' is empty"),
    (
      ["path,label", "a.mp4,x", "b.mp4,"],
      r"line 3, column label: '' is empty, where 1 of the 2 rows of its split have",
    ),
    (["path,label,label.action", "a.mp4,x,y"], r"two columns for one label, 'label' and 'label.action'; remove one"),
    (["path,label", "a.mp4,"], r"the column 'label' is empty in every row; fill it or remove it"),
    (
      ["path,start,stop", "a.mp4,2,1"],
      r"line 2, column stop: '1' is not after the start 2; a part \[start, stop\) needs",
    ),
    (["path,stop", "a.mp4,0"], r"column stop: '0' is not after the start 0"),
    (["path,start", "a.mp4,-1"], r"column start: '-1' is no number of at least 0"),
    (["path,rate", "a,0"], r"column rate: '0' is no number from 0.001 to 100000"),
    (["path,value.x", "a,much"], r"column value.x: 'much' is no number"),
  ],
)
def test_what_is_wrong_with_a_row_is_said_with_its_place(tmp_path, lines, message):
  with pytest.raises(DataError, match=message):
    load(write(tmp_path, train=lines), "train")


def test_an_unknown_class_is_refused_with_the_nearest_one(tmp_path):
  (tmp_path / "labels.json").write_text('{"jumping": "0"}')
  with pytest.raises(
    DataError, match=r"column label: 'jumpin' is unknown \(did you mean 'jumping'\?\); use a class of"
  ):
    load(write(tmp_path, train=["path,label", "a.mp4,jumpin"]), "train")


@pytest.mark.parametrize(
  ("files", "options", "error", "message"),
  [
    ({}, {}, DataError, r"holds neither train.csv nor annotations.csv; write one with the columns path and label"),
    ({}, {"file": "x.csv"}, DataError, r"holds neither train.csv nor x.csv"),
    ({"annotations": ["path", "a"]}, {}, ConfigError, r'annotations.csv has no column "split"; add it, or give shares'),
    (
      {"annotations": ["path", "a"]},
      {"shares": {"train": 2}},
      ConfigError,
      r"shares.train = 2 is no number from 0 to 1",
    ),
    (
      {"annotations": ["path,split", "a,val"]},
      {},
      DataError,
      r"line 2, column split: 'val' is unknown.*; use one of tr",
    ),
    ({"annotations": ["path,split", "a,test"]}, {}, DataError, r"gives no examples for the split 'train'"),
    ({"annotations": ["path,split", "a,test"]}, {"shares": {"train": 1}}, ConfigError, r"but .* has a column 'split'"),
    (
      {"train": ["path", "a"]},
      {"shares": {"train": 1}},
      ConfigError,
      r"but .* has a file a split; remove one of the two",
    ),
    ({"train": ["path", "a"]}, {"file": 3}, ConfigError, r"file = 3 is no path of a CSV file"),
  ],
)
def test_what_is_wrong_with_the_files_and_options_is_said(tmp_path, files, options, error, message):
  with pytest.raises(error, match=message):
    load(write(tmp_path, **files), "train", **options)
