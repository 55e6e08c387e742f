"""config.json of the Hugging Face Hub: where a network takes its sizes from, and what it must refuse."""

from collections.abc import Mapping
from typing import Any

from gasmcast.core.errors import WeightsError


def read_values(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
  """`values` at the keys of `defaults`; a missing key has the default of the transformers library.

  A pair of equal numbers stands for one: "patch_size": [16, 16].

  Raises:
    WeightsError: a value of another type than its default.
  """
  read = {}
  for key, default in defaults.items():
    value = values.get(key, default)
    if isinstance(value, list) and value and all(item == value[0] for item in value):
      value = value[0]
    if not _is_like(value, default):
      raise WeightsError(
        f"config.json has {key} = {value!r}, which is no {type(default).__name__}: the file is damaged, or of a "
        "network that is not built here. Get it again, or use other weights."
      )
    read[key] = value
  return read


def require_kind(values: Mapping[str, Any], *kinds: str) -> str:
  """The model_type of the file. Raises WeightsError unless it is one of `kinds`."""
  kind = values.get("model_type")
  if kind not in kinds:
    raise WeightsError(f"config.json is of a {kind!r}, not of a {' or '.join(map(repr, kinds))}; name its backbone.")
  return kind


def require_values(kind: str, values: Mapping[str, Any], needed: Mapping[str, Any]) -> None:
  """Raises WeightsError unless the file describes what the network computes: `needed`, key by key."""
  other = {key: value for key, value in needed.items() if values[key] != value}
  if other:
    said = ", ".join(f"{key} = {values[key]!r}" for key in other)
    built = ", ".join(f"{key} = {value!r}" for key, value in other.items())
    raise WeightsError(f"config.json is of a {kind!r} with {said}; only {built} is built here. Use weights made so.")


def _is_like(value: Any, default: Any) -> bool:
  if isinstance(value, bool) or isinstance(default, bool):
    return isinstance(value, bool) and isinstance(default, bool)
  return isinstance(value, (int, float) if isinstance(default, float) else type(default))
