"""Something-Something-V2 (Goyal et al. 2017, arXiv 1706.04261), and any data set in the same folder layout.

    labels.json        {"Moving something up": "43", ...}      template without brackets -> class index
    train.json         [{"id": "78687", "label": "moving a pen up", "template": "Moving [something] up",
    validation.json      "placeholders": ["a pen"]}, ...]
    test.json          the original one has ids only, so it can't be evaluated
    videos/<id>.webm   or 20bn-something-something-v2/<id>.webm, as the original archives unpack
    pairs.json         optional: {"mirrored": [["class name", "class name"], ...], "reversed in time": [...]}
    dataset.json       optional: {"name": ..., "pixels": hash of the decoded pixels}, for generated data

Whether the video files exist is not looked up here (220,847 of them, often on a network disk); the reader of a video
that is missing says so.
"""

import pathlib
from typing import Any

from gasmcast.core.config import require
from gasmcast.core.errors import DataError
from gasmcast.core.manifest import hash_json, read_json
from gasmcast.core.types import Dataset, Example

SPLITS = ("train", "validation", "test")
VIDEO_FOLDERS = ("videos", "20bn-something-something-v2")


def load(root: str | pathlib.Path, split: str) -> Dataset:
  """The examples of one split with the label "action", in the order of the annotation file.

  Raises:
    ConfigError: `split` is none of train, validation, test.
    DataError: a file or folder is missing or its content is not as described above. The message names file, entry
      and remedy.
  """
  require(split in SPLITS, f"split = {split!r} is none of {', '.join(SPLITS)}.")
  root = pathlib.Path(root)
  if not root.is_dir():
    raise DataError(f"{root} is not a folder; give the one that holds labels.json and {split}.json.")
  videos = _video_folder(root)
  identity = _identity(root / "dataset.json")
  classes = _classes(root / "labels.json")
  positions = {name: index for index, name in enumerate(classes)}
  examples = _examples(root / f"{split}.json", positions, videos)
  fingerprint = hash_json(
    {
      **identity,
      "split": split,
      "ids": [example.id for example in examples],
      "labels": [example.labels["action"] for example in examples],
      "classes": classes,
    }
  )
  pairs = _pairs(root / "pairs.json", positions)
  return Dataset(identity["name"], split, examples, {"action": classes}, fingerprint, pairs)


def _video_folder(root: pathlib.Path) -> pathlib.Path:
  for name in VIDEO_FOLDERS:
    if (root / name).is_dir():
      return root / name
  raise DataError(f"{root} holds no folder {' or '.join(VIDEO_FOLDERS)}; put the .webm files into {root / 'videos'}.")


def _read(file: pathlib.Path) -> Any:
  if not file.is_file():
    raise DataError(f"{file} is missing; the folder must hold labels.json and one JSON file a split.")
  return read_json(file)


def _identity(file: pathlib.Path) -> dict[str, str]:
  """{"name": ..., "pixels": ...}: what the data set says of itself; the pixels are "" where it says nothing."""
  told = _read(file) if file.exists() else {}
  if not isinstance(told, dict):
    raise DataError(f'{file} holds a {type(told).__name__}; an object such as {{"name": "my videos"}} is needed.')
  identity = {"name": told.get("name", "something_something"), "pixels": told.get("pixels", "")}
  for key, value in identity.items():
    if not isinstance(value, str):
      raise DataError(f"{file}: {key} = {value!r} is not a string; write it in quotes or leave it out.")
  return identity


def _classes(file: pathlib.Path) -> tuple[str, ...]:
  labels = _read(file)
  if not isinstance(labels, dict) or not labels:
    raise DataError(f'{file} is no list of classes; an object such as {{"Moving something up": "0"}} is needed.')
  names: dict[int, str] = {}
  for name, text in labels.items():
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10):
      raise DataError(f'{file}: the index of {name!r} is {text!r}; a string of digits such as "17" is needed.')
    if int(text) in names:
      raise DataError(f"{file}: {names[int(text)]!r} and {name!r} have the same index {text}; number them 0, 1, 2, ...")
    names[int(text)] = name
  if max(names) != len(names) - 1:
    missing = next(index for index in range(len(names)) if index not in names)
    raise DataError(
      f"{file}: {len(names)} classes but none has the index {missing}; number them 0 to {len(names) - 1}."
    )
  return tuple(names[index] for index in range(len(names)))


def _pairs(file: pathlib.Path, positions: dict[str, int]) -> dict[str, tuple[tuple[int, int], ...]]:
  kinds = _read(file) if file.exists() else {}
  remedy = 'an object such as {"mirrored": [["Moving left", "Moving right"]]} with names of labels.json is needed.'
  if not isinstance(kinds, dict):
    raise DataError(f"{file} holds a {type(kinds).__name__}; {remedy}")
  pairs: dict[str, tuple[tuple[int, int], ...]] = {}
  for kind, entries in kinds.items():
    for entry in entries if isinstance(entries, list) else [entries]:
      if not isinstance(entry, list) or len(entry) != 2 or not all(name in positions for name in entry):
        raise DataError(f"{file}: {kind!r} holds {entry!r}; {remedy}")
    pairs[kind] = tuple((positions[first], positions[second]) for first, second in entries)
  return pairs


def _examples(file: pathlib.Path, positions: dict[str, int], videos: pathlib.Path) -> tuple[Example, ...]:
  entries = _read(file)
  if not isinstance(entries, list):
    raise DataError(f"{file} holds a {type(entries).__name__}; a list of entries is needed.")
  if not entries:
    raise DataError(f"{file} lists no examples; a split needs at least one.")
  examples, first_use = [], {}
  for number, entry in enumerate(entries):
    where = f"{file}, entry {number}"
    video = _video_id(entry, where)
    if video in first_use:
      raise DataError(f"{where}: the id {video!r} is already that of entry {first_use[video]}; remove one of them.")
    first_use[video] = number
    action = positions.get(_class_name(entry, where))
    if action is None:
      raise DataError(f"{where} ({video}): {_class_name(entry, where)!r} is no class of labels.json; correct either.")
    examples.append(Example(id=video, path=str(videos / f"{video}.webm"), labels={"action": action}))
  return tuple(examples)


def _video_id(entry: Any, where: str) -> str:
  if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
    raise DataError(f'{where} has no id; an object with "id": "<name of the video file without .webm>" is needed.')
  video = entry["id"]
  if not video or not video.isprintable() or video.startswith(".") or "/" in video or "\\" in video:
    raise DataError(f"{where}: the id {video!r} is no plain file name; use letters, digits, '-' and '_'.")
  return video


def _class_name(entry: dict[str, Any], where: str) -> str:
  if "template" not in entry:
    raise DataError(
      f'{where} ({entry["id"]}) has no "template", so this split has no answers (the original test.json publishes '
      "none); use the validation split, or add templates."
    )
  if not isinstance(entry["template"], str):
    raise DataError(f"{where} ({entry['id']}): template = {entry['template']!r} is not a string.")
  return entry["template"].replace("[", "").replace("]", "")
