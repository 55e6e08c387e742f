import io

import pytest
from rich.console import Console
from rich.table import Table

from gasmcast.reports.console import print_table

TEXT = "words that are together wider than the console"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_table_is_whole_in_a_log_and_fits_a_terminal(terminal):
  out = io.StringIO()
  console = Console(file=out, width=20, force_terminal=terminal, color_system=None)
  table = Table("a")
  table.add_row(TEXT)
  print_table(console, table)
  assert (TEXT in out.getvalue()) is not terminal
  assert max(map(len, out.getvalue().splitlines())) <= (20 if terminal else len(TEXT) + 4)
  assert console.width == 20
