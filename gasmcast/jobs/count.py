"""Job count: how many parameters the model has, part by part, without allocating any of them."""

import math

from rich.table import Table

from gasmcast.core import rules
from gasmcast.jobs.experiment import Experiment
from gasmcast.systems.fusion_classifier import AUXILIARY


def run(experiment: Experiment) -> None:
  """Prints the table of parts; trainable, frozen and buffers apart."""
  console = experiment.console
  variables = experiment.abstract_variables
  flat = rules.flatten(variables["params"])
  trained = rules.match(list(flat), experiment.any_system.trainable, "config.model")
  table = Table(title=f"Parameters for {experiment.class_count} classes", title_justify="left")
  table.add_column("part")
  for column in ("trainable", "frozen"):
    table.add_column(column, justify="right")
  totals = {True: 0, False: 0}
  parts: dict[str, dict[bool, int]] = {}
  for name, leaf in flat.items():
    part = "/".join(name.split("/")[:2]) if name.startswith("fusion/") else name.split("/")[0]
    parts.setdefault(part, {True: 0, False: 0})[trained[name]] += math.prod(leaf.shape)
    totals[trained[name]] += math.prod(leaf.shape)
  for part, counts in parts.items():
    table.add_row(part, *(f"{counts[kind]:,}" if counts[kind] else "" for kind in (True, False)))
  table.add_section()
  table.add_row("all", f"{totals[True]:,}", f"{totals[False]:,}")
  auxiliary = sum(counts[True] for part, counts in parts.items() if part.split("/")[-1].startswith(AUXILIARY))
  table.add_row("without auxiliary heads", f"{totals[True] - auxiliary:,}", "")
  buffers = sum(math.prod(leaf.shape) for leaf in rules.flatten(variables.get("batch_stats", {})).values())
  console.print(table)
  budget = experiment.model.max_trainable
  if budget:
    console.print(f"Budget of trainable parameters: {budget:,}, kept. Buffers (batch statistics): {buffers:,}.")
