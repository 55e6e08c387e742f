"""One mechanism for everything that is said about parameters by name: freezing, decay, learning rate, sharding.

A rule table is a sequence of (pattern, value). Names are paths such as "motion/layer1/0/conv1/kernel"; a pattern
is a regular expression that is searched in the name; the first match wins; every name must be covered.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gasmcast.core.errors import ConfigError

Rules = Sequence[tuple[str, Any]]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """{"a": {"b": x}} -> {"a/b": x}, in sorted order, so that it does not depend on insertion.

  Raises:
    ValueError: a key holds "/", which would make two names one.
  """
  flat = {}
  for key in sorted(tree):
    if "/" in key:
      raise ValueError(f"the key {prefix + key!r} holds '/', which separates the levels of a name; rename it.")
    name = f"{prefix}{key}"
    if isinstance(tree[key], Mapping):
      flat.update(flatten(tree[key], name + "/"))
    else:
      flat[name] = tree[key]
  return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `flatten` (empty dicts are not kept).

  Raises:
    ValueError: one name is a leaf and also the beginning of another ("a" and "a/b").
  """
  tree: dict[str, Any] = {}
  for name, leaf in flat.items():
    *parents, last = name.split("/")
    node = tree
    for parent, path in zip(parents, itertools.accumulate(parents, "{}/{}".format), strict=True):
      if path in flat:
        raise ValueError(f"{path!r} is a leaf and holds {name!r}; a name can't be both.")
      node = node.setdefault(parent, {})
    node[last] = leaf
  return tree


def match(names: Sequence[str], rules: Rules, subject: str) -> dict[str, Any]:
  """The value of the first rule whose pattern is found in each name.

  Raises:
    ConfigError: a name is covered by no rule, or a pattern is no regular expression. `subject` names the table
      in the message ("model.trainable").
  """
  compiled = []
  for pattern, value in rules:
    try:
      compiled.append((re.compile(pattern), value))
    except re.error as error:
      raise ConfigError(f"{subject}: {pattern!r} is not a regular expression ({error}).") from error
  values, uncovered = {}, []
  for name in names:
    for pattern, value in compiled:
      if pattern.search(name):
        values[name] = value
        break
    else:
      uncovered.append(name)
  if uncovered:
    raise ConfigError(
      f"{subject}: {len(uncovered)} of {len(names)} names are covered by no rule, the first is {uncovered[0]!r}. "
      'Add a last rule with the pattern ".*".'
    )
  return values


def partition(
  tree: Mapping[str, Any], rules: Rules, subject: str, keep: Callable[[Any], bool] = bool
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Two flat dicts by name: the leaves whose value satisfies `keep`, and the rest. `unflatten(a | b)` restores."""
  flat = flatten(tree)
  values = match(list(flat), rules, subject)
  kept = {name: leaf for name, leaf in flat.items() if keep(values[name])}
  rest = {name: leaf for name, leaf in flat.items() if name not in kept}
  return kept, rest
