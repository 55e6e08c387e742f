"""What every reader ends with: a `Dataset` with its fingerprint; and what jobs ask of one."""

import pathlib
from collections.abc import Mapping, Sequence

from gasmcast.core.config import require
from gasmcast.core.errors import DataError
from gasmcast.core.manifest import hash_json
from gasmcast.core.types import Dataset, Example

SPLITS = ("train", "validation", "test")


def require_split(split: str) -> None:
  """Raises ConfigError unless `split` is one of train, validation, test."""
  require(split in SPLITS, f"split = {split!r} is none of {', '.join(SPLITS)}.")


def require_folder(root: pathlib.Path, content: str) -> None:
  """Raises DataError unless `root` is a folder; `content` says what it should hold."""
  if not root.is_dir():
    raise DataError(f"{root} is not a folder; give the one that holds {content}.")


def make_dataset(
  name: str,
  split: str,
  root: pathlib.Path,
  examples: Sequence[Example],
  classes: Mapping[str, tuple[str, ...]],
  values: tuple[str, ...] = (),
) -> Dataset:
  """A data set whose fingerprint covers all that its examples say, their paths as seen from `root`.

  Raises:
    DataError: there are no examples.
  """
  if not examples:
    raise DataError(f"{root} gives no examples for the split {split!r}; a split needs at least one.")
  content = [
    [
      example.id,
      _relative(example.path, root),
      dict(example.labels),
      example.start,
      example.stop,
      example.group,
      dict(example.values),
      example.rate,
    ]
    for example in examples
  ]
  fingerprint = hash_json(
    {
      "name": name,
      "split": split,
      "examples": content,
      "classes": {label: list(names) for label, names in classes.items()},
      "values": list(values),
    }
  )
  return Dataset(name, split, tuple(examples), classes, fingerprint, values=values)


def require_labels(dataset: Dataset) -> None:
  """Raises DataError unless every example has every label and value of the data set: what training and scoring need."""
  wanted = (*dataset.classes, *dataset.values)
  without = [
    example
    for example in dataset.examples
    if not all(name in example.labels or name in example.values for name in wanted)
  ]
  if without or not wanted:
    raise DataError(
      f"{dataset.name}: {len(without) if wanted else len(dataset.examples)} of {len(dataset.examples)} examples of the "
      f"split {dataset.split!r} have no answers (the first: {(without or dataset.examples)[0].id!r}); use a split with "
      "answers, add the file that holds them, or run --job predict."
    )


def _relative(path: str, root: pathlib.Path) -> str:
  return path.removeprefix(f"{root}/")
