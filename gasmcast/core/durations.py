"""Durations carry their unit: "300 steps", "2.5 epochs"."""

import re
from collections.abc import Mapping
from typing import Any

from gasmcast.core.errors import ConfigError

_DURATION = re.compile(r"(\d+(?:\.\d+)?) (steps?|epochs?)")


def to_steps(duration: str, steps_per_epoch: int, where: str) -> int:
  """The duration in steps, rounded to the nearest; at least 1 unless it is 0.

  Raises:
    ConfigError: it is no number followed by "steps" or "epochs", or a broken number of steps.
  """
  found = _DURATION.fullmatch(duration)
  if not found:
    raise ConfigError(f'{where} = {duration!r} is no duration; write "300 steps" or "2.5 epochs".')
  number = float(found[1])
  if found[2].startswith("step"):
    if number != int(number):
      raise ConfigError(f"{where} = {duration!r}: a number of steps is whole.")
    return int(number)
  return max(1, round(number * steps_per_epoch)) if number else 0


def resolve(values: Mapping[str, Any], steps_per_epoch: int, where: str, fields: tuple[str, ...]) -> dict[str, Any]:
  """A copy of the mapping in which the named fields, where present, are whole numbers of steps."""
  resolved = dict(values)
  for field in fields:
    if field in resolved:
      if not isinstance(resolved[field], str):
        raise ConfigError(f'{where}.{field} = {resolved[field]!r} has no unit; write "300 steps" or "2.5 epochs".')
      resolved[field] = to_steps(resolved[field], steps_per_epoch, f"{where}.{field}")
  return resolved
