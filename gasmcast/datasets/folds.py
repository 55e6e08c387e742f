"""Folds of a labelled data set that no group (source video, person) is divided over."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from gasmcast.core.config import require
from gasmcast.core.errors import DataError
from gasmcast.core.rng import generator


def grouped_folds(labels: Sequence[int], groups: Sequence[str], folds: int, seed: int) -> Int[np.ndarray, "examples"]:
  """The fold of each example, 0 to `folds` - 1.

  All examples of a group are in one fold. The groups are taken in random order, the largest first, and each goes to the
  fold that has fewest examples of the group's classes so far, so folds are about equal in size and in their classes.

  Raises:
    ConfigError: fewer than 2 folds.
    DataError: an example without a group, or fewer groups than folds.
  """
  require(folds >= 2, f"folds = {folds}: at least 2 are needed.")
  if not all(groups):
    raise DataError(
      f"{sum(not group for group in groups)} of {len(groups)} examples have no group, so folds could share a source; "
      "name the groups of the data set."
    )
  members: dict[str, list[int]] = {}
  for index, group in enumerate(groups):
    members.setdefault(group, []).append(index)
  if len(members) < folds:
    raise DataError(f"{len(members)} groups can't be divided into {folds} folds; use {len(members)} folds or fewer.")
  names = sorted(members)
  names = [names[i] for i in generator(seed, "folds").permutation(len(names))]
  counts = np.zeros((folds, max(labels) + 1), np.int64)
  fold_of = np.empty(len(labels), np.int64)
  for name in sorted(names, key=lambda name: -len(members[name])):  # stable: equal sizes stay in random order
    own = np.bincount([labels[i] for i in members[name]], minlength=counts.shape[1])
    fold = min(range(folds), key=lambda fold: (int(counts[fold] @ own), int(counts[fold].sum())))
    counts[fold] += own
    fold_of[members[name]] = fold
  return fold_of
