"""A split of examples that brings none along: by their groups, the same on every machine and for every order."""

import math
from collections.abc import Mapping

import ml_collections

from gasmcast.core.config import require
from gasmcast.core.manifest import hash_bytes
from gasmcast.datasets.dataset import SPLITS


def check_shares(shares: Mapping[str, float]) -> dict[str, float]:
  """The shares as floats, in the order of `SPLITS`.

  Raises:
    ConfigError: an unknown split, a share that is no number of 0 to 1, or a sum other than 1.
  """
  remedy = 'write shares such as {"train": 0.8, "validation": 0.1, "test": 0.1}.'
  require(isinstance(shares, (Mapping, ml_collections.ConfigDict)), f"shares = {shares!r} is no mapping; {remedy}")
  for split, share in shares.items():
    require(split in SPLITS, f"shares.{split} is no split, use {', '.join(SPLITS)}; {remedy}")
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    require(number and 0 <= share <= 1, f"shares.{split} = {share!r} is no number from 0 to 1; {remedy}")
  total = sum(shares.values())
  require(math.isclose(total, 1, abs_tol=1e-6), f"the shares add up to {total:g}, not to 1; {remedy}")
  return {split: float(shares[split]) for split in SPLITS if split in shares}


def split_of(group: str, shares: Mapping[str, float]) -> str:
  """The split of all examples of a group: where the hash of its name, as a number in [0, 1), falls among the shares.

  A group keeps its split when other groups come or go.
  """
  place, reached = int(hash_bytes(group.encode("utf-8", "surrogateescape"))[:13], 16) / 16**13, 0.0
  taking = [split for split, share in shares.items() if share > 0]
  for split in taking:
    reached += shares[split]
    if place < reached:
      return split
  return taking[-1]  # the sum may fall short of 1 by a rounding
