"""Tables on a console, whole: a log file has no width to which they would have to be squeezed."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_WIDEST = 1000  # columns


def print_table(console: Console, table: Table) -> None:
  """Prints the table as wide as a terminal is, and as wide as the table is where it is no terminal."""
  width = console.width
  if not console.is_terminal:
    needed = Measurement.get(console, console.options.update(width=_WIDEST), table)
    console.width = max(width, needed.maximum)
  console.print(table, markup=False)
  console.width = width
