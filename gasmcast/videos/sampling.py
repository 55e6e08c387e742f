"""Orders of the training examples in which rare classes come more often than they occur.

An epoch keeps its length, the number N of examples, so schedules and durations mean what they meant. It is no longer
every example once: each class has its share of the N places, to within one example over any number of epochs, and fills
them from passes over its own examples, each in another random order. So every example of a class is used before one
repeats, however many epochs that takes of a frequent class, and however often it happens within one of a rare class.

The order depends on the seed and the epoch alone, and any position is found without those before it.
"""

import itertools
import math
import sys
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Int

from gasmcast.core.errors import DataError
from gasmcast.core.rng import generator
from gasmcast.core.types import Dataset

# Examples of a class -> its share of an epoch, up to a factor; whole numbers, so that shares are exact everywhere.
SHARES: Mapping[str, Callable[[int], int]] = {
  "balanced": lambda examples: 1,
  "square_root": lambda examples: math.isqrt(examples << 40),
}
_RECENT = 2  # epochs whose order is kept: where one ends and the next begins, both are asked for


class ClassOrder:
  """Position in the stream of training examples -> index of an example; endless, as a random-access source for Grain.

  Args:
    dataset: whose examples are ordered.
    label: whose classes are given their shares; None for the first.
    sampling: "balanced", every class equally often; "square_root", as the square root of its number of examples, half
      way to it. A class without examples has no share.
    seed: of the order.

  Raises:
    DataError: an example without this label.
  """

  def __init__(self, dataset: Dataset, label: str | None, sampling: str, seed: int):
    label = label or next(iter(dataset.classes), "")
    classes = [example.labels.get(label, -1) for example in dataset.examples]
    if unknown := sum(index < 0 for index in classes):
      raise DataError(
        f"config.data.sampling = {sampling!r} needs the class of every example: {unknown} of {len(classes)} examples "
        f"of the split {dataset.split!r} have no {label or 'label'}; use 'uniform', or examples with answers."
      )
    self._seed, self._length = seed, len(classes)
    self._members = {index: np.flatnonzero(np.equal(classes, index)) for index in sorted(set(classes))}
    self._sums = list(itertools.accumulate(SHARES[sampling](len(own)) for own in self._members.values()))
    self._recent: dict[int, np.ndarray] = {}

  def __len__(self) -> int:
    return sys.maxsize // self._length * self._length

  def __getitem__(self, position: int) -> int:
    epoch, place = divmod(position, self._length)
    recent = self._recent
    if epoch not in recent:  # several threads may find it missing; they make the same
      kept = dict(list(recent.items())[1 - _RECENT :])
      self._recent = recent = {**kept, epoch: self.epoch(epoch)}
    return int(recent[epoch][place])

  def epoch(self, epoch: int) -> Int[np.ndarray, "N"]:
    """The examples of one epoch in their order."""
    ranges = zip(self._members, self._drawn(epoch), self._drawn(epoch + 1), strict=True)
    drawn = [self._draw(index, first, last) for index, first, last in ranges]
    classes = np.repeat(np.arange(len(drawn)), [len(own) for own in drawn])
    classes = generator(self._seed, "sampling", "epoch", epoch).permutation(classes)
    order = np.empty(self._length, np.int64)
    order[np.argsort(classes, kind="stable")] = np.concatenate(drawn)  # a class fills its places pass after pass
    return order

  def _drawn(self, epoch: int) -> list[int]:
    """How many places each class has had before this epoch; of sums that are rounded down, so no place is lost."""
    ends = [epoch * self._length * part // self._sums[-1] for part in self._sums]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]

  def _draw(self, index: int, first: int, last: int) -> Int[np.ndarray, "n"]:
    """What the class draws for the first-th to the last-th of its places."""
    own = self._members[index]
    if len(own) == 1:
      return np.repeat(own, last - first)
    begin, end = first // len(own), -(-last // len(own))
    passes = [generator(self._seed, "sampling", index, number).permutation(own) for number in range(begin, end)]
    return np.concatenate([own[:0], *passes])[first - begin * len(own) : last - begin * len(own)]
