"""What a folder in the layout of Something-Something-V2 gives, and what is refused."""

import json
import pathlib

import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.datasets.dataset import require_labels
from gasmcast.datasets.something_something import OFFICIAL, load

LABELS = {"Moving something up": "1", "Dropping something into something": "0"}
TRAIN = [
  {"id": "12", "label": "moving pen up", "template": "Moving [something] up", "placeholders": ["pen"]},
  {"id": "7", "label": "", "template": "Dropping [something] into [something]", "placeholders": ["a", "b"]},
  {"id": "13", "label": "moving cup up", "template": "Moving [something] up", "placeholders": ["cup"]},
]


def write(root, labels=LABELS, train=TRAIN, videos="videos", told=None):
  for name, content in (("labels.json", labels), ("train.json", train), ("dataset.json", told)):
    if content is not None:
      (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
  (root / videos).mkdir(exist_ok=True)
  return root


def test_examples_come_in_the_order_of_the_file_with_the_class_of_their_template(tmp_path):
  dataset = load(write(tmp_path), "train")
  assert dataset.classes == {"action": ("Dropping something into something", "Moving something up")}
  assert [(example.id, example.labels["action"]) for example in dataset.examples] == [("12", 1), ("7", 0), ("13", 1)]
  assert pathlib.Path(dataset.examples[0].path) == tmp_path / "videos" / "12.webm"
  assert (dataset.name, dataset.split, dataset.examples[0].start) == ("something_something", "train", None)


def test_the_folder_name_of_the_archives_is_known(tmp_path):
  dataset = load(str(write(tmp_path, videos="20bn-something-something-v2")), "train")
  assert dataset.examples[1].path == str(tmp_path / "20bn-something-something-v2" / "7.webm")


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path):
  def fingerprint(name, **content):
    (tmp_path / name).mkdir()
    return load(write(tmp_path / name, **content), "train").fingerprint

  same = [fingerprint("a"), fingerprint("b", told={"name": "something_something"})]
  others = [
    fingerprint("c", train=TRAIN[::-1]),
    fingerprint("d", labels={**LABELS, "Waving": "2"}),
    fingerprint("e", train=[{**TRAIN[0], "template": TRAIN[1]["template"]}, *TRAIN[1:]]),
    fingerprint("f", train=[{**TRAIN[0], "id": "99"}, *TRAIN[1:]]),
    fingerprint("g", told={"name": "mine"}),
    fingerprint("h", told={"pixels": "abc"}),
  ]
  assert same[0] == same[1]
  assert len({same[0], *others}) == 1 + len(others)


def test_a_data_set_may_name_itself(tmp_path):
  assert (
    load(write(tmp_path, told={"name": "moving shapes", "pixels": "ab", "seed": 3}), "train").name == "moving shapes"
  )


