"""What trains, as a table: module by module, trained or frozen, how fast, and how much of it decays.

A row is a group of parameters of one module (`groups.group_of`) that are treated alike; a part of the model that is
frozen as a whole is one row, and so are three or more numbered modules in a row that are alike in size and treatment.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from gasmcast.training.groups import group_of
from gasmcast.training.treatment import Treatment

COLUMNS = ("part", "parameters", "", "learning rate", "with decay")
_NUMBERED = re.compile(r"(.*?)(\d+)")
_ALIKE = 3  # numbered modules from which on they share a row


@dataclasses.dataclass(frozen=True)
class Row:
  """Parameters of one module that are treated alike.

  Attributes:
    name: of the module, or "block_0-9".
    parameters: how many numbers they are.
    trained: whether they train.
    lr_factor: on the learning rate.
    decaying: how many of the numbers lose weight.
  """

  name: str
  parameters: int
  trained: bool
  lr_factor: float
  decaying: int


def rows(params: Mapping[str, Any], treatments: Mapping[str, Treatment]) -> list[Row]:
  """The table of flat parameters (arrays or their shapes) by name, in the order of the names.

  Args:
    treatments: of every name, see `treatment.treat`.
  """
  frozen = {part: True for part in map(_part, params)}
  for name in params:
    frozen[_part(name)] &= not treatments[name].trained
  table: dict[tuple[str, bool, float], Row] = {}
  for name, leaf in params.items():
    treated, size = treatments[name], math.prod(leaf.shape)
    group = _part(name) if frozen[_part(name)] else group_of(name)
    key = (group, treated.trained, treated.lr_factor)
    row = table.get(key, Row(*key[:1], 0, *key[1:], 0))
    decaying = row.decaying + size * treated.decays
    table[key] = dataclasses.replace(row, parameters=row.parameters + size, decaying=decaying)
  return _with_runs_joined(sorted(table.values(), key=lambda row: _by_number(row.name)))


def _part(name: str) -> str:
  return name.split("/")[0]


def _by_number(name: str) -> list[Any]:
  """Sorts block_2 before block_10."""
  return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name)]


def _with_runs_joined(table: Iterable[Row]) -> list[Row]:
  """Numbered modules in a row with the same stem, size and treatment as one row, from `_ALIKE` on."""

  def kind(row: Row):
    numbered = _NUMBERED.fullmatch(row.name)
    return (numbered[1] if numbered else row.name, dataclasses.replace(row, name=""))

  joined = []
  for _, members in itertools.groupby(table, kind):
    run = list(members)
    if len(run) < _ALIKE:
      joined += run
    else:
      sums = {name: sum(getattr(row, name) for row in run) for name in ("parameters", "decaying")}
      last = _NUMBERED.fullmatch(run[-1].name)[2]
      joined.append(dataclasses.replace(run[0], name=f"{run[0].name}-{last}", **sums))
  return joined


def table(params: Mapping[str, Any], treatments: Mapping[str, Treatment], title: str) -> Table:
  """The rows for a terminal, with their sums. Arguments as `rows`."""
  shown = Table(title=title, title_justify="left")
  shown.add_column(COLUMNS[0])
  for column in COLUMNS[1:]:
    shown.add_column(column, justify="left" if not column else "right")
  listed = rows(params, treatments)
  for row in listed:
    shown.add_row(row.name, f"{row.parameters:,}", *_treatment(row))
  shown.add_section()
  for trained in (True, False):
    chosen = [row for row in listed if row.trained == trained]
    if chosen:
      total = Row("", sum(row.parameters for row in chosen), trained, math.nan, sum(row.decaying for row in chosen))
      shown.add_row("all", f"{total.parameters:,}", *_treatment(total))
  return shown


def _treatment(row: Row) -> tuple[str, str, str]:
  if not row.trained:
    return "frozen", "", ""
  factor = "" if math.isnan(row.lr_factor) else f"x {row.lr_factor:.3g}"
  return "trained", factor, f"{row.decaying:,}"
