"""The files below a folder, in an order that is the same everywhere."""

import os
import pathlib
from collections.abc import Iterator

from gasmcast.core.errors import DataError


def directories(folder: pathlib.Path) -> list[str]:
  """Names of the folders in a folder, and of links to such, without hidden ones.

  Raises:
    DataError: the folder can't be listed.
  """
  return [entry.name for entry in _entries(folder) if entry.is_dir()]


def files_below(folder: pathlib.Path, depth: int) -> Iterator[pathlib.Path]:
  """Files in the folder and in those below it, down to `depth` folders deep; hidden ones are passed over.

  Links to folders are followed.

  Raises:
    DataError: a folder can't be listed, or is a link that leads back to a folder that holds it.
  """
  return _below(folder, depth, ())


def _below(folder: pathlib.Path, depth: int, above: tuple[tuple[int, int], ...]) -> Iterator[pathlib.Path]:
  entries = _entries(folder)
  here = folder.stat()
  if (here.st_dev, here.st_ino) in above:
    raise DataError(f"{folder} is a link that leads back to a folder above it; remove it.")
  for entry in entries:
    if entry.is_file():
      yield pathlib.Path(entry.path)
  for entry in entries if depth else ():
    if entry.is_dir():
      yield from _below(pathlib.Path(entry.path), depth - 1, (*above, (here.st_dev, here.st_ino)))


def _entries(folder: pathlib.Path) -> list[os.DirEntry]:
  try:
    with os.scandir(folder) as entries:
      return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
  except OSError as error:
    raise DataError(f"{folder} can't be listed: {error.strerror}.") from error
