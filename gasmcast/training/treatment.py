"""What is done with each parameter: trained or frozen, how fast, with decay or without. All of it by rule tables.

What trains is decided here and nowhere else: first by `config.optim.trained`, then by the rules of the system.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gasmcast.core import rules
from gasmcast.core.errors import ConfigError
from gasmcast.training.optim import OptimConfig

_TABLES = ("trained", "lr_rules", "decay_rules", "muon_rules")


@dataclasses.dataclass(frozen=True)
class Treatment:
  """Of one parameter.

  Attributes:
    trained: False freezes it: no gradient, no optimiser state, not in checkpoints.
    lr_factor: on the learning rate; 0 where it is frozen.
    decays: whether it loses `weight_decay` of itself at each update; False where it is frozen.
  """

  trained: bool
  lr_factor: float
  decays: bool


def treat(names: Sequence[str], system_rules: rules.Rules, optim: OptimConfig) -> dict[str, Treatment]:
  """The treatment of every parameter, in the order of the names.

  Args:
    names: of all parameters of the system.
    system_rules: `System.trainable`.

  Raises:
    ConfigError: nothing would be trained, a rule table leaves a name uncovered or has a pattern that is found in no
      name, or a rule would train what the system freezes.
  """
  for table in _TABLES:
    _require_found(names, table, optim)
  able = rules.match(names, system_rules, "system.trainable")
  wanted = rules.match(names, (*optim.trained, (".*", None)), "config.optim.trained")
  if thawed := [name for name in names if wanted[name] and not able[name]]:
    raise ConfigError(
      f"config.optim.trained would train {len(thawed)} parameters that the model itself freezes, the first is "
      f"{thawed[0]!r}: no gradient reaches them. Let the model train that part (trainable = True in its section of "
      "config.model), and freeze the rest of it by a later rule with the value False."
    )
  trained = {name: able[name] if wanted[name] is None else wanted[name] for name in names}
  if not any(trained.values()):
    raise ConfigError(
      f"config.optim.trained and the rules of the system freeze all {len(names)} parameters, so there is nothing to "
      "train; let at least one pattern have the value True."
    )
  factors = rules.match(names, optim.lr_rules, "config.optim.lr_rules")
  decays = rules.match(names, optim.decay_rules, "config.optim.decay_rules")
  decaying = optim.weight_decay > 0
  return {
    name: Treatment(True, factors[name], decaying and decays[name]) if trained[name] else Treatment(False, 0.0, False)
    for name in names
  }


def partition(
  params: Mapping[str, Any], system_rules: rules.Rules, optim: OptimConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
  """(trained, frozen) parameters as flat dicts by name. Raises as `treat`."""
  flat = rules.flatten(params)
  treatments = treat(list(flat), system_rules, optim)
  trained = {name: leaf for name, leaf in flat.items() if treatments[name].trained}
  return trained, {name: leaf for name, leaf in flat.items() if name not in trained}


def _require_found(names: Sequence[str], table: str, optim: OptimConfig) -> None:
  """Refuses a pattern that is in no name, which is a slip of the pen. Those of the library are for any system."""
  given = {pattern for pattern, _ in getattr(optim, table)} - {pattern for pattern, _ in getattr(OptimConfig, table)}
  for pattern, value in getattr(optim, table):
    if pattern in given and not any(_search(pattern, name, table) for name in names):
      raise ConfigError(
        f"config.optim.{table}: the rule ({pattern!r}, {value!r}) matches none of the {len(names)} parameters; correct "
        "the pattern or take the rule out (job count lists the parts of the model)."
      )


def _search(pattern: str, name: str, table: str) -> re.Match | None:
  try:
    return re.search(pattern, name)
  except re.error as error:
    raise ConfigError(f"config.optim.{table}: {pattern!r} is not a regular expression ({error}).") from error
