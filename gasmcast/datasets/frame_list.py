"""The lists that papers publish beside their code: a line a video, its cells separated by blanks, classes as numbers.

    path label                     VideoMAE
    path frames label              TSN, TSM, Side4Video: a folder of extracted frames, or the id of a video
    path start frames label        VideoMAE: `frames` files from file number `start` (from 0) on

    root/train.txt, root/val.txt (or validation.txt), root/test.txt; .csv is read as well, train_videofolder.txt too
    root/labels.json               {"Moving something up": "43", ...}

What a line means by its path, in this order: a file below root where it ends with the suffix of a video; the video
root/videos/<path>.webm (or root/20bn-something-something-v2/...) where there is such a folder; a folder of frames below
root, which needs the option `rate`.

A test list in which every example has the same class publishes no answers (the lists of Something-Something-V2 put 0
there), so its examples have no labels; `answers=True` says otherwise.
"""

import pathlib

from gasmcast.core.config import require
from gasmcast.core.errors import DataError
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets.class_index import read_classes
from gasmcast.datasets.csv_rows import Distinct, Row, read_words
from gasmcast.datasets.dataset import make_dataset, require_folder, require_split
from gasmcast.datasets.folder import VIDEO_SUFFIXES
from gasmcast.datasets.something_something import VIDEO_FOLDERS

_COLUMNS = {
  2: ("path", "label"),
  3: ("path", "frames", "label"),
  4: ("path", "start", "frames", "label"),
}
_FILES = {
  split: tuple(f"{name}{ending}" for ending in (".txt", ".csv", "_videofolder.txt") for name in names)
  for split, names in {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}.items()
}


def load(
  root: str | pathlib.Path,
  split: str,
  *,
  file: str = "",
  rate: float | None = None,
  answers: bool | None = None,
) -> Dataset:
  """The examples of one split with the label "action", in the order of the list. The id is the path (with its part).

  Args:
    root: holds list, labels.json and videos.
    split: "train", "validation" or "test".
    file: the list, in place of the usual names, relative to `root`.
    rate: frames a second of folders of extracted frames.
    answers: whether the classes of the list are answers; None: as said above.

  Raises:
    ConfigError: no such split, a rate that is no number above 0, folders of frames without one.
    DataError: a file is missing or broken. The message names file, line and column.
  """
  require_split(split)
  require(isinstance(file, str), f"file = {file!r} is no path of a list.")
  require(answers is None or isinstance(answers, bool), f"answers = {answers!r} is none of True, False, None.")
  number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
  require(rate is None or (number and 0 < rate < 1e5), f"rate = {rate!r} is no number of frames a second above 0.")
  root = pathlib.Path(root)
  require_folder(root, f"{_FILES[split][0]} and labels.json")
  if not (root / "labels.json").is_file():
    raise DataError(f'{root} holds no labels.json; write the names of the classes: {{"Jumping": "0", "Running": "1"}}.')
  classes = read_classes(root / "labels.json")
  rows = read_words(_list(root, split, file), _COLUMNS)
  labels = [row.whole("label", 0, len(classes) - 1) for row in rows]
  if answers is None:
    answers = split != "test" or len(classes) == 1 or len(set(labels)) > 1
  videos = next((root / name for name in VIDEO_FOLDERS if (root / name).is_dir()), None)
  ids, examples = Distinct(), []
  for row, label in zip(rows, labels, strict=True):
    example = _example(row, {"action": label} if answers else {}, root, videos, rate)
    ids.add(row, "path", example.id)
    examples.append(example)
  return make_dataset("list", split, root, examples, {"action": classes})


def _list(root: pathlib.Path, split: str, file: str) -> pathlib.Path:
  names = (file,) if file else _FILES[split]
  found = [root / name for name in names if (root / name).is_file()]
  if not found:
    raise DataError(f"{root} holds no list of the split {split!r}; looked for {', '.join(names)}.")
  if len(found) > 1:
    raise DataError(f"{found[0]} and {found[1]} are two lists for one split; remove one, or name one as file.")
  return found[0]


def _example(
  row: Row, labels: dict[str, int], root: pathlib.Path, videos: pathlib.Path | None, rate: float | None
) -> Example:
  frames = row.whole("frames", 1) if "frames" in row.cells else None
  first = row.whole("start") if "start" in row.cells else None
  path = row.cells["path"]
  if path.lower().endswith(VIDEO_SUFFIXES):
    if first is not None:
      raise row.error("path", "is a video, but a start counted in frames is about a folder of frames; use a CSV list.")
    return Example(path, row.path("path", root), labels, group=path)
  if videos is not None and first is None:
    return Example(path, f"{row.path('path', videos)}.webm", labels, group=path)
  require(
    rate is not None,
    f"{row.file}, line {row.line}: {path!r} is a folder of frames, so how many make a second must be said; set the "
    "option rate, for example 12.0, or put the videos into videos/<path>.webm.",
  )
  start = None if first is None else first / rate
  stop = None if frames is None else ((first or 0) + frames) / rate
  identity = path if first is None else f"{path}[{first},{first + frames})"
  return Example(identity, row.path("path", root), labels, start, stop, group=path, rate=float(rate))
