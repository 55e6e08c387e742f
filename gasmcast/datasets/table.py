"""The data sets that `load` knows by name, one module a layout; each is imported when it is first loaded.

A module has `load(root, split, *, options)`. One whose examples are features and not videos also has
`shapes(*, options)`, which gives those of a clip by stream, and the source of batches `Features(dataset, *, options)`.
"""

import importlib
import inspect
import os
from types import ModuleType
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
  "feature_sets": "gasmcast.datasets.generated.feature_sets",
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
  reader = _module(name).load
  if any(kind.kind is kind.VAR_KEYWORD for kind in inspect.signature(reader).parameters.values()):
    return reader(root, split, **options)  # it checks them itself
  known = [option for option in inspect.signature(reader).parameters if option not in ("root", "split")]
  for option in options:
    require(option in known, f"{name!r} has no option {option!r}; its options: {', '.join(known) or 'none'}.")
  return reader(root, split, **options)


def gives_features(name: str) -> bool:
  """Whether the examples of a data set are features, and not videos."""
  return hasattr(_module(name), "Features")


def feature_shapes(name: str, **options: Any) -> dict[str, tuple[int, ...]]:
  """Stream -> shape of a clip's features, of a data set that gives them. Raises ConfigError as `load`."""
  return _module(name).shapes(**options)


def features(name: str, dataset: Dataset, **options: Any) -> Any:
  """The features of a data set that gives them, as a source of batches."""
  return _module(name).Features(dataset, **options)


def _module(name: str) -> ModuleType:
  require(name in DATASETS, f"{name!r} is no data set; use one of {', '.join(DATASETS)}.")
  return importlib.import_module(DATASETS[name])
