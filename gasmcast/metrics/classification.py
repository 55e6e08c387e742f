"""Single-label classification: scores and labels in, mergeable sums out (device), then accuracies and rows (host).

`sums` runs inside jit on one batch; `metrics.sums.merge` adds batches in float64; everything below it reads merged
sums. Three decisions, the same everywhere:

- Ties go to the lower class index, for top-1 and top-5 alike, so a model that scores all classes equally is right
  on one class and not on all of them. Top-5 means top-min(5, C): with C <= 5 it is trivially 1.
- A row with any non-finite score has no prediction. It stays in the denominators of the accuracies (never correct),
  is counted in "nonfinite", and is left out of NLL and calibration, which have no value for it.
- A label outside 0..C-1 is a defect of the data: jit can't raise, so `summarize` does.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gasmcast.core.config import require
from gasmcast.core.errors import DataError, TrainingError
from gasmcast.metrics import calibration

TOP = 5
NORMAL_95 = 1.959964  # 97.5 % quantile of the standard normal distribution


def sums(logits: Float[Array, "B C"], labels: Int[Array, "B"], ok: Bool[Array, "B"]) -> dict[str, Any]:
  """Sums over the rows with ok; the other rows may hold anything.

  Returns:
    "examples" []: rows with ok.
    "confusion" [C, C]: counts by (true, predicted) class.
    "nonfinite" [C]: rows without a prediction, by true class.
    "top5" [C]: rows whose label is among the five largest scores, by true class.
    "nll" []: sum of -log softmax(logits)[label] in nats.
    "calibration": the sums of `metrics.calibration`.
  """
  classes = logits.shape[-1]
  logits = logits.astype(jnp.float32)
  known = ok & (labels >= 0) & (labels < classes)
  counted = known & jnp.isfinite(logits).all(-1)
  logits = jnp.where(counted[:, None], logits, 0.0)
  true = jax.nn.one_hot(labels, classes)
  predicted = jax.nn.one_hot(logits.argmax(-1), classes) * counted[:, None]

  own = jnp.take_along_axis(logits, jnp.clip(labels, 0, classes - 1)[:, None], axis=-1)
  before = (logits > own) | ((logits == own) & (jnp.arange(classes) < labels[:, None]))
  hit = counted & (before.sum(-1) < TOP)
  log_probabilities = jax.nn.log_softmax(logits)
  return {
    "examples": ok.sum(dtype=jnp.float32),
    "confusion": jnp.einsum("bt,bp->tp", true, predicted),
    "nonfinite": (true * (known & ~counted)[:, None]).sum(0),
    "top5": (true * hit[:, None]).sum(0),
    "nll": -(log_probabilities * true * counted[:, None]).sum(),
    "calibration": calibration.sums(jnp.exp(log_probabilities), labels, counted),
  }


def summarize(total: Mapping[str, Any]) -> dict[str, float]:
  """The numbers of metrics.json from merged sums.

  Returns:
    "examples", "nonfinite": counts. "top1", "top5": shares of the examples. "mean_class_accuracy": mean recall of
    the classes that have an example. "nll", "ece", "mce", "brier": means over the examples with finite scores.

  Raises:
    DataError: no example, or labels outside the classes.
    TrainingError: no example has finite scores.
  """
  confusion, support = _counts(total)
  examples, predicted = float(total["examples"]), confusion.sum()
  if examples == 0:
    raise DataError("no example was evaluated: every row was padding or an unreadable clip. Check the split.")
  if support.sum() != examples:
    raise DataError(
      f"{examples - support.sum():.0f} of {examples:.0f} examples carry a label outside 0..{len(support) - 1}: "
      "annotations and class list do not belong together."
    )
  if predicted == 0:
    raise TrainingError(f"all {examples:.0f} examples have non-finite scores: the model's parameters are not usable.")
  seen = support > 0
  return {
    "examples": examples,
    "nonfinite": float(examples - predicted),
    "top1": float(np.trace(confusion) / examples),
    "top5": float(np.sum(total["top5"]) / examples),
    "mean_class_accuracy": float((np.diag(confusion)[seen] / support[seen]).mean()),
    "nll": float(total["nll"] / predicted),
    **calibration.summarize(total["calibration"]),
  }


def wilson_interval(hits: float, examples: float) -> tuple[float, float]:
  """95 % confidence interval of a share of `examples` > 0 independent trials (Wilson 1927); stays inside [0, 1]."""
  share, z2 = hits / examples, NORMAL_95**2
  centre = (share + z2 / (2 * examples)) / (1 + z2 / examples)
  half = NORMAL_95 * math.sqrt(share * (1 - share) / examples + z2 / (4 * examples**2)) / (1 + z2 / examples)
  return max(0.0, centre - half), min(1.0, centre + half)


@dataclasses.dataclass(frozen=True)
class ClassRow:
  """One class. A share without a denominator is None: recall and top5 without an example of the class, precision
  without a prediction of it, f1 without either."""

  index: int
  name: str
  support: int
  recall: float | None
  precision: float | None
  f1: float | None
  top5: float | None
  confused_with: str | None  # the wrong class that is predicted most often; the lower index of equals
  confused_count: int


def per_class(total: Mapping[str, Any], class_names: Sequence[str]) -> tuple[ClassRow, ...]:
  """A row for each class in the order of the class list.

  Raises:
    DataError: as many names as classes are needed.
  """
  confusion, support = _counts(total)
  check_names(class_names, confusion)
  hits, predicted = np.diag(confusion), confusion.sum(0)
  mistakes = confusion - np.diag(hits)
  rows = []
  for index, name in enumerate(class_names):
    worst = int(mistakes[index].argmax())
    count = int(mistakes[index, worst])
    rows.append(
      ClassRow(
        index=index,
        name=name,
        support=int(support[index]),
        recall=_share(hits[index], support[index]),
        precision=_share(hits[index], predicted[index]),
        f1=_share(2 * hits[index], support[index] + predicted[index]),
        top5=_share(total["top5"][index], support[index]),
        confused_with=class_names[worst] if count else None,
        confused_count=count,
      )
    )
  return tuple(rows)


@dataclasses.dataclass(frozen=True)
class PairRow:
  """Two classes that differ in one thing only, such as "left to right" and "right to left"."""

  first: str
  second: str
  examples: int  # of either class
  decided: int  # of these, predicted as one of the two
  own: int  # of these, predicted as their own class

  @property
  def inside(self) -> float | None:
    """Own class among the decided: 0.5 is chance, whatever the other classes do. None when nothing was decided."""
    return _share(self.own, self.decided)

  @property
  def overall(self) -> float | None:
    """Own class among all examples of the pair: their top-1 accuracy."""
    return _share(self.own, self.examples)


def pairs(
  total: Mapping[str, Any], indices: Sequence[tuple[int, int]], class_names: Sequence[str]
) -> tuple[PairRow, ...]:
  """A row for each pair of class indices.

  Raises:
    ConfigError: a pair names a class twice or an index outside the classes.
    DataError: as many names as classes are needed.
  """
  confusion, support = _counts(total)
  check_names(class_names, confusion)
  rows = []
  for a, b in indices:
    require(
      a != b and min(a, b) >= 0 and max(a, b) < len(support),
      f"pair ({a}, {b}): a pair is two different class indices in 0..{len(support) - 1}; correct the list of pairs.",
    )
    square = confusion[np.ix_((a, b), (a, b))]
    rows.append(
      PairRow(
        first=class_names[a],
        second=class_names[b],
        examples=int(support[a] + support[b]),
        decided=int(square.sum()),
        own=int(np.trace(square)),
      )
    )
  return tuple(rows)


def pooled(rows: Sequence[PairRow]) -> PairRow:
  """The counts of several pairs together, as one row."""
  return PairRow(
    first="all",
    second="",
    examples=sum(row.examples for row in rows),
    decided=sum(row.decided for row in rows),
    own=sum(row.own for row in rows),
  )


@dataclasses.dataclass(frozen=True)
class Mistake:
  """An example whose most probable class is not its own."""

  id: str
  true: str
  predicted: str
  probability: float  # of the predicted class


def confident_mistakes(
  ids: Sequence[str],
  labels: Int[np.ndarray, "E"],
  probabilities: Float[np.ndarray, "E C"],
  class_names: Sequence[str],
  limit: int = 20,
) -> tuple[Mistake, ...]:
  """The `limit` mistakes with the highest probability among E evaluated examples, the highest first.

  Rows with a non-finite probability have no prediction and are left out.
  """
  finite = np.isfinite(probabilities).all(-1)
  predicted = np.where(finite[:, None], probabilities, -1.0).argmax(-1)
  confidence = np.where(finite & (predicted != labels), probabilities[np.arange(len(labels)), predicted], -1.0)
  worst = [row for row in np.argsort(-confidence, kind="stable")[:limit] if confidence[row] >= 0]
  return tuple(
    Mistake(ids[row], class_names[labels[row]], class_names[predicted[row]], float(confidence[row])) for row in worst
  )


def check_names(class_names: Sequence[str], confusion: np.ndarray) -> None:
  """Raises DataError unless there is one name for each row and column of the confusion matrix."""
  if confusion.shape != (len(class_names), len(class_names)):
    raise DataError(
      f"{len(class_names)} class names for a confusion matrix of shape {confusion.shape}: "
      "use the class list of the data set that was evaluated."
    )


def _counts(total: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
  """Confusion [C, C] and examples by true class [C], in float64."""
  confusion = np.asarray(total["confusion"], np.float64)
  return confusion, confusion.sum(1) + np.asarray(total["nonfinite"], np.float64)


def _share(part: float, whole: float) -> float | None:
  return float(part / whole) if whole else None
