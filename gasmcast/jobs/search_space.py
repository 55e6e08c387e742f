"""What a search varies: a range for each of some fields of a configuration.

`config.search.space` is a tree like the configuration itself, with a range where the configuration has a value:

  {"optim": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}}, "model": {"label_smoothing": {"values": (0.0, 0.1)}}}

so that each end of a range can be set from the command line (--config.search.space.optim.lr.high=0.03). Everywhere else
a field goes by its dotted name, "optim.lr". This file knows nothing of the library that searches.
"""

import copy
import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from gasmcast.core.config import parse, require
from gasmcast.core.errors import ConfigError

# What is no part of a training, or would make the values of two trials incomparable.
_FIXED = (
  *("job", "system", "search", "ablate", "generate", "prepare", "evaluate", "extract", "predict", "folds", "fidelity"),
  *("engine", "cluster", "data.root", "data.dataset", "data.options", "data.classes"),
  *("train.best_metric", "train.best_mode"),
)
_CHANGES_LOSS = ("model.label_smoothing", "model.auxiliary_weight", "model.class_weights", "model.class_weights_beta")
_ON_STEP = 1e-9  # of the range, how far from a whole number of steps a value may be


@dataclasses.dataclass(frozen=True)
class _Fields:
  """A range as it stands in a configuration: either `low` and `high`, or `values`."""

  low: int | float | None = None
  high: int | float | None = None
  log: bool = False
  step: int | float | None = None
  values: tuple[Any, ...] | None = None

  def __post_init__(self):
    if self.values is not None:
      given = [name for name in ("low", "high", "step") if getattr(self, name) is not None] + ["log"] * self.log
      require(not given, f"`values` stand beside {', '.join(given)}; give the values, or an interval.")
      require(
        len({repr(value) for value in self.values}) == len(self.values) > 0,
        f"values = {self.values}: give one or more, each once.",
      )
      return
    require(self.low is not None and self.high is not None, "an interval needs `low` and `high`, a choice `values`.")
    require(
      math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high,
      f"low = {self.low}, high = {self.high}: low must be below high, and both finite.",
    )
    require(not self.log or self.low > 0, f"log = True with low = {self.low}: a logarithm needs low above 0.")
    require(
      not (self.log and self.step), f"log = True with step = {self.step}: steps are of equal length; leave one out."
    )
    require(self.step is None or self.step > 0, f"step = {self.step}: it must be above 0.")
    require(
      self.step is None or _on_step(self.high, self.low, self.high, self.step),
      f"step = {self.step} does not lead from low = {self.low} to high = {self.high}; choose a high that is reached.",
    )


@dataclasses.dataclass(frozen=True)
class Range:
  """The values that a field may take.

  Attributes:
    name: of the field, with dots.
    kind: "float", "int", or "choice".
    low, high: of an interval, both ends included.
    log: whether it is drawn on a logarithmic scale.
    step: between two values; None for any value (1 of whole numbers).
    values: of a choice.
  """

  name: str
  kind: Literal["float", "int", "choice"]
  low: float = 0.0
  high: float = 0.0
  log: bool = False
  step: float | None = None
  values: tuple[Any, ...] = ()

  def __contains__(self, value: Any) -> bool:
    if self.kind == "choice":
      return any(_same(value, one) for one in self.values)
    if isinstance(value, bool) or not isinstance(value, int if self.kind == "int" else int | float):
      return False
    return self.low <= value <= self.high and (self.step is None or _on_step(value, self.low, self.high, self.step))

  def ends(self) -> tuple[Any, ...]:
    """Values that have to be possible if the range is: both ends, or all of a choice."""
    return self.values if self.kind == "choice" else (self.low, self.high)

  def __str__(self) -> str:
    if self.kind == "choice":
      return f"one of {', '.join(map(repr, self.values))}"
    step = "" if self.step is None else f" in steps of {self.step:g}"
    return f"{self.low:g} to {self.high:g}{step}{' (logarithmic)' if self.log else ''}"


Accepts = Callable[[Mapping[str, Any]], None]


def parse_space(
  space: Mapping[str, Any], fixed: tuple[str, ...], config: Mapping[str, Any], accepts: Accepts
) -> dict[str, Range]:
  """Dotted name -> range, in the order of the names.

  Args:
    space: `config.search.space`.
    fixed: names whose ranges are left out.
    config: the tree of the whole configuration.
    accepts: called with a tree in which one field has another value; raises ConfigError where the value is of a wrong
      type or impossible.

  Raises:
    ConfigError: a name that is no field (with the nearest one), a range that can't be, one whose ends the field does
      not accept, or nothing to search.
  """
  fields = dict(_leaves(space, config, ()))
  for name in fixed:
    require(name in fields, f"config.search.fixed: {name!r} is no range of config.search.space; {_near(name, fields)}")
  ranges = {name: _range(name, fields[name], config, accepts) for name in sorted(fields) if name not in fixed}
  require(bool(ranges), "config.search.space holds no range to search; name at least one field.")
  for one in ranges.values():
    for value in one.ends():
      try:
        accepts(with_values(config, {one.name: value}))
      except ConfigError as error:
        raise ConfigError(f"{_where(one.name)} allows {value!r}: {error}") from error
  return ranges


