"""The index: every data set in one form, with what is known of each video, as job prepare writes it.

    index.json     {"format": 1, "name", "classes": {label: [names]}, "values": [names], "pairs": {kind: [[a, b]]},
                    "splits": {split: {"file": "train.jsonl", "examples", "blake3": of the file, "fingerprint"}}}
    train.jsonl    a line an example: {"id", "path", "labels": {label: class}, "start", "stop", "rate", "group",
                    "values": {name: number}, "video": {what probing told}, "flags": [...]}; what is empty is left out

Paths are absolute. A split is written line by line, so memory does not depend on its length.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import blake3

from gasmcast.core.errors import DataError
from gasmcast.core.manifest import atomic_file, read_json, write_json
from gasmcast.core.types import Dataset, Example

FORMAT = 1
INDEX = "index.json"


@dataclasses.dataclass(frozen=True)
class Entry:
  """A line of a split: an example, and what is known of its video.

  Attributes:
    example: with an absolute path.
    video: numbers of the probe; its "blake3" is part of the fingerprint.
    flags: what is wrong with it.
  """

  example: Example
  video: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  flags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Split:
  """A split that is written: its file's name, its length, the hash of the file, and what identifies the content."""

  file: str
  examples: int
  blake3: str
  fingerprint: str


def write_split(folder: str | os.PathLike, name: str, head: Dataset, entries: Iterable[Entry]) -> Split:
  """Writes one split, atomically; it counts once `write_index` names it.

  The fingerprint changes with any example, class name or content of a video, and not with the place of the videos.

  Args:
    folder: of the index.
    name: of the split.
    head: gives the name of the data set, the classes and the names of the values; its examples are not looked at.
    entries: in order.
  """
  file = pathlib.Path(folder) / f"{name}.jsonl"
  content, identity, count = blake3.blake3(), blake3.blake3(), 0
  identity.update(_canonical([head.name, name, _lists(head.classes), list(head.values)]))
  with atomic_file(file) as stream:
    for entry in entries:
      line = _line(entry)
      text = (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
      stream.write(text)
      content.update(text)
      known = {key: value for key, value in line.items() if key not in ("path", "video", "flags")}
      identity.update(_canonical([known, entry.video.get("blake3", "")]))
      count += 1
  return Split(file.name, count, content.hexdigest(), identity.hexdigest())


def write_index(folder: str | os.PathLike, head: Dataset, splits: Mapping[str, Split]) -> None:
  """Writes index.json: from now on the index is these splits."""
  pairs = {kind: [list(pair) for pair in pairs] for kind, pairs in head.pairs.items()}
  values = {
    "format": FORMAT,
    "name": head.name,
    "classes": _lists(head.classes),
    "values": list(head.values),
    "pairs": pairs,
    "splits": {name: dataclasses.asdict(split) for name, split in splits.items()},
  }
  write_json(pathlib.Path(folder) / INDEX, values)


def load(root: str | os.PathLike, split: str) -> Dataset:
  """One split of an index.

  Raises:
    DataError: there is no index, it has no such split, or the split's file is not the one that was written.
  """
  root = pathlib.Path(root)
  if not (root / INDEX).is_file():
    raise DataError(f"{root} holds no {INDEX}; give the folder that job prepare has written (<workdir>/index).")
  told = read_json(root / INDEX)
  try:
    if told["format"] != FORMAT:
      raise DataError(f"{root / INDEX} is of format {told['format']!r}, not {FORMAT}; run job prepare again.")
    splits = told["splits"]
    if split not in splits:
      raise DataError(f"{root / INDEX} has no split {split!r}; it has {', '.join(splits)}.")
    classes = {label: tuple(names) for label, names in told["classes"].items()}
    pairs = {kind: tuple((int(a), int(b)) for a, b in pairs) for kind, pairs in told["pairs"].items()}
    name, values, written = str(told["name"]), tuple(told["values"]), Split(**splits[split])
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise DataError(f"{root / INDEX} is no index ({type(error).__name__}: {error}); run job prepare again.") from error
  examples = _read(root / pathlib.PurePath(written.file).name, written)
  return Dataset(name, split, examples, classes, written.fingerprint, pairs, values)


def _read(file: pathlib.Path, written: Split) -> tuple[Example, ...]:
  examples, digest = [], blake3.blake3()
  try:
    with open(file, "rb") as stream:
      for number, line in enumerate(stream, 1):
        digest.update(line)
        examples.append(_example(file, number, line))
  except OSError as error:
    raise DataError(f"{file} can't be read ({error.strerror}); run job prepare again.") from error
  if digest.hexdigest() != written.blake3:
    raise DataError(f"{file} is not as it was written (other checksum); run job prepare again.")
  return tuple(examples)


def _example(file: pathlib.Path, number: int, line: bytes) -> Example:
  try:
    told = json.loads(line.decode("utf-8", "surrogatepass"))
    return Example(
      id=told["id"],
      path=told["path"],
      labels=told.get("labels", {}),
      start=told.get("start"),
      stop=told.get("stop"),
      group=told.get("group", ""),
      values=told.get("values", {}),
      rate=told.get("rate"),
    )
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
    raise DataError(f"{file}, line {number} is no example ({error}); run job prepare again.") from error


def _line(entry: Entry) -> dict[str, Any]:
  example = entry.example
  line = {
    "id": example.id,
    "path": example.path,
    "labels": dict(example.labels),
    "start": example.start,
    "stop": example.stop,
    "rate": example.rate,
    "group": example.group,
    "values": dict(example.values),
    "video": dict(entry.video),
    "flags": list(entry.flags),
  }
  return {key: value for key, value in line.items() if value is not None and value not in ({}, [], "")}


def _lists(named: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
  return {name: list(values) for name, values in named.items()}


def _canonical(value: Any) -> bytes:
  return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"
