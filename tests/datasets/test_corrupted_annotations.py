"""Damaged annotation files of every format: a data set that is right in itself, or an error of ours that says where."""

import csv
import io
import json
import random
import re

import pytest

from gasmcast.core.errors import UserError
from gasmcast.datasets import csv_list, epic_kitchens, first_impressions, frame_list, something_something

CLASSES = {f"Doing [something] {number}".replace("[something]", "something"): str(number) for number in range(4)}
# A line, an entry, a column, a field or a value; or that a file as a whole is not what it is to be.
PLACE = re.compile(
  r"line \d+|entry \d+|column \w+|\w+ = |'[^']*'|\"\w+\"|char \d+|is missing|does not exist|can't be read|holds no"
  r"|holds a|is no list|lists no|holds neither|classes but none|no answer|no examples|maximum recursion depth"
)


def something_something_folder(root):
  entries = [{"id": str(number), "template": f"Doing [something] {number % 4}"} for number in range(12)]
  (root / "videos").mkdir()
  (root / "labels.json").write_text(json.dumps(CLASSES, indent=1))
  (root / "train.json").write_text(json.dumps(entries, indent=1))
  (root / "test.json").write_text(json.dumps([{"id": entry["id"]} for entry in entries]))
  answers = "".join(f"{number};Doing something {number % 4}\n" for number in range(12))
  (root / "test-answers.csv").write_text(answers)
  (root / "pairs.json").write_text(json.dumps({"mirrored": [["Doing something 0", "Doing something 1"]]}))
  (root / "dataset.json").write_text(json.dumps({"name": "generated", "pixels": "ab", "files": {"a": [1, 2]}}))
  return lambda: [something_something.load(root, split) for split in ("train", "test")]


def epic_folder(root):
  (root / "videos").mkdir()
  for video in ("P01_01", "P02_101"):
    (root / "videos" / f"{video}.MP4").touch()
  header = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,start_frame,stop_frame"
  answers = ",verb_class,noun_class,all_nouns,all_noun_classes"
  rows = [
    f"{video}_{number},{video[:3]},{video},00:00:0{number}.10,00:00:0{number}.90,{number * 60 + 6},{number * 60 + 54}"
    for video in ("P01_01", "P02_101")
    for number in range(5)
  ]
  lists = {
    "validation": [
      header + answers,
      *(f"{row},{n % 3},{n % 2},\"['a', 'b:c']\",\"[{n % 2}, 1]\"" for n, row in enumerate(rows)),
    ],
    "test_timestamps": [header, *rows],
    "verb_classes": ["id,key,instances,category", "0,take,['take'],x", "1,put,\"['put', 'lay']\",x", "2,cut,['cut'],x"],
    "noun_classes": ["id,key", "0,tap", "1,cup"],
    "video_info": ["video_id,duration,fps,resolution", "P01_01,10.5,59.94,1x1", "P02_101,20,50.0,1x1"],
    "unseen_participant_ids_validation": ["participant_id", "P02"],
    "tail_verbs": ["verb", "1", "2"],
    "tail_nouns": ["noun", "0"],
  }
  for name, lines in lists.items():
    (root / f"EPIC_100_{name}.csv").write_text("\n".join(lines) + "\n")

  def load():
    epic_kitchens.oddities(root, "validation")
    epic_kitchens.unseen_participants(root)
    epic_kitchens.tail_classes(root)
    return [epic_kitchens.load(root, split) for split in ("validation", "test")]

  return load


def first_impressions_folder(root):
  header = ",".join(("video", *first_impressions.TRAITS, "interview"))
  rows = [f"film-{number}.a.00{number}.mp4,0.1,0.{number},0.333,1,0,.5" for number in range(8)]
  (root / "training.csv").write_text("\n".join((header, *rows)) + "\n")
  (root / "train").mkdir()
  for row in rows:
    (root / "train" / row.split(",")[0]).touch()
  return lambda: [first_impressions.load(root, "train")]


def csv_folder(root):
  rows = [
    f"{number},v/{number}.mp4,Doing something {number % 4},{number}.5,{number + 1},p{number},0.{number}"
    for number in range(8)
  ]
  (root / "train.csv").write_text("\n".join(("id,path,label,start,stop,group,value.speed", *rows)) + "\n")
  (root / "labels.json").write_text(json.dumps(CLASSES))
  return lambda: [csv_list.load(root, "train")]


def list_folder(root):
  (root / "videos").mkdir()
  (root / "train.txt").write_text("".join(f"{number} {number + 9} {number % 4}\n" for number in range(8)))
  (root / "labels.json").write_text(json.dumps(CLASSES))
  return lambda: [frame_list.load(root, "train")]


FORMATS = {
  "something_something": something_something_folder,
  "epic_kitchens": epic_folder,
  "first_impressions": first_impressions_folder,
  "csv": csv_folder,
  "list": list_folder,
}
STRANGE = (
  *(
    "",
    " ",
    "-1",
    "0",
    "1e999",
    "nan",
    "inf",
    "9" * 5000,
    "1.5",
    "x" * 100_000,
    "../../etc/passwd",
    "a\x00b",
    "'",
    '"',
  ),
  *("\ufeff", "\u2028", "٣", "𝔘", "null", "[]", "{}", "Doing something 9", ",", ";", "\r", "\n\n", "=1+1"),
)


def strange_json(rng):
  value = rng.choice(
    [None, True, 0, -1, 1.5, 10**30, "", "9" * 5000, "\ud800", "a\nb", [], {}, [[]], {"id": {}}, ["a", "b"]]
  )
  for _ in range(rng.choice([0, 0, 0, 3, 50])):
    value = [value]
  return value


