"""Rows of annotation files in text form, and the one way in which readers say what is wrong with a cell.

A file is UTF-8 (a byte-order mark is tolerated), lines end as on Unix or on Windows, blank lines are skipped. Every
message names file, line (from 1, as an editor shows it), column and value.
"""

import csv
import dataclasses
import difflib
import io
import math
import os
import pathlib
import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from gasmcast.core.errors import DataError

_SHOWN = 60
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # also what only JSON can smuggle in
_WHOLE = re.compile(r"[0-9]{1,15}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def shown(value: Any) -> str:
  """The value as a message shows it: its repr, cut where it is long."""
  text = repr(value)
  return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


def is_plain(text: str) -> bool:
  """Whether the text says something, in one line."""
  return bool(text.strip()) and not _CONTROL.search(text)


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
  """One row of an annotation file.

  Attributes:
    file: where it stands.
    line: number of its (first) line, from 1.
    cells: column -> text without surrounding blanks.
  """

  file: pathlib.Path
  line: int
  cells: dict[str, str]

  def error(self, column: str, rule: str) -> DataError:
    """The error that a cell breaks a rule; `rule` goes on after the value and ends with the remedy."""
    return DataError(f"{self.file}, line {self.line}, column {column}: {shown(self.cells.get(column, ''))} {rule}")

  def text(self, column: str) -> str:
    """What stands there. Raises DataError where it is empty or holds control characters."""
    text = self.cells[column]
    if not text:
      raise self.error(column, "is empty; fill the cell or remove the line.")
    if not is_plain(text):
      raise self.error(column, "holds a control character; write it in one line of plain text.")
    return text

  def file_name(self, column: str) -> str:
    """A plain name that becomes part of a path. Raises DataError for "..", hidden names and separators."""
    text = self.text(column)
    if text.startswith(".") or "/" in text or "\\" in text or not text.isprintable():
      raise self.error(column, "is no plain file name; use letters, digits, '.', '-' and '_'.")
    return self._short(column, text)

  def path(self, column: str, root: str | os.PathLike) -> str:
    """The path in the cell, below `root` unless it is absolute. Raises DataError where it leads out of `root`."""
    path = os.path.normpath(self.text(column))
    if path == "." or path == ".." or path.startswith("../"):
      raise self.error(column, f"leads out of {root}; use a path below it, or an absolute one.")
    self._short(column, path)
    return path if path.startswith("/") else f"{root}/{path}"

  def _short(self, column: str, path: str) -> str:
    """The path, which a file system can hold: longer names make looking for the file an error of its own."""
    if len(path) > 50 and (len(path.encode()) > 4000 or any(len(part.encode()) > 250 for part in path.split("/"))):
      raise self.error(column, "is longer than a path can be; correct it.")
    return path

  def whole(self, column: str, low: int = 0, high: int | None = None) -> int:
    """A whole number in [low, high]. Raises DataError for anything else."""
    text = self.cells[column]
    number = int(text) if _WHOLE.fullmatch(text) else -1
    if number < low or (high is not None and number > high):
      bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
      raise self.error(column, f"is no whole number {bounds}; correct it.")
    return number

  def decimal(self, column: str, low: float = 0.0, high: float = math.inf) -> float:
    """A finite number in [low, high]. Raises DataError for anything else."""
    text = self.cells[column]
    number = float(text) if len(text) < 400 and _DECIMAL.fullmatch(text) else math.nan
    if not (low <= number <= high and math.isfinite(number)):
      bounds = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
      raise self.error(column, f"is no number {bounds}; correct it.")
    return number

  def choice(self, column: str, choices: Sequence[str] | dict[str, Any], remedy: str) -> str:
    """One of the choices. Raises DataError, with the nearest one, for anything else."""
    text = self.cells[column]
    if text not in choices:
      near = difflib.get_close_matches(text[:_SHOWN], list(choices)[:10_000], 1)
      raise self.error(column, f"is unknown{f' (did you mean {near[0]!r}?)' if near else ''}; {remedy}")
    return text


class Distinct:
  """Values of which each may be used once; remembers where."""

  def __init__(self) -> None:
    self._lines: dict[Hashable, int] = {}

  def add(self, row: Row, column: str, value: Hashable) -> None:
    """Raises DataError where an earlier row has the same value."""
    if value in self._lines:
      raise row.error(column, f"gives {shown(value)}, as line {self._lines[value]} does; remove one of the two lines.")
    self._lines[value] = row.line


def read_rows(
  file: str | os.PathLike, required: Sequence[str], delimiter: str = ",", header: Sequence[str] | None = None
) -> list[Row]:
  """The rows of a CSV file with a header line.

  Args:
    file: to be read.
    required: columns that must be there; others may be.
    delimiter: between cells.
    header: the columns of a file that has no header line.

  Raises:
    DataError: the file can't be read, is not UTF-8, holds NUL, is no CSV or empty, lacks a column, has one twice, or a
      row with another number of cells.
  """
  file, rows = pathlib.Path(file), []
  for line, cells in _records(file, delimiter):
    cells = [cell.strip() for cell in cells]
    if header is None:
      header = _checked_header(file, line, cells, required, delimiter)
    elif len(cells) != len(header):
      raise DataError(
        f"{file}, line {line}: {len(cells)} cells where {len(header)} columns are named ({shown(','.join(header))}); "
        "add or remove commas, or put quotes around text that holds one."
      )
    else:
      rows.append(Row(file, line, dict(zip(header, cells, strict=True))))
  if header is None or not rows:
    raise DataError(f"{file} holds no rows; columns {', '.join(required)} and a line an entry are needed.")
  return rows


def read_words(file: str | os.PathLike, columns: dict[int, Sequence[str]]) -> list[Row]:
  """The rows of a list without a header, its cells separated by blanks; every line has the same number of them.

  Args:
    file: to be read.
    columns: number of cells -> their names.

  Raises:
    DataError: the file can't be read, is not UTF-8, holds NUL, is empty, or a line has another number of cells.
  """
  file, rows = pathlib.Path(file), []
  kinds = " or ".join(f"'{' '.join(names)}'" for names in columns.values())
  for line, text in enumerate(io.StringIO(read_text(file), newline=None), start=1):
    cells = text.split()
    if not cells:
      continue
    names = columns.get(len(cells), ()) if not rows else rows[0].cells
    if len(names) != len(cells):
      raise DataError(
        f"{file}, line {line}: {shown(text.rstrip())} has {len(cells)} cells; every line is to be {kinds}."
      )
    rows.append(Row(file, line, dict(zip(names, cells, strict=True))))
  if not rows:
    raise DataError(f"{file} holds no rows; lines such as {kinds} are needed.")
  return rows


def read_text(file: str | os.PathLike) -> str:
  """The content of a UTF-8 file without its byte-order mark.

  Raises:
    DataError: the file can't be read, is not UTF-8 or holds NUL; the message names the line.
  """
  try:
    content = pathlib.Path(file).read_bytes()
  except FileNotFoundError as error:
    raise DataError(f"{file} does not exist.") from error
  except OSError as error:
    raise DataError(f"{file} can't be read: {error.strerror}.") from error
  try:
    text = content.decode("utf-8-sig")
    nul = content.find(b"\0")
  except UnicodeDecodeError as error:
    nul = content.find(b"\0", 0, error.start)
    if nul < 0:
      line = content.count(b"\n", 0, error.start) + 1
      raise DataError(
        f"{file}, line {line}: byte {content[error.start]:#04x} is not UTF-8; save it as UTF-8."
      ) from None
  if nul >= 0:
    line = content.count(b"\n", 0, nul) + 1
    raise DataError(f"{file}, line {line}: a NUL byte, so this is no text in UTF-8; save it as UTF-8 or replace it.")
  return text


def _records(file: pathlib.Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
  """(first line, cells) of each record that is not blank."""
  reader = csv.reader(io.StringIO(read_text(file), newline=""), delimiter=delimiter, strict=True)
  line = 1
  try:
    for cells in reader:
      if any(cell.strip() for cell in cells) or len(cells) > 1:
        yield line, cells
      line = reader.line_num + 1
  except csv.Error as error:
    raise DataError(f"{file}, line {line}: no CSV, {error}; correct the quotes of this line.") from error


def _checked_header(
  file: pathlib.Path, line: int, names: list[str], required: Sequence[str], delimiter: str
) -> list[str]:
  twice = next((name for name in names if names.count(name) > 1), None)
  if twice is not None:
    raise DataError(f"{file}, line {line}: the column {shown(twice)} is named twice; rename or remove one.")
  for name in required:
    if name not in names:
      raise DataError(
        f"{file}, line {line}: no column {name!r} among {shown(delimiter.join(names))}; the first line must name the "
        f"columns {', '.join(required)}, separated by {delimiter!r}."
      )
  return names
