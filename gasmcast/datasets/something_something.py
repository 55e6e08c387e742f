"""Something-Something-V2 (Goyal et al. 2017, arXiv 1706.04261), and any data set in the same folder layout.

    labels.json        {"Moving something up": "43", ...}      template without brackets -> class index
    train.json         [{"id": "78687", "label": "moving a pen up", "template": "Moving [something] up",
    validation.json      "placeholders": ["a pen"]}, ...]
    test.json          [{"id": "1420"}, ...]: the original one publishes no answers
    test-answers.csv   its answers, published later: a line "1420;Moving something up" a video
    videos/<id>.webm   or 20bn-something-something-v2/<id>.webm, as the original archives unpack
    pairs.json         optional: {"mirrored": [["class name", "class name"], ...], "reversed in time": [...]}
    sources.csv        optional: columns id and source_group, the film that a clip was cut from; folds never divide one
    dataset.json       optional: {"name": ..., "pixels": hash of the decoded pixels}, for generated data

The annotation files may also lie in labels/, and be named as in the first release, something-something-v2-train.json.

The class of an entry is its template without brackets, letter by letter; a template that gives no class is refused.
Whether the video files exist is not looked up here (220,847 of them, often on a network disk); the reader of a video
that is missing says so.
"""

import pathlib
from typing import Any

from gasmcast.core.errors import DataError
from gasmcast.core.manifest import hash_json, read_json
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets.class_index import read_classes
from gasmcast.datasets.csv_rows import Distinct, read_rows, shown
from gasmcast.datasets.dataset import require_folder, require_split

OFFICIAL = {"train": 168_913, "validation": 24_777, "test": 27_157}  # 220,847 videos
VIDEO_FOLDERS = ("videos", "20bn-something-something-v2")
_PREFIX = "something-something-v2-"


def load(root: str | pathlib.Path, split: str) -> Dataset:
  """The examples of one split with the label "action", in the order of the annotation file.

  The test split without answers has examples without labels.

  Raises:
    ConfigError: `split` is none of train, validation, test.
    DataError: a file or folder is missing or its content is not as described above. The message names file, entry
      and remedy.
  """
  require_split(split)
  root = pathlib.Path(root)
  require_folder(root, f"labels.json and {split}.json")
  videos = _video_folder(root)
  identity = _identity(root / "dataset.json")
  classes = read_classes(annotation_file(root, "labels.json"))
  positions = {name: index for index, name in enumerate(classes)}
  answers = _answers(root) if split == "test" else None
  groups = _groups(root / "sources.csv")
  examples = _examples(annotation_file(root, f"{split}.json"), split, positions, answers, videos, groups)
  fingerprint = hash_json(
    {
      **identity,
      "split": split,
      "ids": [example.id for example in examples],
      "labels": [example.labels.get("action") for example in examples],
      "classes": classes,
      **({"groups": [example.group for example in examples]} if groups else {}),
    }
  )
  pairs = _pairs(root / "pairs.json", positions)
  return Dataset(identity["name"], split, examples, {"action": classes}, fingerprint, pairs)


def annotation_file(root: pathlib.Path, name: str) -> pathlib.Path:
  """Where the file lies under one of its names and in one of its places.

  Raises:
    DataError: nowhere, or in two places.
  """
  found = [file for file in _places(root, name) if file.is_file()]
  if not found:
    places = ", ".join(str(file.relative_to(root)) for file in _places(root, name))
    raise DataError(
      f"{root / name} is missing; the folder must hold labels.json and one JSON file a split (looked for {places})."
    )
  return _only(found)


def _places(root: pathlib.Path, name: str) -> list[pathlib.Path]:
  return [root / folder / file for file in (name, _PREFIX + name) for folder in ("", "labels")]


def _only(found: list[pathlib.Path]) -> pathlib.Path:
  if len(found) > 1:
    raise DataError(f"{found[0]} and {found[1]} are two files for one purpose; remove one of them.")
  return found[0]


def _video_folder(root: pathlib.Path) -> pathlib.Path:
  for name in VIDEO_FOLDERS:
    if (root / name).is_dir():
      return root / name
  raise DataError(f"{root} holds no folder {' or '.join(VIDEO_FOLDERS)}; put the .webm files into {root / 'videos'}.")


def _identity(file: pathlib.Path) -> dict[str, str]:
  """{"name": ..., "pixels": ...}: what the data set says of itself; the pixels are "" where it says nothing."""
  told = read_json(file) if file.exists() else {}
  if not isinstance(told, dict):
    raise DataError(f'{file} holds a {type(told).__name__}; an object such as {{"name": "my videos"}} is needed.')
  identity = {"name": told.get("name", "something_something"), "pixels": told.get("pixels", "")}
  for key, value in identity.items():
    if not isinstance(value, str):
      raise DataError(f"{file}: {key} = {shown(value)} is not a string; write it in quotes or leave it out.")
  return identity


