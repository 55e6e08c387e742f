"""From the untyped tree of a config file to frozen dataclasses, strictly.

Every part of the library declares its fields as a frozen dataclass; `parse` fills it and refuses what the
dataclass does not know, so a misspelt field in a config file is an error and never a silent default.
"""

import contextlib
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import ml_collections

from gasmcast.core.errors import ConfigError

T = TypeVar("T")


def require(condition: bool, message: str) -> None:
  """Raises ConfigError(message) unless the condition holds. The message gives rule, numbers and remedy."""
  if not condition:
    raise ConfigError(message)


def parse(cls: type[T], values: Mapping[str, Any] | ml_collections.ConfigDict, where: str = "config") -> T:
  """An instance of the dataclass `cls` from a ConfigDict or from a mapping (read from JSON).

  Nested dataclasses are filled from nested mappings, lists become tuples, whole numbers are accepted where a
  float is declared, None only where the type says `| None`, and the first type of a union that fits is taken.

  Raises:
    ConfigError: an unknown field (with the nearest known one), a missing field, a value of the wrong type.
    TypeError: `cls` declares a field of a type that is none of these: a defect of `cls`, not of `values`.
  """
  if not _is_mapping(values):
    raise ConfigError(
      f"{where} = {values!r} is of type {type(values).__name__}; a mapping with the fields of {cls.__name__} is needed."
    )
  hints = typing.get_type_hints(cls)
  fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
  for name in values:
    if name not in fields:
      near = difflib.get_close_matches(str(name), fields, 1)
      hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(fields)}."
      raise ConfigError(f"{where}.{name} is not a field; {hint}")
  filled = {}
  for name, field in fields.items():
    if name in values:
      filled[name] = _convert(hints[name], values[name], f"{where}.{name}")
    elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
      raise ConfigError(f"{where}.{name} is missing; it has no default.")
  try:
    return cls(**filled)
  except ConfigError as error:  # the dataclass knows its own fields, not where they stand in the config
    raise ConfigError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error


def parse_kind(kinds: Mapping[str, type], values: Mapping[str, Any], where: str) -> Any:
  """As `parse`, of the class that the field "kind" of `values` names among `kinds`.

  Raises:
    ConfigError: there is no such kind, or what `parse` refuses.
  """
  fields = dict(values)
  kind = fields.pop("kind", None)
  if kind not in kinds:
    raise ConfigError(f"{where}.kind = {kind!r} is not one of {', '.join(map(repr, kinds))}.")
  return parse(kinds[kind], fields, where)


def _is_mapping(value: Any) -> bool:
  return isinstance(value, (Mapping, ml_collections.ConfigDict))  # a ConfigDict is not registered as a Mapping


def _convert(hint: Any, value: Any, where: str) -> Any:
  """`value` as the type `hint`; `where` names the field in the message."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if hint is Any:
    return value
  if origin in (typing.Union, types.UnionType):
    return _convert_union(arguments, value, where)
  if origin is typing.Literal:
    if any(value == choice and type(value) is type(choice) for choice in arguments):
      return value
    raise ConfigError(f"{where} = {value!r} is not one of {', '.join(map(repr, arguments))}.")
  if origin is tuple:
    return _convert_tuple(arguments, value, where)
  if origin in (dict, Mapping):
    if _is_mapping(value):
      return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
  elif dataclasses.is_dataclass(hint):
    return value if isinstance(value, hint) else parse(hint, value, where)
  elif hint is float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
      with contextlib.suppress(OverflowError):  # a whole number beyond the largest float
        return float(value)
  elif hint is int:
    if isinstance(value, int) and not isinstance(value, bool):
      return value
  elif hint in (bool, str, type(None)):
    if isinstance(value, hint):
      return value
  else:
    raise TypeError(f"{where} is declared as {hint}, which a configuration can't hold.")
  raise ConfigError(f"{where} = {value!r} is of type {type(value).__name__}; {_type_name(hint)} is needed.")


def _convert_union(hints: tuple[Any, ...], value: Any, where: str) -> Any:
  if value is None and type(None) in hints:
    return None
  candidates = [hint for hint in hints if hint is not type(None)]
  if len(candidates) == 1:  # the message about the one type says more than "none fits"
    return _convert(candidates[0], value, where)
  for hint in candidates:
    with contextlib.suppress(ConfigError):
      return _convert(hint, value, where)
  names = " or ".join(map(_type_name, candidates))
  raise ConfigError(f"{where} = {value!r} is of type {type(value).__name__}; {names} is needed.")


def _convert_tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
  if not isinstance(value, (tuple, list)):
    raise ConfigError(f"{where} = {value!r} is of type {type(value).__name__}; a tuple is needed.")
  if hints[-1:] == (...,):
    hints = hints[:1] * len(value)
  elif len(hints) != len(value):
    raise ConfigError(f"{where} = {value!r} has {len(value)} entries; {len(hints)} are needed.")
  return tuple(_convert(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(hints, value, strict=True)))


def _type_name(hint: Any) -> str:
  return hint.__name__ if isinstance(hint, type) else str(hint)


def to_dict(value: Any) -> Any:
  """A dataclass (or ConfigDict, tuple, ...) as what JSON can hold: dicts, lists, numbers, strings."""
  if dataclasses.is_dataclass(value):
    return {field.name: to_dict(getattr(value, field.name)) for field in dataclasses.fields(value)}
  if _is_mapping(value):
    return {str(key): to_dict(item) for key, item in value.items()}
  if isinstance(value, (tuple, list)):
    return [to_dict(item) for item in value]
  return value


def difference(old: Any, new: Any, where: str = "config") -> list[str]:
  """Lines such as "config.optim.lr: 0.001 -> 0.002" for every leaf in which two trees of `to_dict` differ."""
  if isinstance(old, Mapping) and isinstance(new, Mapping):
    lines = []
    for key in sorted(set(old) | set(new)):
      lines += difference(old.get(key), new.get(key), f"{where}.{key}")
    return lines
  return [] if old == new else [f"{where}: {old!r} -> {new!r}"]
