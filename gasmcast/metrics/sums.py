"""How sums of several batches become the sums of a split: leaf by leaf, on the host, in float64.

One batch is summed on the device in float32, which counts exactly up to 2**24: enough for a batch, not for every
split. float64 counts exactly up to 2**53, so neither the number nor the order of the batches changes a count.
"""

from typing import Any

import jax
import numpy as np

PyTree = Any


def merge(total: PyTree | None, batch: PyTree) -> PyTree:
  """`total` plus the sums of one more batch, as numpy float64 arrays; None is the empty total."""
  batch = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), batch)
  return batch if total is None else jax.tree.map(np.add, total, batch)