def _pairs(file: pathlib.Path, positions: dict[str, int]) -> dict[str, tuple[tuple[int, int], ...]]:
  kinds = read_json(file) if file.exists() else {}
  remedy = 'an object such as {"mirrored": [["Moving left", "Moving right"]]} with names of labels.json is needed.'
  if not isinstance(kinds, dict):
    raise DataError(f"{file} holds a {type(kinds).__name__}; {remedy}")
  pairs: dict[str, tuple[tuple[int, int], ...]] = {}
  for kind, entries in kinds.items():
    for entry in entries if isinstance(entries, list) else [entries]:
      known = isinstance(entry, list) and all(isinstance(name, str) and name in positions for name in entry)
      if not known or len(entry) != 2:
        raise DataError(f"{file}: {shown(kind)} holds {shown(entry)}; {remedy}")
    pairs[kind] = tuple((positions[first], positions[second]) for first, second in entries)
  return pairs


def _answers(root: pathlib.Path) -> dict[str, str] | None:
  """id -> template of test-answers.csv, None where there is no such file."""
  found = [file for file in _places(root, "test-answers.csv") if file.is_file()]
  if not found:
    return None
  answers, ids = {}, Distinct()
  for row in read_rows(_only(found), ("id", "template"), delimiter=";", header=("id", "template")):
    ids.add(row, "id", row.file_name("id"))
    answers[row.cells["id"]] = row.text("template")
  return answers


def _groups(file: pathlib.Path) -> dict[str, str]:
  """id -> group; empty where there is no such file."""
  if not file.exists():
    return {}
  groups, ids = {}, Distinct()
  for row in read_rows(file, ("id", "source_group")):
    ids.add(row, "id", row.text("id"))
    groups[row.cells["id"]] = row.text("source_group")
  return groups


def _examples(
  file: pathlib.Path,
  split: str,
  positions: dict[str, int],
  answers: dict[str, str] | None,
  videos: pathlib.Path,
  groups: dict[str, str],
) -> tuple[Example, ...]:
  entries = read_json(file)
  if not isinstance(entries, list):
    raise DataError(f"{file} holds a {type(entries).__name__}; a list of entries is needed.")
  if not entries:
    raise DataError(f"{file} lists no examples; a split needs at least one.")
  examples, first_use = [], {}
  for number, entry in enumerate(entries):
    where = f"{file}, entry {number}"
    video = _video_id(entry, where)
    if video in first_use:
      raise DataError(
        f"{where}: the id {shown(video)} is already that of entry {first_use[video]}; remove one of them."
      )
    first_use[video] = number
    template = _template(entry, split, answers, where)
    labels = {} if template is None else {"action": _class(template, positions, f"{where} ({video})")}
    if groups and video not in groups:
      raise DataError(f"{where}: sources.csv has no line for the id {shown(video)}; add one, or remove the file.")
    path = str(videos / f"{video}.webm")
    examples.append(Example(id=video, path=path, labels=labels, group=groups.get(video, "")))
  _check_answers(file, examples, answers)
  return tuple(examples)


def _video_id(entry: Any, where: str) -> str:
  if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
    raise DataError(f'{where} has no id; an object with "id": "<name of the video file without .webm>" is needed.')
  video = entry["id"]
  if not video or not video.isprintable() or video.startswith(".") or "/" in video or "\\" in video:
    raise DataError(f"{where}: the id {shown(video)} is no plain file name; use letters, digits, '-' and '_'.")
  if len(video) > 200:
    raise DataError(f"{where}: the id {shown(video)} is longer than a file name can be; use at most 200 characters.")
  return video


def _template(entry: dict[str, Any], split: str, answers: dict[str, str] | None, where: str) -> str | None:
  """What the entry or test-answers.csv says of it; None for a test entry of which neither says anything."""
  own = entry.get("template")
  if "template" in entry and not isinstance(own, str):
    raise DataError(f"{where} ({entry['id']}): template = {shown(own)} is not a string.")
  if own is None and split != "test":
    raise DataError(
      f'{where} ({entry["id"]}) has no "template", so it has no answer; add the template, or remove the entry.'
    )
  answer = own if answers is None else answers.get(entry["id"])
  if own is not None and answers is not None and answer != own.replace("[", "").replace("]", ""):
    raise DataError(f"{where} ({entry['id']}): template = {shown(own)}, and test-answers.csv says {shown(answer)}.")
  return answer


def _class(template: str, positions: dict[str, int], where: str) -> int:
  name = template.replace("[", "").replace("]", "")
  if name not in positions:
    raise DataError(f"{where}: {shown(name)} is no class of labels.json; correct either.")
  return positions[name]


def _check_answers(file: pathlib.Path, examples: list[Example], answers: dict[str, str] | None) -> None:
  """All entries have answers or none has, and no answer is about another video."""
  without = [example.id for example in examples if not example.labels]
  if without and len(without) < len(examples):
    raise DataError(
      f"{file}: {len(without)} of {len(examples)} entries have no answer, the first is {shown(without[0])}; give all "
      "of them a template or a line in test-answers.csv, or none."
    )
  if answers is None:
    return
  if without:
    raise DataError(f"test-answers.csv has no answer for any entry of {file}; take both files from one release.")
  strangers = sorted(set(answers) - {example.id for example in examples})
  if strangers:
    raise DataError(
      f"test-answers.csv has {len(strangers)} answers for videos that {file} does not list, the first for "
      f"{shown(strangers[0])}; take both files from one release."
    )
