"""Several runs of two things under equal seeds: by how much one is better, and how sure that is."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

from gasmcast.core.config import require

CONFIDENCE = 0.95
ERRORS = 3.0  # standard errors above a ceiling that chance explains: one run in 740 goes beyond


class Difference(NamedTuple):
  """A mean of paired differences with its confidence interval, in the units of the values; the interval is infinite
  where there is one pair."""

  mean: float
  low: float
  high: float

  @property
  def clear(self) -> bool:
    """Whether the interval leaves out zero."""
    return self.low > 0 or self.high < 0


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
  """The mean, and the standard deviation of the population from which the values are drawn; 0 of one value.

  Raises:
    ConfigError: there are no values.
  """
  require(len(values) > 0, "the mean of no values: a variant needs at least one finished run.")
  mean = math.fsum(values) / len(values)
  if len(values) == 1:
    return mean, 0.0
  return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def paired(values: Sequence[float], reference: Sequence[float]) -> Difference:
  """values - reference, pair by pair: the mean and the 95 % interval of Student's t over the pairs (Student 1908).

  The pairs are runs that share a seed and so data, order and initial draws; what they share cancels.

  Raises:
    ConfigError: unequal numbers of values, or none.
  """
  require(len(values) == len(reference), f"{len(values)} values can't be paired with {len(reference)}.")
  mean, deviation = mean_and_deviation([a - b for a, b in zip(values, reference, strict=True)])
  if len(values) == 1:
    return Difference(mean, -math.inf, math.inf)
  half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
  return Difference(mean, mean - half, mean + half)


def exceeds(accuracy: float, ceiling: float, examples: int) -> bool:
  """Whether an accuracy is above a ceiling by more than chance: by over three standard errors of a rule at it."""
  return accuracy - ceiling > ERRORS * math.sqrt(ceiling * (1 - ceiling) / examples)