def require_comparable(ranges: Mapping[str, Range], metric: str) -> None:
  """Refuses to judge by the loss where its own terms are searched.

  Raises:
    ConfigError: the trials' values would not be of one kind.
  """
  changing = [name for name in _CHANGES_LOSS if name in ranges]
  require(
    metric != "loss" or not changing,
    f"config.train.best_metric = 'loss' with {_where(', '.join(changing))}: the loss itself changes with it, so trials "
    "can't be compared by it; use 'nll' or 'top1', or name it in config.search.fixed.",
  )


def parse_points(
  known: tuple[Mapping[str, Any], ...], baseline: bool, ranges: Mapping[str, Range], config: Mapping[str, Any]
) -> list[dict[str, Any]]:
  """The points that are tried first, each with a value for every range: the configuration's own values if `baseline`,
  then the known ones, which have the configuration's own values where they give none.

  Raises:
    ConfigError: a point has a value outside its range, or a name without one.
  """
  own = {name: value_of(config, name) for name in ranges}
  points = []
  if baseline:
    for name, value in own.items():
      require(
        value in ranges[name],
        f"config.{name} = {value!r} lies outside {_where(name)} ({ranges[name]}); trial 0 has the config's own values: "
        "widen the range, or set config.search.baseline=False.",
      )
    points.append(own)
  for number, point in enumerate(known):
    where = f"config.search.known[{number}]"
    for name in point:
      require(name in ranges, f"{where}: {name!r} is not searched; {_near(name, ranges)}")
    for name, value in (own | point).items():
      origin = where if name in point else f"{where} gives no {name}, and config"
      require(
        frozen(value) in ranges[name], f"{origin}.{name} = {value!r} lies outside {_where(name)} ({ranges[name]})."
      )
    points.append(own | {name: frozen(value) for name, value in point.items()})
  return [
    {name: float(value) if ranges[name].kind == "float" else value for name, value in point.items()} for point in points
  ]


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
  """A copy of the tree in which the fields with these dotted names have these values."""
  changed = copy.deepcopy(dict(config))
  for name, value in values.items():
    *path, last = name.split(".")
    node = changed
    for key in path:
      node = node[key]
    node[last] = value
  return changed


def value_of(config: Mapping[str, Any], name: str) -> Any:
  """The value of the field with this dotted name; tuples for lists."""
  node: Any = config
  for key in name.split("."):
    node = node[key]
  return frozen(node)


def _leaves(space: Any, config: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
  """(dotted name, range as it is given) of a space."""
  require(
    isinstance(space, Mapping),
    f"{_where('.'.join(path))} = {space!r}: config.{'.'.join(path)} is a section; give ranges for its fields.",
  )
  for key, value in space.items():
    name = ".".join((*path, str(key)))
    if key not in config:
      raise ConfigError(f"{_where(name)}: config.{name} is not a field; {_near(name, [*_names(config, path)])}")
    require(
      not any(name == other or name.startswith(f"{other}.") for other in _FIXED),
      f"{_where(name)}: config.{name} is no setting of a training whose outcome could be compared; leave it out.",
    )
    if isinstance(config[key], Mapping):
      yield from _leaves(value, config[key], (*path, key))
    else:
      yield name, value


def _range(name: str, given: Any, config: Mapping[str, Any], accepts: Accepts) -> Range:
  fields, own = parse(_Fields, given, _where(name)), value_of(config, name)
  if fields.values is not None:
    values = tuple(map(frozen, fields.values))
    require(
      None not in values or own is None,
      f"{_where(name)} allows None, which can't be written in a command, and config.{name} is {own!r}; leave it out.",
    )
    return Range(name, "choice", values=values)
  numbers = [fields.low, fields.high] + ([] if fields.step is None else [fields.step])
  whole = all(isinstance(number, int) for number in numbers) and not isinstance(own, float)
  if whole and own is None:  # of a field that is not set only the library knows the type
    try:
      accepts(with_values(config, {name: float(fields.low)}))
      whole = False
    except ConfigError:
      pass
  if whole:
    return Range(name, "int", fields.low, fields.high, fields.log, fields.step)
  step = None if fields.step is None else float(fields.step)
  return Range(name, "float", float(fields.low), float(fields.high), fields.log, step)


def _names(config: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
  """Dotted names of all values below a part of the configuration."""
  for key, value in config.items():
    if isinstance(value, Mapping):
      yield from _names(value, (*path, key))
    else:
      yield ".".join((*path, str(key)))


def _near(name: str, names: Any) -> str:
  near = difflib.get_close_matches(name, list(names), 1, cutoff=0.5)
  return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names) or 'none'}."


def _where(names: str) -> str:
  return ", ".join(f"config.search.space.{name}" for name in names.split(", "))


def _on_step(value: float, low: float, high: float, step: float) -> bool:
  steps = (value - low) / step
  return abs(steps - round(steps)) * step <= _ON_STEP * (high - low)


def _same(a: Any, b: Any) -> bool:
  """Equal, and not merely because True == 1."""
  return a == b and isinstance(a, bool) == isinstance(b, bool)


def frozen(value: Any) -> Any:
  """Lists as tuples, which is what a configuration holds."""
  return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value
