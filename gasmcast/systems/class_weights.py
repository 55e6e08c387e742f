"""What an example of each class weighs in the loss, from how many of them there are."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from gasmcast.core.config import require

Kind = Literal["none", "inverse", "effective"]


def class_weights(counts: Sequence[int], kind: Kind, beta: float) -> Float[np.ndarray, "C"] | None:
  """float32 [C], of mean 1 over the examples (not over the classes); None for "none", which is 1 for all.

  "inverse": in inverse proportion to the number n of examples, so that all classes weigh the same together; N / (K n)
  with N examples of K classes that have any. "effective": in inverse proportion to (1 - beta^n) / (1 - beta), the
  effective number of examples (Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", 2019): beta = 0
  weighs all alike, beta towards 1 is "inverse". A class without examples weighs 1, as an average example does.

  Args:
    counts: examples of each class in the training set.

  Raises:
    ConfigError: weights are wanted and there are no counts, or no example.
  """
  if kind == "none":
    return None
  numbers = np.asarray(counts, np.float64)
  require(
    numbers.sum() > 0,
    f"config.model.class_weights = {kind!r} needs the number of examples of each class and there are none; train on a "
    "split with answers, or set it to 'none'.",
  )
  present = numbers > 0
  effective = numbers if kind == "inverse" else (1 - beta**numbers) / (1 - beta)
  weights = np.divide(1.0, effective, out=np.zeros(len(numbers)), where=present)
  weights *= numbers.sum() / (numbers * weights).sum()
  return np.where(present, weights, 1.0).astype(np.float32)
