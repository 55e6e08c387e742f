"""How a training went, from the lines of its metrics.jsonl: spikes, divergence, plateaus, over-fitting, dead weights.

Everything is judged from logged steps: a spike between two log lines is not seen. Thresholds are robust statistics
(median and median absolute deviation) and stand here as constants; what is found is a reason to look, not a proof.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

WINDOW = 21  # logged steps before a step that it is compared with
FEWEST = 5  # logged steps below which nothing is judged
_NORMAL = 1.4826  # median absolute deviation -> standard deviation of a normal distribution
SPIKE_DEVIATIONS = 6.0  # a spike is so many robust standard deviations above the median of the window
SPIKE_SHARE = 0.1  # and at least this share of the median
DIVERGED_SHARE = 0.5  # of the fall of the loss that is lost again
PLATEAU_SHARE = 0.25  # of the run without a gain in validation
PLATEAU_FEWEST = 3  # validations
OVERFIT_RISE = 0.05  # of the lowest validation loss

Series = tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]


@dataclasses.dataclass(frozen=True)
class Spike:
  """A loss far above those before it: the steps from `first` to `last`, the largest `loss`, the median before."""

  first: int
  last: int
  loss: float
  usual: float


@dataclasses.dataclass(frozen=True)
class Overfitting:
  """The validation loss rose from its `lowest` at `step` to `last`, while the training loss fell."""

  step: int
  lowest: float
  last: float
  train_then: float
  train_last: float


@dataclasses.dataclass(frozen=True)
class Stability:
  """What there is to say about a run. None, 0 or empty where nothing was found or nothing can be told.

  Attributes:
    last_step: of any line.
    spikes: in order.
    diverged: the step from which on the training loss stayed far above its lowest; None if it did not.
    best: (step, value) of the first best validation.
    plateau: (validations since the best, step of the best), if they are many.
    gap: (number, training, validation) at the last validation: top1 where both have it, else the loss.
    overfitting: see there.
    skipped: steps whose update was not applied.
    non_finite: the steps of them whose loss or gradient was not finite.
    no_gradient: parameters whose gradient was exactly 0 at every logged step.
    failed_clips: that could not be read, with repetition over epochs.
    recompilations: of the train step, in the last process that trained.
  """

  last_step: int = 0
  spikes: tuple[Spike, ...] = ()
  diverged: int | None = None
  best: tuple[int, float] | None = None
  plateau: tuple[int, int] | None = None
  gap: tuple[str, float, float] | None = None
  overfitting: Overfitting | None = None
  skipped: int = 0
  non_finite: tuple[int, ...] = ()
  no_gradient: tuple[str, ...] = ()
  failed_clips: int = 0
  recompilations: int = 0


def analyse(
  records: Sequence[Mapping[str, Any]], metric: str = "top1", mode: Literal["max", "min"] = "max"
) -> Stability:
  """Judges the lines of a metrics.jsonl; lines that lack a number are left out where it is needed.

  Args:
    metric, mode: the number of the validation that decides, and whether more or less of it is better.
  """
  loss = series(records, "train", "loss")
  validation = series(records, "validation", metric)
  train = [record for record in records if record.get("split") == "train"]
  without = [record for record in records if record.get("split") == "no_gradient"]
  last = lambda key: int(next((record[key] for record in reversed(train) if record.get(key) is not None), 0))
  best = best_of(validation, mode)
  return Stability(
    last_step=max((record["step"] for record in records if "step" in record), default=0),
    spikes=spikes(loss),
    diverged=diverged(loss),
    best=best,
    plateau=plateau(validation, best),
    gap=gap(records),
    overfitting=overfitting(loss, series(records, "validation", "loss")),
    skipped=last("skipped"),
    non_finite=tuple(record["step"] for record in records if record.get("split") == "non_finite"),
    no_gradient=tuple(without[-1]["parameters"]) if without else (),
    failed_clips=last("failed_clips"),
    recompilations=last("recompilations"),
  )


def series(records: Iterable[Mapping[str, Any]], split: str, key: str) -> Series:
  """(steps, values) of one number of one split, in order of steps.

  Of a step that was logged twice the later line counts; values that are not finite are left out.
  """
  points = {}
  for record in records:
    value = record.get(key)
    if record.get("split") == split and isinstance(value, (int, float)) and np.isfinite(value):
      points[record["step"]] = value
  steps = sorted(points)
  return np.array(steps, np.float64), np.array([points[step] for step in steps], np.float64)


def spikes(loss: Series) -> tuple[Spike, ...]:
  """The losses far above the median of the up to `WINDOW` logged steps before; consecutive ones are one spike.

  A spike stays in the windows of the steps after it, which a median bears; a loss that stays high is no spike for
  longer than half a window.
  """
  steps, values = loss
  found: list[Spike] = []
  open_spike = False
  for place in range(FEWEST, len(values)):
    before = values[max(0, place - WINDOW) : place]
    usual = float(np.median(before))
    spread = _NORMAL * float(np.median(np.abs(before - usual)))
    high = values[place] - usual > max(SPIKE_DEVIATIONS * spread, SPIKE_SHARE * abs(usual))
    if high and open_spike:
      largest = max(found[-1].loss, float(values[place]))
      found[-1] = dataclasses.replace(found[-1], last=int(steps[place]), loss=largest)
    elif high:
      found.append(Spike(int(steps[place]), int(steps[place]), float(values[place]), usual))
    open_spike = bool(high)
  return tuple(found)


def diverged(loss: Series) -> int | None:
  """The step from which on the loss, smoothed by a median of `FEWEST` logged steps, stays so far above its lowest that
  at least half of what it had fallen by is lost; at least a tenth of the lowest, too."""
  steps, values = loss
  if len(values) < 2 * FEWEST:
    return None
  smooth = np.array([np.median(values[place : place + FEWEST]) for place in range(len(values) - FEWEST + 1)])
  lowest = int(np.argmin(smooth))
  fall = max(float(smooth[0] - smooth[lowest]), 0.0)
  limit = smooth[lowest] + max(DIVERGED_SHARE * fall, SPIKE_SHARE * abs(smooth[lowest]))
  above = smooth > limit
  if not above[-1]:
    return None
  first = len(above) - int(np.argmin(above[::-1])) if not above.all() else 0
  return int(steps[first + FEWEST // 2])


def best_of(validation: Series, mode: Literal["max", "min"]) -> tuple[int, float] | None:
  """(step, value) of the first best validation."""
  steps, values = validation
  if not len(values):
    return None
  place = int(np.argmax(values) if mode == "max" else np.argmin(values))
  return int(steps[place]), float(values[place])


def plateau(validation: Series, best: tuple[int, float] | None) -> tuple[int, int] | None:
  """(validations since the best, its step), if they are at least `PLATEAU_FEWEST` and a quarter of all."""
  if best is None:
    return None
  since = int(np.sum(validation[0] > best[0]))
  many = since >= PLATEAU_FEWEST and since >= PLATEAU_SHARE * len(validation[0])
  return (since, best[0]) if many else None


def gap(records: Sequence[Mapping[str, Any]]) -> tuple[str, float, float] | None:
  """(number, training, validation) at the last validation; the training number is the mean of the logged steps since
  the validation before it."""
  for key in ("top1", "loss"):
    (steps, values), (train_steps, train_values) = (series(records, split, key) for split in ("validation", "train"))
    if len(steps):
      began = steps[-2] if len(steps) > 1 else 0
      since = train_values[(train_steps > began) & (train_steps <= steps[-1])]
      if len(since):
        return key, float(np.mean(since)), float(values[-1])
  return None


def overfitting(train: Series, validation: Series) -> Overfitting | None:
  """Whether the validation loss rose from its lowest by more than `OVERFIT_RISE` of it, with the mean of its last two
  values, while the mean training loss since then lies below that before."""
  steps, values = validation
  if len(values) < 3:
    return None
  lowest = int(np.argmin(values))
  last = float(np.mean(values[-2:]))
  if len(values) - lowest < 3 or last <= values[lowest] * (1 + OVERFIT_RISE):
    return None
  train_steps, train_values = train
  began = steps[lowest - 1] if lowest else 0
  then = train_values[(train_steps > began) & (train_steps <= steps[lowest])]
  now = train_values[train_steps > steps[-2]]
  if not len(then) or not len(now) or np.mean(now) >= np.mean(then):
    return None
  return Overfitting(int(steps[lowest]), float(values[lowest]), last, float(np.mean(then)), float(np.mean(now)))
