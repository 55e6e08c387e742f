"""The data sets that `load` knows by name, one module a layout; each is imported when it is first loaded."""

import importlib
import inspect
import os
from typing import Any

from gasmcast.core.config import require
from gasmcast.core.types import Dataset

DATASETS = {
  "something_something": "gasmcast.datasets.something_something",
  "epic_kitchens": "gasmcast.datasets.epic_kitchens",
  "first_impressions": "gasmcast.datasets.first_impressions",
  "folder": "gasmcast.datasets.folder",
  "csv": "gasmcast.datasets.csv_list",
  "list": "gasmcast.datasets.frame_list",
  "index": "gasmcast.datasets.index",
}


def load(name: str, root: str | os.PathLike, split: str, **options: Any) -> Dataset:
  """One split of a data set.

  Args:
    name: of `DATASETS`.
    root: the folder that holds it.
    split: "train", "validation" or "test".
    options: of the module's `load`.

  Raises:
    ConfigError: an unknown name, split or option, or an option of the wrong type.
    DataError: the folder can't be used; the message names file, place and remedy.
  """
  require(name in DATASETS, f"{name!r} is no data set; use one of {', '.join(DATASETS)}.")
  reader = importlib.import_module(DATASETS[name]).load
  known = [option for option in inspect.signature(reader).parameters if option not in ("root", "split")]
  for option in options:
    require(option in known, f"{name!r} has no option {option!r}; its options: {', '.join(known) or 'none'}.")
  return reader(root, split, **options)
