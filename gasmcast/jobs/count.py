"""Job count: how many parameters the model has, part by part, without allocating any of them."""

import math

from rich.table import Table

from gasmcast.core import rules
from gasmcast.jobs.experiment import Experiment
from gasmcast.systems.fusion_classifier import AUXILIARY


def check(experiment: Experiment) -> None:
  """An experiment that could be made can be counted."""


def run(experiment: Experiment) -> None:
  """Prints the table of parts, trainable and frozen apart, the sums, the budget and the buffers."""
  parts = experiment.parameters()
  table = Table(title=f"Parameters for {experiment.class_count} classes", title_justify="left")
  table.add_column("part")
  for kind in ("trainable", "frozen"):
    table.add_column(kind, justify="right")
  for part, counts in parts.items():
    table.add_row(part, *(f"{number:,}" if number else "" for number in counts.values()))
  totals = {kind: sum(counts[kind] for counts in parts.values()) for kind in ("trainable", "frozen")}
  auxiliary = sum(counts["trainable"] for part, counts in parts.items() if part.startswith(f"fusion/{AUXILIARY}"))
  table.add_section()
  table.add_row("all", *(f"{number:,}" for number in totals.values()))
  table.add_row("without auxiliary heads", f"{totals['trainable'] - auxiliary:,}", "")
  experiment.console.print(table)
  buffers = rules.flatten(experiment.abstract_variables.get("batch_stats", {})).values()
  experiment.console.print(f"Buffers (batch statistics): {sum(math.prod(leaf.shape) for leaf in buffers):,}.")
  if budget := experiment.model.max_trainable:
    experiment.console.print(f"Budget of trainable parameters: {budget:,}, kept.")