def entry(**changes):
  return [TRAIN[1], {key: value for key, value in {**TRAIN[0], **changes}.items() if value is not None}]


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({"labels": "{"}, r"labels.json is not valid JSON"),
    ({"labels": []}, r"labels.json is no list of classes; an object such as"),
    ({"labels": {}}, r"labels.json is no list of classes"),
    ({"labels": {"a": 0}}, r"labels.json: the index of 'a' is 0; a string of digits such as \"17\" is needed"),
    ({"labels": {"a": "-1"}}, r"the index of 'a' is '-1'"),
    ({"labels": {"a": "0", "b": "0"}}, r"'a' and 'b' have the same index 0; number them"),
    ({"labels": {"a": "0", "b": "2"}}, r"2 classes but none has the index 1; number them 0 to 1"),
    ({"train": None}, r"train.json is missing; the folder must hold labels.json and one JSON file a split"),
    ({"train": "nothing"}, r"train.json is not valid JSON"),
    ({"train": {}}, r"train.json holds a dict; a list of entries is needed"),
    ({"train": []}, r"train.json lists no examples; a split needs at least one"),
    ({"train": ["12"]}, r"train.json, entry 0 has no id"),
    ({"train": entry(id=12)}, r"train.json, entry 1 has no id; an object with \"id\""),
    ({"train": entry(id="7")}, r"entry 1: the id '7' is already that of entry 0; remove one"),
    ({"train": entry(id="../7")}, r"entry 1: the id '../7' is no plain file name"),
    ({"train": entry(id="a\\b")}, r"is no plain file name"),
    ({"train": entry(id="..")}, r"is no plain file name"),
    ({"train": entry(id="")}, r"is no plain file name"),
    ({"train": entry(id="a\u0000")}, r"is no plain file name"),
    ({"train": entry(id="\ud800")}, r"is no plain file name"),
    ({"train": entry(template="Eating [something]")}, r"entry 1 \(12\): 'Eating something' is no class of labels.json"),
    ({"train": entry(template=3)}, r"entry 1 \(12\): template = 3 is not a string"),
    ({"train": [{"id": "1"}]}, r"entry 0 \(1\) has no \"template\", so it has no answer; add the template"),
    ({"labels": {"a\nb": "0"}}, r"labels.json: 'a\\nb' is no name of a class; write it in one line"),
    ({"train": entry(id="9" * 300)}, r"is longer than a file name can be; use at most 200 characters"),
    ({"train": entry(template="x" * 5000)}, r"\(12\): 'x{59}\.\.\. \(5,002 characters\) is no class"),
    ({"told": []}, r"dataset.json holds a list; an object such as"),
    ({"told": {"pixels": 3}}, r"dataset.json: pixels = 3 is not a string"),
  ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(tmp_path, content, message):
  with pytest.raises(DataError, match=message) as refusal:
    load(write(tmp_path, **content), "train")
  assert str(tmp_path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_missing_folders_and_unknown_splits_are_refused(tmp_path):
  with pytest.raises(DataError, match=r"absent is not a folder; give the one that holds labels.json and train.json"):
    load(tmp_path / "absent", "train")
  with pytest.raises(
    DataError, match=r"holds no folder videos or 20bn-something-something-v2; put the .webm files into"
  ):
    load(tmp_path, "train")
  with pytest.raises(ConfigError, match=r"split = 'val' is none of train, validation, test"):
    load(tmp_path, "val")


def test_real_annotations(shared_data):
  train, validation = (load(shared_data / "fight", split) for split in ("train", "validation"))
  assert (len(train.examples), len(validation.examples)) == (180, 60)
  assert train.classes["action"] == ("Fighting with somebody", "Not fighting with anybody")
  assert train.fingerprint != validation.fingerprint
  assert not {example.id for example in train.examples} & {example.id for example in validation.examples}
  assert all(pathlib.Path(example.path).is_file() for example in train.examples)


def with_test(root, entries, answers=None, place="", prefix=""):
  write(root)
  (root / place).mkdir(exist_ok=True)
  (root / place / f"{prefix}test.json").write_text(json.dumps(entries))
  if answers is not None:
    (root / place / f"{prefix}test-answers.csv").write_bytes(answers)
  return root


IDS = [{"id": "20"}, {"id": "21"}]


def test_a_test_split_without_answers_has_examples_without_labels(tmp_path):
  dataset = load(with_test(tmp_path, IDS), "test")
  assert [(example.id, example.labels) for example in dataset.examples] == [("20", {}), ("21", {})]
  assert len(dataset.classes["action"]) == 2
  with pytest.raises(DataError, match=r"2 of 2 examples of the split 'test' have no answers \(the first: '20'\); use"):
    require_labels(dataset)


@pytest.mark.parametrize(
  "answers",
  [
    b"20;Moving something up\n21;Dropping something into something\n",
    b"\xef\xbb\xbf21;Dropping something into something\r\n20;Moving [something] up\r\n\r\n\r\n",
  ],
)
@pytest.mark.parametrize("prefix", ["", "something-something-v2-"])
@pytest.mark.parametrize("place", ["", "labels"])
def test_answers_beside_the_test_split_give_its_labels(tmp_path, answers, place, prefix):
  dataset = load(with_test(tmp_path, IDS, answers, place, prefix), "test")
  assert [example.labels["action"] for example in dataset.examples] == [1, 0]
  require_labels(dataset)


@pytest.mark.parametrize(
  ("entries", "answers", "message"),
  [
    (
      IDS,
      b"20;Moving something up\n",
      r"test.json: 1 of 2 entries have no answer, the first is '21'; give all of them",
    ),
    (IDS, b"5;Moving something up\n", r"test-answers.csv has no answer for any entry of .*test.json; take both"),
    (
      IDS,
      b"20;Moving something up\n21;Moving something up\n5;Moving something up\n",
      r"test-answers.csv has 1 answers for videos that .*test.json does not list, the first for '5'; take both",
    ),
    (IDS, b"20;Eating\n21;Eating\n", r"test.json, entry 0 \(20\): 'Eating' is no class of labels.json"),
    (IDS, b"20;Moving something up\n20;x\n", r"test-answers.csv, line 2, column id: '20' gives '20', as line 1 does"),
    (IDS, b"20\n", r"test-answers.csv, line 1: 1 cells where 2 columns are named \('id,template'\)"),
    ([IDS[0], TRAIN[0]], None, r"1 of 2 entries have no answer, the first is '20'"),
    ([TRAIN[0]], b"12;Waving\n", r"\(12\): template = 'Moving \[something\] up', and test-answers.csv says 'Waving'"),
  ],
)
def test_answers_that_do_not_fit_are_refused(tmp_path, entries, answers, message):
  with pytest.raises(DataError, match=message):
    load(with_test(tmp_path, entries, answers), "test")


def test_a_file_is_looked_for_in_both_places_and_spellings_and_is_there_once(tmp_path):
  with pytest.raises(
    DataError,
    match=r"looked for validation.json, labels/validation.json, something-something-v2-validation.json, labels/some",
  ):
    load(write(tmp_path), "validation")
  (tmp_path / "labels").mkdir()
  (tmp_path / "train.json").rename(tmp_path / "labels" / "something-something-v2-train.json")
  assert len(load(tmp_path, "train").examples) == 3
  write(tmp_path)
  with pytest.raises(DataError, match=r"train.json and .*v2-train.json are two files for one purpose; remove one"):
    load(tmp_path, "train")


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path):
  write(
    tmp_path, labels="\ufeff" + json.dumps(LABELS), train="\ufeff" + json.dumps(TRAIN, indent=1).replace("\n", "\r\n")
  )
  assert len(load(tmp_path, "train").examples) == 3


def test_the_official_counts_are_those_of_220847_videos():
  assert sum(OFFICIAL.values()) == 220_847


def test_every_template_of_the_official_classes_gives_its_class(shared_data, tmp_path):
  """All 174, written with brackets as in the official files."""
  labels = json.loads((shared_data / "annotations/ssv2/labels.json").read_text())
  bracketed = [name.replace("something", "[something]").replace("Something", "[Something]") for name in labels]
  entries = [{"id": str(number), "template": name} for number, name in enumerate(bracketed)]
  dataset = load(write(tmp_path, labels, entries), "train")
  assert [example.labels["action"] for example in dataset.examples] == [int(number) for number in labels.values()]
