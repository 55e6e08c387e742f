"""What a model consists of and what it takes in memory: the numbers of count.json as tables and Markdown."""

from collections.abc import Mapping
from typing import Any

from gasmcast.reports.wording import size

Sections = list[list[tuple[str, ...]]]  # rows between two lines of a table

COLUMNS = ("part", "trainable", "frozen", "buffers")
BYTES = ("memory", "bytes", "")
_TRAINING = {
  "parameters": "parameters",
  "buffers": "buffers",
  "gradients": "gradients of the trainable ones",
  "optimizer": "state of the optimiser",
  "average": "running average of the trainable ones",
}


def parts_table(result: Mapping[str, Any]) -> Sections:
  """The parts of the model, their sum, and the parts that are there in training only."""
  rows = [[_counts(name, part) for name, part in result[group].items()] for group in ("parts", "training_only")]
  return [section for section in (rows[0], [_counts("all", result["all"])], rows[1]) if section]


def bytes_table(result: Mapping[str, Any]) -> Sections:
  """What has to be in memory to train, item by item, and to use the model."""
  held, used = result["bytes"]["training"], result["bytes"]["inference"]
  training = [_bytes(f"training: {words}", held[name]) for name, words in _TRAINING.items() if name in held]
  inference = [_bytes(f"inference: all, in {dtype}", number) for dtype, number in used.items()]
  return [training, [_bytes("training: all", held["all"])], inference]


def notes(result: Mapping[str, Any]) -> list[str]:
  """Sentences below the tables."""
  limit, sums = result["budget"], result["all"]
  parameters = sums["trainable"] + sums["frozen"]
  lines = [
    f"Parameters: {parameters:,}, of which {sums['trainable']:,} trainable. With {sums['buffers']:,} buffers (batch "
    f"statistics): {parameters + sums['buffers']:,}.",
    f"Budget of trainable parameters: {f'{limit:,}, kept' if limit else 'none (config.model.max_trainable = 0)'}.",
  ]
  if extra := sum(part["trainable"] for part in result["training_only"].values()):
    lines.append(
      f"Auxiliary heads: {extra:,} more parameters, for training alone; not in the sums, the budget and inference."
    )
  lines.append(
    "Activations are not in the bytes: they grow with the batch, and the compiler decides how many are kept."
  )
  return lines


def markdown(result: Mapping[str, Any]) -> str:
  """Title, tables, notes and the command that made them."""
  lines = [f"# {result['title']}", ""]
  for columns, sections in ((COLUMNS, parts_table(result)), (BYTES, bytes_table(result))):
    lines += [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for section in sections for row in section] + [""]
  lines += [f"- {note}" for note in notes(result)]
  return "\n".join([*lines, "", f"    {result['meta']['command']}"]) + "\n"


def _counts(name: str, part: Mapping[str, int]) -> tuple[str, ...]:
  return (name, *(f"{part[column]:,}" for column in COLUMNS[1:]))


def _bytes(what: str, number: int) -> tuple[str, ...]:
  return (what, f"{number:,}", size(number))
