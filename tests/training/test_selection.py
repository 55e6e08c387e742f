"""Best step and early stopping, by hand."""

import math

import pytest

from gasmcast.training.selection import Selection


def after(values, mode="max"):
  selection = Selection()
  for step, value in enumerate(values, start=1):
    selection = selection.after(step, value, mode)
  return selection


@pytest.mark.parametrize(
  ("values", "mode", "best_step", "without_gain"),
  [
    ((0.1, 0.3, 0.2), "max", 2, 1),
    ((0.3, 0.1, 0.2), "min", 2, 1),
    ((0.3, 0.3, 0.3), "max", 1, 2),  # only as good is no gain
    ((math.nan, 0.2, math.nan, math.inf), "max", 2, 2),  # nan and inf are never best
    ((math.nan,), "min", None, 1),
  ],
)
def test_the_first_of_the_best_values_is_selected(values, mode, best_step, without_gain):
  selection = after(values, mode)
  assert (selection.best_step, selection.without_gain, selection.validated_at) == (best_step, without_gain, len(values))


def test_patience_counts_validations_without_a_gain():
  assert not after((0.5, 0.4)).exhausted(patience=2)
  assert after((0.5, 0.4, 0.3)).exhausted(patience=2)
  assert not after((0.5, 0.4, 0.6)).exhausted(patience=2)
  assert not after((0.5, 0.4, 0.3, 0.2)).exhausted(patience=0)
