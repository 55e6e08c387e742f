"""Class names from labels.json: {"Moving something up": "43", ...}, the number being a string of digits."""

import pathlib

from gasmcast.core.errors import DataError
from gasmcast.core.manifest import read_json
from gasmcast.datasets.csv_rows import is_plain, shown


def read_classes(file: pathlib.Path) -> tuple[str, ...]:
  """The names in the order of their numbers.

  Raises:
    DataError: no such object, a number that is no string of digits, one used twice, or one left out.
  """
  labels = read_json(file)
  if not isinstance(labels, dict) or not labels:
    raise DataError(f'{file} is no list of classes; an object such as {{"Moving something up": "0"}} is needed.')
  names: dict[int, str] = {}
  for name, text in labels.items():
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10):
      raise DataError(
        f'{file}: the index of {shown(name)} is {shown(text)}; a string of digits such as "17" is needed.'
      )
    if not is_plain(name):
      raise DataError(f"{file}: {shown(name)} is no name of a class; write it in one line of plain text.")
    if int(text) in names:
      raise DataError(
        f"{file}: {shown(names[int(text)])} and {shown(name)} have the same index {text}; number them 0, 1, 2, ..."
      )
    names[int(text)] = name
  if max(names) != len(names) - 1:
    missing = next(index for index in range(len(names)) if index not in names)
    raise DataError(
      f"{file}: {len(names)} classes but none has the index {missing}; number them 0 to {len(names) - 1}."
    )
  return tuple(names[index] for index in range(len(names)))
