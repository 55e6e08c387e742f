"""How far a confidence can be trusted: probabilities in, mergeable sums of 15 bins out, then ECE, MCE and Brier score.

The confidence of an example is the probability of its predicted class. Bin b of 15 holds the confidences in
(b/15, (b+1)/15], as in Guo et al. 2017, "On Calibration of Modern Neural Networks".
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

BINS = 15


def sums(probabilities: Float[Array, "B C"], labels: Int[Array, "B"], counted: Bool[Array, "B"]) -> dict[str, Array]:
  """Sums over the rows with `counted`; the other rows may hold anything, NaN included.

  Returns:
    "count", "confidence", "correct" [15]: examples, sum of confidences and right predictions of each bin.
    "brier" []: sum over examples of sum over classes of (probability - one-hot)^2, 0 to 2 an example (Brier 1950).
  """
  classes = probabilities.shape[-1]
  probabilities = jnp.where(counted[:, None], probabilities.astype(jnp.float32), 0.0)
  confidence = probabilities.max(-1)
  correct = probabilities.argmax(-1) == labels
  bin_index = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
  member = jax.nn.one_hot(bin_index, BINS) * counted[:, None]
  squared = jnp.square(probabilities - jax.nn.one_hot(labels, classes)).sum(-1)
  return {
    "count": member.sum(0),
    "confidence": (member * confidence[:, None]).sum(0),
    "correct": (member * correct[:, None]).sum(0),
    "brier": jnp.where(counted, squared, 0.0).sum(),
  }


def summarize(total: Mapping[str, np.ndarray]) -> dict[str, float]:
  """From merged sums with at least one example.

  Returns:
    "ece": mean over examples of |accuracy - mean confidence| of their bin.
    "mce": the largest such gap among the bins that hold an example.
    "brier": mean Brier score, 0 (certain and right) to 2 (certain and wrong).
  """
  count = np.asarray(total["count"], np.float64)
  gap = np.abs(np.asarray(total["correct"], np.float64) - np.asarray(total["confidence"], np.float64))
  filled = count > 0
  return {
    "ece": float(gap.sum() / count.sum()),
    "mce": float((gap[filled] / count[filled]).max()),
    "brier": float(total["brier"] / count.sum()),
  }
