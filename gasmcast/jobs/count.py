"""Job count: how many parameters the model has and how each part is treated, without allocating any of them."""

import math

from gasmcast.core import rules
from gasmcast.jobs.experiment import Experiment
from gasmcast.systems.fusion_classifier import AUXILIARY
from gasmcast.training import parameter_table


def check(experiment: Experiment) -> None:
  """An experiment that could be made can be counted."""


def run(experiment: Experiment) -> None:
  """Prints the table of parts with its sums, then the auxiliary heads, the buffers and the budget."""
  params, console = rules.flatten(experiment.abstract_variables["params"]), experiment.console
  title = f"Parameters for {experiment.class_count} classes"
  console.print(parameter_table.table(params, experiment.treatments, title))
  parts = experiment.parameters()
  trained = sum(counts["trainable"] for counts in parts.values())
  auxiliary = sum(counts["trainable"] for part, counts in parts.items() if part.startswith(f"fusion/{AUXILIARY}"))
  console.print(f"Trained without auxiliary heads: {trained - auxiliary:,}.")
  buffers = rules.flatten(experiment.abstract_variables.get("batch_stats", {})).values()
  console.print(f"Buffers (batch statistics): {sum(math.prod(leaf.shape) for leaf in buffers):,}.")
  if budget := experiment.model.max_trainable:
    console.print(f"Budget of trainable parameters: {budget:,}, kept.")
