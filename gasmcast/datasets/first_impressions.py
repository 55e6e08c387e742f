"""ChaLearn First Impressions V2 (Escalante et al. 2020, arXiv 1802.00745): five traits of people who talk to a camera.

    training.csv, validation.csv, test.csv (or train.csv)
                    video,openness,conscientiousness,extraversion,agreeableness,neuroticism,interview
                    --Ymqszjv54.001.mp4,0.744444,0.650485,0.551402,0.527473,0.500000,0.588785
    **/<video>      anywhere below the folder, at most four levels deep, as the archives unpack

Values are in [0, 1]. They are found by the names of the columns and are always told in the one order of `TRAITS`, then
the interview score where the file has it. A file with the column `video` alone is a split without answers.

The group of an example is the film that the clip was cut from, its YouTube id before ".001.mp4". The official split
does not keep films apart: 1,222 of the 1,484 films of the validation split are in the training split too.
"""

import pathlib
import re

from gasmcast.core.errors import DataError
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets.csv_rows import Distinct, Row, read_rows, shown
from gasmcast.datasets.dataset import make_dataset, require_folder, require_split
from gasmcast.datasets.files import files_below

OFFICIAL = {"train": 6_000, "validation": 2_000, "test": 2_000}
TRAITS = ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")
INTERVIEW = "interview"
_FILES = {"train": ("training.csv", "train.csv"), "validation": ("validation.csv",), "test": ("test.csv",)}
_PICKLES = {
  "train": "annotation_training.pkl",
  "validation": "annotation_validation.pkl",
  "test": "annotation_test.pkl",
}
_FILM = re.compile(r"(.+)\.[0-9]{3}\.mp4")
_DEPTH = 4


def load(root: str | pathlib.Path, split: str) -> Dataset:
  """The clips of one split with the values `TRAITS` (and "interview"), in the order of the file.

  Raises:
    ConfigError: `split` is none of train, validation, test.
    DataError: a file is missing or broken, a value is outside [0, 1], or there is no video. The message names file,
      line and column.
  """
  require_split(split)
  root = pathlib.Path(root)
  require_folder(root, f"{_FILES[split][0]} and the videos")
  rows = read_rows(_annotations(root, split), ("video",))
  values = _values(rows[0])
  places, videos, examples = _places(root), Distinct(), []
  for row in rows:
    video, film = row.file_name("video"), _FILM.fullmatch(row.cells["video"])
    if not film:
      raise row.error("video", "is no clip such as --Ymqszjv54.001.mp4; correct it.")
    videos.add(row, "video", video)
    numbers = {name: row.decimal(name, 0.0, 1.0) for name in values}
    path = places.get(video, root / split / video)
    examples.append(Example(video, str(path), {}, group=film[1], values=numbers))
  if not any(row.cells["video"] in places for row in rows):
    raise DataError(
      f"{root} holds none of the {len(rows)} videos of the split {split!r}, such as {rows[0].cells['video']}, down to "
      f"{_DEPTH} levels; put them into {root / split}."
    )
  return make_dataset("first_impressions", split, root, examples, {}, values)


def _annotations(root: pathlib.Path, split: str) -> pathlib.Path:
  for name in _FILES[split]:
    if (root / name).is_file():
      return root / name
  columns = ",".join(("video", *TRAITS, INTERVIEW))
  if (root / _PICKLES[split]).exists():
    raise DataError(
      f"{root / _PICKLES[split]} is a pickle, which can run code when it is opened, and is not read; write its numbers "
      f"to {root / _FILES[split][0]} with the columns {columns} (docs/datasets.md says how)."
    )
  raise DataError(f"{root} holds no {' or '.join(_FILES[split])}; the columns are {columns}.")


def _values(row: Row) -> tuple[str, ...]:
  present = [name for name in TRAITS if name in row.cells]
  if present and len(present) < len(TRAITS):
    missing = next(name for name in TRAITS if name not in present)
    raise DataError(
      f"{row.file} has no column {missing!r} among {shown(','.join(row.cells))}; all of {', '.join(TRAITS)} are "
      "needed, or none of them for a split without answers."
    )
  return (*present, INTERVIEW) if INTERVIEW in row.cells else tuple(present)


def _places(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Name of a video -> where it lies."""
  places: dict[str, pathlib.Path] = {}
  for path in files_below(root, _DEPTH):
    if _FILM.fullmatch(path.name):
      if path.name in places:
        raise DataError(f"{places[path.name]} and {path} have the same name; remove one of them.")
      places[path.name] = path
  return places
