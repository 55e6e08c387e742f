"""The table of what trains: rows by module and treatment."""

import io

import numpy as np
from rich.console import Console

from gasmcast.training import parameter_table
from gasmcast.training.optim import OptimConfig
from gasmcast.training.parameter_table import Row
from gasmcast.training.treatment import treat

SHAPES = {
  "net/block_0/attention/kernel": (30, 40),
  "net/block_0/attention/bias": (40,),
  "net/block_1/attention/kernel": (30, 40),
  "net/block_1/attention/bias": (40,),
  "net/block_10/attention/kernel": (30, 40),
  "net/block_10/attention/bias": (40,),
  "net/block_2/attention/kernel": (30, 40),
  "net/block_2/attention/bias": (40,),
  "net/norm/scale": (40,),
  "still/stem/kernel": (7, 3),
  "still/norm/scale": (3,),
  "head/kernel": (40, 5),
}
PARAMS = {name: np.empty(SHAPES[name]) for name in sorted(SHAPES)}
SYSTEM = (("^still/", False), (".*", True))


def rows(**fields):
  return parameter_table.rows(PARAMS, treat(list(PARAMS), SYSTEM, OptimConfig(**fields)))


def test_alike_modules_and_parts_that_are_frozen_as_a_whole_share_a_row():
  assert rows() == [
    Row("head", 200, True, 1.0, 200),
    Row("net/block_0-10", 4960, True, 1.0, 4800),  # four times 1240, of which 40 are biases
    Row("net/norm", 40, True, 1.0, 0),
    Row("still", 24, False, 0.0, 0),
  ]


def test_a_module_is_divided_where_its_parameters_are_treated_differently():
  found = rows(trained=(("block_(2|10)/", True), ("^net/", False)), lr_rules=(("bias$", 2.0), (".*", 1.0)))
  assert [(row.name, row.parameters, row.trained, row.lr_factor) for row in found] == [
    ("head", 200, True, 1.0),
    ("net/block_0", 1240, False, 0.0),
    ("net/block_1", 1240, False, 0.0),  # two alike stay two
    ("net/block_2", 40, True, 2.0),
    ("net/block_2", 1200, True, 1.0),
    ("net/block_10", 40, True, 2.0),
    ("net/block_10", 1200, True, 1.0),
    ("net/norm", 40, False, 0.0),
    ("still", 24, False, 0.0),
  ]


def test_nothing_is_lost_and_nothing_is_counted_twice():
  for fields in ({}, {"trained": (("block_1", False),)}, {"lr_rules": (("net", 0.5), (".*", 1.0))}):
    assert sum(row.parameters for row in rows(**fields)) == sum(leaf.size for leaf in PARAMS.values())


def test_the_table_is_readable_in_80_columns():
  console = Console(file=io.StringIO(), width=80)
  console.print(parameter_table.table(PARAMS, treat(list(PARAMS), SYSTEM, OptimConfig()), "What trains"))
  lines = [" ".join(line.replace("│", " ").split()) for line in console.file.getvalue().splitlines()]
  assert lines[0] == "What trains"
  assert "net/block_0-10 4,960 trained x 1 4,800" in lines
  assert "still 24 frozen" in lines
  assert "all 5,200 trained 5,000" in lines and "all 24 frozen" in lines
