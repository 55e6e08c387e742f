"""Videos of one's own: a CSV file that lists them.

    root/train.csv, root/validation.csv, root/test.csv        a file a split, or
    root/annotations.csv                                      one file with a column `split` or with `shares`

| column | |
|---|---|
| path | the video, relative to the folder of the file, or absolute; or, with `rate`, a folder of extracted frames |
| label, label.NAME | class, by name; `label` is the label "action", `label.verb` the label "verb" |
| value.NAME | a number to be predicted, for example `value.openness` |
| start, stop | the part [start, stop) of the video in seconds; empty: from its beginning, to its end |
| rate | frames a second of a folder of extracted frames; empty for a video file |
| split | train, validation or test |
| group | source, person ...: what may not stand in two splits; empty: the path |
| id | unique in its split; without the column it is the path, with the part where one is given |

Only `path` is required; other columns are passed over. Classes are numbered in the order of their names (of their
numbers where all are whole numbers), over all splits; or as in root/labels.json, {"jumping": "0", ...}, where there is
one and `label` is the only label.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping

from gasmcast.core.config import require
from gasmcast.core.errors import DataError
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets.class_index import read_classes
from gasmcast.datasets.csv_rows import Distinct, Row, read_rows
from gasmcast.datasets.dataset import SPLITS, make_dataset, require_folder, require_split
from gasmcast.datasets.shares import check_shares, split_of

_NAME = "annotations.csv"


def load(root: str | pathlib.Path, split: str, *, file: str = "", shares: Mapping[str, float] | None = None) -> Dataset:
  """The rows of one split in their order. A row whose label is empty has no answer; so have then all of its split.

  Args:
    root: the folder of the files.
    split: "train", "validation" or "test".
    file: the one file of all splits, in place of annotations.csv.
    shares: split -> share of the groups, for a file without the column `split`.

  Raises:
    ConfigError: no such split; shares beside a column `split`, or none without it; shares that don't add up to 1.
    DataError: a file is missing or broken; a path that leads out of the folder. The message names file, line, column.
  """
  require_split(split)
  require(isinstance(file, str), f"file = {file!r} is no path of a CSV file.")
  root = pathlib.Path(root)
  require_folder(root, f"{split}.csv or {_NAME}")
  rows = _rows(root, split, file, shares)
  columns = _label_columns(row for of_split in rows.values() for row in of_split)
  classes = {label: _classes(root, column, columns, rows) for label, column in columns.items()}
  positions = {label: {name: index for index, name in enumerate(names)} for label, names in classes.items()}
  chosen = rows[split]
  values = tuple(c.removeprefix("value.") for c in (chosen[0].cells if chosen else ()) if c.startswith("value."))
  ids, examples = Distinct(), []
  for row in chosen:
    example = _example(root, row, positions, columns, values)
    ids.add(row, "id" if "id" in row.cells else "path", example.id)
    examples.append(example)
  for column in (*columns.values(), *(f"value.{name}" for name in values)):
    _check_answers(chosen, column)
  return make_dataset("csv", split, root, examples, classes, values)


def _rows(root: pathlib.Path, split: str, file: str, shares: Mapping[str, float] | None) -> dict[str, list[Row]]:
  """Split -> its rows."""
  if not file and (root / f"{split}.csv").is_file():
    require(shares is None, f"shares = {shares!r}, but {root} has a file a split; remove one of the two.")
    present = [name for name in SPLITS if (root / f"{name}.csv").is_file()]
    return {name: read_rows(root / f"{name}.csv", ("path",)) for name in present}
  whole = root / (file or _NAME)
  if not whole.is_file():
    raise DataError(f"{root} holds neither {split}.csv nor {file or _NAME}; write one with the columns path and label.")
  rows = read_rows(whole, ("path",))
  splits: dict[str, list[Row]] = {name: [] for name in SPLITS}
  if "split" in rows[0].cells:
    require(shares is None, f"shares = {shares!r}, but {whole} has a column 'split'; remove one of the two.")
    for row in rows:
      splits[row.choice("split", SPLITS, f"use one of {', '.join(SPLITS)}.")].append(row)
    return splits
  require(
    shares is not None,
    f'{whole} has no column "split"; add it, or give shares such as {{"train": 0.8, "validation": 0.2}}.',
  )
  shares = check_shares(shares)
  for row in rows:
    splits[split_of(_group(row), shares)].append(row)
  return splits


def _label_columns(rows: Iterable[Row]) -> dict[str, str]:
  """Label name -> column."""
  columns: dict[str, str] = {}
  for row in rows:
    for column in row.cells:
      if column == "label" or column.startswith("label."):
        name = column.removeprefix("label").removeprefix(".") or "action"
        if columns.setdefault(name, column) != column:
          raise DataError(f"{row.file} has two columns for one label, {columns[name]!r} and {column!r}; remove one.")
  return columns


def _classes(
  root: pathlib.Path, column: str, columns: Mapping[str, str], rows: Mapping[str, list[Row]]
) -> tuple[str, ...]:
  if len(columns) == 1 and (root / "labels.json").is_file():
    return read_classes(root / "labels.json")
  names = {row.text(column) for of_split in rows.values() for row in of_split if row.cells.get(column)}
  if not names:
    raise DataError(f"{root}: the column {column!r} is empty in every row; fill it or remove it.")
  by_number = all(name.isascii() and name.isdigit() and len(name) < 16 for name in names)
  return tuple(sorted(names, key=(lambda name: (int(name), name)) if by_number else None))


def _example(
  root: pathlib.Path,
  row: Row,
  positions: Mapping[str, Mapping[str, int]],
  columns: Mapping[str, str],
  values: tuple[str, ...],
) -> Example:
  start = row.decimal("start") if row.cells.get("start") else None
  stop = row.decimal("stop") if row.cells.get("stop") else None
  if stop is not None and stop <= (start or 0.0):
    raise row.error("stop", f"is not after the start {start or 0:g}; a part [start, stop) needs a length.")
  rate = row.decimal("rate", 1e-3, 1e5) if row.cells.get("rate") else None
  labels = {
    label: positions[label][row.choice(column, positions[label], "use a class of labels.json, or add it there.")]
    for label, column in columns.items()
    if row.cells.get(column)
  }
  numbers = {name: row.decimal(f"value.{name}", -1e300, 1e300) for name in values if row.cells.get(f"value.{name}")}
  identity = row.text("id") if "id" in row.cells else _part(row)
  return Example(identity, row.path("path", root), labels, start, stop, group=_group(row), values=numbers, rate=rate)


def _part(row: Row) -> str:
  start, stop = row.cells.get("start", ""), row.cells.get("stop", "")
  return f"{row.cells['path']}[{start},{stop})" if start or stop else row.cells["path"]


def _group(row: Row) -> str:
  return row.cells.get("group") or os.path.normpath(row.text("path"))  # "a.mp4" and "./a.mp4" are one video


def _check_answers(rows: list[Row], column: str) -> None:
  """All rows of a split have an answer or none has."""
  answered = [bool(row.cells.get(column)) for row in rows]
  if any(answered) and not all(answered):
    row = rows[answered.index(False)]
    raise row.error(
      column, f"is empty, where {sum(answered)} of the {len(rows)} rows of its split have an answer; fill it."
    )
