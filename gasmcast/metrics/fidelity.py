"""What features lose when they are stored in a smaller form, and what a classifier's answers change by.

Host side, float64. The last axis of features is the width D, every other position a token.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int


def cosines(reference: Float[np.ndarray, "*tokens D"], other: Float[np.ndarray, "*tokens D"]) -> Float[np.ndarray, "n"]:
  """The cosine between each token and its counterpart: 1 where both are zero, 0 where one of them is."""
  width = reference.shape[-1]
  x, y = (features.reshape(-1, width).astype(np.float64) for features in (reference, other))
  lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
  products = np.einsum("nd,nd->n", x, y)
  both_zero = ~(x.any(1) | y.any(1))
  return np.where(both_zero, 1.0, np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0))


def spread(values: Float[np.ndarray, "n"]) -> dict[str, float]:
  """{"mean", "p1" (1st percentile, between neighbours linearly), "min"}."""
  return {"mean": float(values.mean()), "p1": float(np.percentile(values, 1)), "min": float(values.min())}


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
  """Sums over tokens that merge by adding.

  Attributes:
    count: of the tokens.
    total: their sum, float64 [D].
    squares: the sum of their squared lengths.
  """

  count: int
  total: Float[np.ndarray, "D"]
  squares: float

  def __add__(self, other: "Moments") -> "Moments":
    return Moments(self.count + other.count, self.total + other.total, self.squares + other.squares)

  @property
  def variance(self) -> float:
    """The mean squared distance of a token from the mean token, over all D dimensions together."""
    return max(0.0, self.squares / self.count - float(np.square(self.total / self.count).sum()))


def moments(features: Float[np.ndarray, "*tokens D"]) -> Moments:
  """Of the tokens of these features."""
  x = features.reshape(-1, features.shape[-1]).astype(np.float64)
  return Moments(len(x), x.sum(0), float(np.square(x).sum()))


def lost_by_pooling(tokens: Moments, pooled: Moments) -> float:
  """The share of the variance that lies within the groups of tokens that were averaged.

  Of groups of one size, variance of tokens = variance of group means + variance within groups. 0 where nothing varies.
  """
  return 1 - pooled.variance / tokens.variance if tokens.variance else 0.0


def lost_by_storing(squared_error: float, tokens: Moments) -> float | None:
  """The squared error of all these tokens as a share of their variance; of principal components what is not kept.

  0 where nothing varies and nothing is lost; None where something is lost of what doesn't vary.
  """
  if not tokens.variance:
    return None if squared_error else 0.0
  return squared_error / tokens.count / tokens.variance


def answers(
  reference: Float[np.ndarray, "n C"], logits: Float[np.ndarray, "n C"], labels: Int[np.ndarray, "n"]
) -> dict[str, float]:
  """What a classifier answers to two forms of the same features.

  Returns:
    "top1_reference", "top1": shares of right answers. "agreement": share of equal answers, right or wrong.
    "probability_difference": mean absolute difference over clips and classes.
  """
  first, second = reference.argmax(1), logits.argmax(1)
  return {
    "top1_reference": float(np.mean(first == labels)),
    "top1": float(np.mean(second == labels)),
    "agreement": float(np.mean(first == second)),
    "probability_difference": float(np.abs(_softmax(reference) - _softmax(logits)).mean()),
  }


def _softmax(logits: Float[np.ndarray, "n C"]) -> Float[np.ndarray, "n C"]:
  powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
  return powers / powers.sum(1, keepdims=True)
