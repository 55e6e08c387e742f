"""Runs drawn by hand: what is found in them, and what is not."""

import numpy as np
import pytest

from gasmcast.metrics.stability import (
  Spike,
  Stability,
  analyse,
  best_of,
  diverged,
  gap,
  overfitting,
  plateau,
  series,
  spikes,
)


def points(*values):
  """Values at the steps 10, 20, 30, ..."""
  return 10 * np.arange(1, len(values) + 1.0), np.array(values, float)


def lines(split, key, *values, every=10, **others):
  return [{"step": every * place, "split": split, key: v, **others} for place, v in enumerate(values, start=1)]


def test_a_series_is_in_order_without_what_is_not_finite_and_the_later_line_counts():
  records = [
    {"step": 20, "split": "train", "loss": 2.0},
    {"step": 10, "split": "train", "loss": 1.0},
    {"step": 30, "split": "train", "loss": None},
    {"step": 40, "split": "train", "loss": float("inf")},
    {"step": 20, "split": "train", "loss": 3.0},
    {"step": 20, "split": "validation", "loss": 9.0},
  ]
  steps, values = series(records, "train", "loss")
  assert steps.tolist() == [10, 20] and values.tolist() == [1.0, 3.0]


def test_a_spike_is_named_with_its_steps_and_what_was_usual():
  # Median of 1, 1.1, 0.9, 1, 1.1 is 1, deviations 0, 0.1, 0.1, 0, 0.1: 6 * 1.4826 * 0.1 = 0.89 above counts.
  values = (1, 1.1, 0.9, 1, 1.1, 2.0, 3.0, 1, 1.1, 1.8)
  assert spikes(points(*values)) == (Spike(first=60, last=70, loss=3.0, usual=1.0),)


def test_a_smooth_curve_needs_a_tenth_to_spike():
  assert spikes(points(*[1.0] * 8, 1.09, 1.0)) == ()
  assert spikes(points(*[1.0] * 8, 1.11, 1.0)) == (Spike(90, 90, 1.11, 1.0),)


def test_a_falling_curve_and_a_short_one_have_no_spikes():
  assert spikes(points(*np.exp(-np.arange(60) / 10))) == ()
  assert spikes(points(1, 1, 1, 1, 50)) == ()
  assert spikes(points()) == ()


def test_a_loss_that_climbs_back_has_diverged():
  falling = [5 - 0.2 * place for place in range(20)]  # to 1.2; half of the fall of the medians, 4.6 to 1.6, is 1.5
  assert diverged(points(*falling, *[4.0] * 8)) == 210  # the first step whose median of five stays above 3.1
  assert diverged(points(*falling, *[2.5] * 8)) is None
  assert diverged(points(*falling, *[4.0] * 6, *[1.2] * 8)) is None  # it came back
  assert diverged(points(*[1.0] * 5, *np.linspace(1, 3, 12))) is not None  # it never fell
  assert diverged(points(1, 2, 3, 4, 5, 6)) is None  # too short


def test_the_best_and_the_plateau_since():
  validation = points(0.1, 0.5, 0.5, 0.4, 0.5)
  assert best_of(validation, "max") == (20, 0.5) and best_of(validation, "min") == (10, 0.1)
  assert plateau(validation, (20, 0.5)) == (3, 20)
  assert plateau(points(0.1, 0.2, 0.5, 0.4, 0.4), (30, 0.5)) is None  # two validations are no plateau
  assert plateau(points(*[0.1] * 11, 0.9, 0.5, 0.5, 0.5), (120, 0.9)) is None  # 3 of 15 neither
  assert best_of(points(), "max") is None and plateau(points(), None) is None


def test_the_gap_compares_the_last_validation_with_the_training_since_the_one_before():
  records = lines("train", "top1", 0.2, 0.4, 0.8, 1.0) + lines("validation", "top1", 0.3, 0.5, every=20)
  assert gap(records) == ("top1", pytest.approx(0.9), 0.5)
  records = lines("train", "loss", 2.0, 1.0) + lines("validation", "loss", 3.0, every=20)
  assert gap(records) == ("loss", 1.5, 3.0)
  assert gap(lines("train", "loss", 1.0)) is None and gap(lines("validation", "loss", 1.0)) is None


def test_overfitting_is_a_validation_loss_that_rises_while_the_training_loss_falls():
  train = points(2.0, 1.5, 1.0, 0.5)
  found = overfitting(train, points(2.0, 1.0, 1.2, 1.4))
  assert (found.step, found.lowest, found.last) == (20, 1.0, pytest.approx(1.3))
  assert (found.train_then, found.train_last) == (1.5, 0.5)
  assert overfitting(train, points(2.0, 1.0, 1.02, 1.04)) is None  # 3 %
  assert overfitting(points(2.0, 1.5, 1.6, 1.7), points(2.0, 1.0, 1.2, 1.4)) is None  # both rise
  assert overfitting(train, points(2.0, 1.8, 1.0, 1.4)) is None  # one validation is no trend


def test_a_whole_record():
  records = [
    *lines("train", "loss", *[1.0] * 8, 3.0, skipped=2, failed_clips=7, recompilations=1),
    *lines("validation", "top1", 0.5, 0.25, 0.25, 0.25, every=20),
    {"step": 10, "split": "no_gradient", "parameters": ["a", "b"], "of": 3},
    {"step": 40, "split": "no_gradient", "parameters": ["b"], "of": 3},
    {"step": 33, "split": "non_finite", "loss": None, "index": [1]},
  ]
  assert analyse(records) == Stability(
    last_step=90,
    spikes=(Spike(90, 90, 3.0, 1.0),),
    best=(20, 0.5),
    plateau=(3, 20),
    skipped=2,
    non_finite=(33,),
    no_gradient=("b",),
    failed_clips=7,
    recompilations=1,
  )


def test_a_record_of_nothing_has_nothing_to_say():
  assert analyse([]) == Stability()
  assert analyse([{"step": 3, "split": "other"}]) == Stability(last_step=3)


def test_parameters_that_moved_at_last_are_not_named():
  records = [
    {"step": 10, "split": "no_gradient", "parameters": ["a"], "of": 3},
    {"step": 20, "split": "no_gradient", "parameters": [], "of": 3},
  ]
  assert analyse(records).no_gradient == ()
