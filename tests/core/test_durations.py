"""Durations and their units."""

import pytest

from gasmcast.core.durations import resolve, to_steps
from gasmcast.core.errors import ConfigError


@pytest.mark.parametrize(
  ("duration", "steps"),
  [("300 steps", 300), ("1 step", 1), ("0 steps", 0), ("2 epochs", 200), ("0.5 epochs", 50), ("0.001 epochs", 1)],
)
def test_durations_in_steps_of_100_an_epoch(duration, steps):
  assert to_steps(duration, 100, "train.steps") == steps


@pytest.mark.parametrize(
  ("duration", "message"),
  [
    ("300", 'train.steps = \'300\' is no duration; write "300 steps" or "2.5 epochs".'),
    ("3 hours", "is no duration"),
    ("-3 steps", "is no duration"),
    ("2.5 steps", "a number of steps is whole"),
  ],
)
def test_anything_else_is_refused(duration, message):
  with pytest.raises(ConfigError, match=message):
    to_steps(duration, 100, "train.steps")


def test_only_named_fields_are_resolved_and_a_bare_number_is_refused():
  values = {"steps": "2 epochs", "metric": "top1"}
  assert resolve(values, 10, "train", ("steps", "log_every")) == {"steps": 20, "metric": "top1"}
  with pytest.raises(ConfigError, match="train.steps = 20 has no unit"):
    resolve({"steps": 20}, 10, "train", ("steps",))