def corrupt_tree(tree, rng):
  """One value of a tree of JSON replaced, removed, doubled or renamed."""
  holder = tree
  while True:
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder))) if isinstance(holder, list) else []
    if not keys:
      return strange_json(rng)
    key = rng.choice(keys)
    if isinstance(holder[key], (dict, list)) and holder[key] and rng.random() < 0.8:
      holder = holder[key]
      continue
    kind = rng.randrange(4)
    if kind == 0:
      del holder[key]
    elif kind == 1 and isinstance(holder, list):
      holder.append(holder[key])
    elif kind == 2 and isinstance(holder, dict):
      holder[rng.choice(["ID", "", "\ud800", "template "])] = holder.pop(key)
    else:
      holder[key] = strange_json(rng)
    return tree


def corrupt_cells(text, rng):
  """A cell replaced, a column or a row removed, doubled or moved."""
  separator = next((mark for mark in ",; " if mark in text.splitlines()[0]), ",")
  rows = list(csv.reader(io.StringIO(text), delimiter=separator))
  row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
  kind = rng.randrange(6)
  if kind == 0:
    rows[row][column] = rng.choice(STRANGE)
  elif kind == 1:
    rows = [[cell for place, cell in enumerate(cells) if place != column] for cells in rows]
  elif kind == 2:
    rows = [[*cells, cells[column]] for cells in rows]
  elif kind == 3:
    del rows[row]
  elif kind == 4:
    rows.insert(rng.randrange(len(rows) + 1), list(rows[row]))
  else:
    rows[row][column] = rng.choice(rng.choice(rows))
  out = io.StringIO()
  csv.writer(out, delimiter=separator, lineterminator="\n").writerows(rows)
  return out.getvalue()


def corrupt(file, rng):
  """Damages the file in one way that chance decides."""
  content = file.read_bytes()
  place = rng.randrange(len(content))
  kind = rng.randrange(10)
  if kind == 0:  # a flipped bit
    content = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
  elif kind == 1:
    content = content[:place]
  elif kind == 2:
    content = rng.choice(
      [b"", b"\n", b"\xef\xbb\xbf", b"\x00" * 100, b"\xff\xfe", b"{", b"[" * 100_000, b'{"a":' * 50_000]
    )
  elif kind == 3:
    content = (
      content[:place] + rng.choice([b"\x00", b"\xff", b"\r\n", b"\xef\xbb\xbf", b"\xed\xa0\x80"]) + content[place:]
    )
  elif kind == 4:
    content = rng.choice([b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"), content.decode().encode("utf-16")])
  elif kind == 5:
    file.unlink()
    if rng.random() < 0.5:
      file.mkdir()
    return
  elif file.suffix == ".json":
    content = json.dumps(corrupt_tree(json.loads(content), rng)).encode()
  elif file.suffix == ".jsonl":
    lines = [json.loads(line) for line in content.splitlines()]
    content = "".join(json.dumps(line) + "\n" for line in corrupt_tree(lines, rng)).encode() if lines else b""
  else:
    content = corrupt_cells(content.decode(), rng).encode()
  file.write_bytes(content)


def check(dataset):
  """A data set that loads is right in itself."""
  assert dataset.examples and len({example.id for example in dataset.examples}) == len(dataset.examples)
  for example in dataset.examples:
    assert set(example.labels) <= set(dataset.classes) and set(example.values) <= set(dataset.values)
    assert all(0 <= number < len(dataset.classes[label]) for label, number in example.labels.items())
    assert "\0" not in example.path


def corrupted_loads(tmp_path, name, count):
  """(loads that gave a data set, loads that were refused); raises whatever is neither."""
  loaded = refused = 0
  for number in range(count):
    rng = random.Random(f"{name} {number}")
    root = tmp_path / f"{number}"
    root.mkdir()
    load = FORMATS[name](root)
    files = sorted(file for file in root.iterdir() if file.is_file())
    names = {file.name for file in files}
    file = rng.choice(files)
    corrupt(file, rng)
    try:
      for dataset in load():
        check(dataset)
      loaded += 1
    except UserError as error:
      refused += 1
      message = str(error)
      assert any(known in message for known in names), (number, file.name, message)
      assert PLACE.search(message) and len(message) < 1000 and message.isprintable(), (number, file.name, message)
    except Exception as error:
      raise AssertionError(f"{name}, corruption {number} of {file.name}: {type(error).__name__}: {error}") from error
  return loaded, refused


@pytest.mark.reliability(18)
@pytest.mark.parametrize("name", FORMATS)
def test_corrupted_annotations_are_refused_by_our_errors_alone(tmp_path, name, figure):
  loaded, refused = corrupted_loads(tmp_path, name, 25)
  assert loaded + refused == 25 and refused >= 10
  figure(f"{name}: 25 corruptions, {refused} refused, {loaded} gave a data set that is right in itself")


@pytest.mark.long
@pytest.mark.reliability(18)
@pytest.mark.parametrize("name", FORMATS)
def test_2000_corrupted_annotations_are_refused_by_our_errors_alone(tmp_path, name, figure):
  count = 2000 // len(FORMATS)
  loaded, refused = corrupted_loads(tmp_path, name, count)
  figure(f"{name}: {count} corruptions, {refused} refused, {loaded} gave a data set that is right in itself")
  assert loaded + refused == count


@pytest.mark.parametrize("name", FORMATS)
def test_a_byte_order_mark_and_windows_lines_change_nothing(tmp_path, name):
  for folder in ("unix", "windows"):
    (tmp_path / folder).mkdir()
  unix, windows = (FORMATS[name](tmp_path / folder) for folder in ("unix", "windows"))
  for file in (file for file in (tmp_path / "windows").iterdir() if file.is_file()):
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
  assert [dataset.fingerprint for dataset in unix()] == [dataset.fingerprint for dataset in windows()]
