"""What `metrics.stability` found in a training, in words: one row a question, with what it means and what to do."""

import dataclasses
from typing import Literal

from gasmcast.metrics.stability import PLATEAU_FEWEST, SPIKE_DEVIATIONS, WINDOW, Stability
from gasmcast.reports.wording import number

_NAMED = 20  # parameters or steps


@dataclasses.dataclass(frozen=True)
class Finding:
  """One row: the question, whether it is as it should be ("passed", "warned", "failed"; "" says nothing), words."""

  name: str
  state: Literal["passed", "warned", "failed", ""]
  words: str


def findings(stability: Stability, metric: str, heads: tuple[str, ...] | None = None) -> list[Finding]:
  """The rows of the table.

  Args:
    metric: the validation number that decides.
    heads: attention heads that do nothing, one sentence each; None where nobody looked.
  """
  return [
    _best(stability, metric),
    _divergence(stability),
    _spikes(stability),
    _plateau(stability, metric),
    _overfitting(stability),
    _skipped(stability),
    _without_gradient(stability),
    _heads(heads),
    _data(stability),
    _compilations(stability),
  ]


def _best(found: Stability, metric: str) -> Finding:
  if found.best is None:
    return Finding("Best step", "", "Nothing was validated yet.")
  step, value = found.best
  return Finding("Best step", "", f"{metric} {number(value)} at step {step:,} of {found.last_step:,} so far.")


def _divergence(found: Stability) -> Finding:
  if found.diverged is None:
    return Finding("Divergence", "passed", "The training loss did not climb back.")
  return Finding(
    "Divergence",
    "failed",
    f"From step {found.diverged:,} on the training loss stays far above its lowest: half of what it had fallen by is "
    "lost. Lower config.optim.lr, lengthen the warm-up, or clip to a smaller norm; the best checkpoint is kept.",
  )


def _spikes(found: Stability) -> Finding:
  if not found.spikes:
    return Finding(
      "Loss spikes",
      "passed",
      f"No logged loss lies {SPIKE_DEVIATIONS:g} robust standard deviations above the {WINDOW} before it. Between two "
      "log lines nothing is seen.",
    )
  shown = "; ".join(
    f"step {spike.first:,}{f' to {spike.last:,}' if spike.last > spike.first else ''}: {number(spike.loss)} where "
    f"{number(spike.usual)} was usual"
    for spike in found.spikes[:_NAMED]
  )
  more = len(found.spikes) - _NAMED
  return Finding(
    "Loss spikes", "warned", f"{len(found.spikes):,}: {shown}{f'; and {more:,} more' if more > 0 else ''}."
  )


def _plateau(found: Stability, metric: str) -> Finding:
  if found.best is None:
    return Finding("Plateau", "", "Nothing was validated yet.")
  if found.plateau is None:
    return Finding(
      "Plateau", "passed", f"The best {metric} is recent, or there are under {PLATEAU_FEWEST} validations since."
    )
  validations, step = found.plateau
  return Finding(
    "Plateau",
    "warned",
    f"{validations:,} validations without a gain in {metric} since step {step:,}. config.train.patience ends such a "
    "run, config.optim.schedule = 'plateau' lowers the learning rate.",
  )


def _overfitting(found: Stability) -> Finding:
  if found.gap is None:
    return Finding("Over-fitting", "", "Training and validation have no number in common yet.")
  key, train, validation = found.gap
  shown = (
    f"top-1 {100 * train:.1f} % in training, {100 * validation:.1f} % in validation"
    if key == "top1"
    else f"loss {number(train)} in training, {number(validation)} in validation"
  )
  note = "; training has augmentation and dropout, so it can be the lower one"
  if found.overfitting is None:
    return Finding(
      "Over-fitting", "passed", f"The validation loss does not rise. At the last validation: {shown}{note}."
    )
  rise = found.overfitting
  return Finding(
    "Over-fitting",
    "warned",
    f"The validation loss rose from {number(rise.lowest)} at step {rise.step:,} to {number(rise.last)} while the "
    f"training loss fell from {number(rise.train_then)} to {number(rise.train_last)}. At the last validation: {shown}. "
    "More data, stronger augmentation, drop path or weight decay help; the best checkpoint is kept.",
  )


def _skipped(found: Stability) -> Finding:
  if not found.skipped and not found.non_finite:
    return Finding("Skipped steps", "passed", "Every update was applied.")
  named = ", ".join(f"{step:,}" for step in found.non_finite[:_NAMED])
  words = f"{max(found.skipped, len(found.non_finite)):,} updates were not applied."
  if named:
    words += f" Loss or gradient was not finite at step {named}{', ...' if len(found.non_finite) > _NAMED else ''}."
  return Finding("Skipped steps", "warned", words)


def _without_gradient(found: Stability) -> Finding:
  if not found.no_gradient:
    return Finding("Parameters without a gradient", "passed", "Every parameter had one at some logged step.")
  named = ", ".join(found.no_gradient[:_NAMED])
  more = len(found.no_gradient) - _NAMED
  return Finding(
    "Parameters without a gradient",
    "warned",
    f"{len(found.no_gradient):,} had a gradient of exactly 0 at every logged step: {named}"
    f"{f', and {more:,} more' if more > 0 else ''}. They learn nothing: they are not used, or cut off.",
  )


def _heads(heads: tuple[str, ...] | None) -> Finding:
  if heads is None:
    return Finding("Attention heads", "", "Not judged: job evaluate looks at them.")
  if not heads:
    return Finding("Attention heads", "passed", "None is uniform, fixed on one token, or without effect.")
  more = f" And {len(heads) - _NAMED:,} more." if len(heads) > _NAMED else ""
  return Finding("Attention heads", "warned", " ".join(heads[:_NAMED]) + more)


def _data(found: Stability) -> Finding:
  if not found.failed_clips:
    return Finding("Data errors", "passed", "Every training clip could be read.")
  return Finding(
    "Data errors",
    "warned",
    f"{found.failed_clips:,} clips of training could not be read, counted in every epoch; they carry no loss.",
  )


def _compilations(found: Stability) -> Finding:
  if not found.recompilations:
    return Finding("Compilations", "passed", "The step was compiled once.")
  return Finding(
    "Compilations",
    "warned",
    f"The step was compiled {found.recompilations:,} times more: batches differ in shape or type, which costs time.",
  )
