"""Fair turns, honest comparisons, failures that are told."""

import gc
import itertools

import numpy as np
import pytest

from gasmcast.core import timing
from gasmcast.core.errors import ConfigError
from gasmcast.core.timing import (
  Measured,
  Schedule,
  Side,
  alternate,
  largest_error,
  measure,
  norm_error,
  paired_ratio,
  turns,
  worst,
)

QUICK = Schedule(rounds=3, turn_seconds=0.0, max_calls=1, pause_seconds=0.0)


def constant(name, value, **options):
  return Side(name, lambda: np.float32(value), lambda result: {"y": np.asarray([result, 1.0])}, **options)


def test_every_side_takes_every_place_equally_often():
  orders = turns(["a", "b", "c"], 6)
  assert [sorted(order) for order in orders] == [["a", "b", "c"]] * 6
  for place in range(3):
    assert sorted(order[place] for order in orders) == ["a", "a", "b", "b", "c", "c"]
  assert orders[0] == orders[1][::-1]


def test_a_turn_is_one_call_that_is_not_counted_and_as_many_as_fill_its_time(monkeypatch):
  """A clock on which a call takes 1, 2, 4 or 8 seconds: the counted ones take 2, 4 and 8, whose median is 4."""
  now, durations, calls = [0.0], itertools.cycle([1.0, 2.0, 4.0, 8.0]), []

  def call():
    calls.append(now[0])
    now[0] += next(durations)

  monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
  seconds = alternate({"a": call}, Schedule(rounds=2, turn_seconds=3.0, max_calls=25, pause_seconds=0.0))
  assert seconds == {"a": [4.0, 4.0]}
  assert len(calls) == 8


def test_the_number_of_calls_of_a_turn_is_bounded_on_both_sides(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
  for duration, expected in ((100.0, 2), (1e-6, 1 + 5)):
    calls = []

    def call(duration=duration, calls=calls):
      calls.append(1)
      now[0] += duration

    alternate({"a": call}, Schedule(rounds=1, turn_seconds=1.0, max_calls=5, pause_seconds=0.0))
    assert len(calls) == expected


def test_the_garbage_collector_rests_while_measuring_and_works_after_even_if_a_side_fails():
  seen = []
  alternate({"a": lambda: seen.append(gc.isenabled())}, QUICK)
  assert seen and not any(seen) and gc.isenabled()
  with pytest.raises(ZeroDivisionError):
    alternate({"a": lambda: 1 // 0}, QUICK)
  assert gc.isenabled()


def test_ratios_are_taken_within_rounds():
  """A machine three times slower in the second round: the ratio of the medians would be 4 / 3."""
  ours, peer = Measured("ours", seconds=(1.0, 3.0, 1.0)), Measured("peer", seconds=(2.0, 6.0, 4.0))
  assert paired_ratio(peer, ours) == 2.0
  assert ours.median == 1.0


def test_errors_are_relative_to_the_size_of_the_reference():
  a, b = np.array([10.0, 4.0]), np.array([10.0, 1.0])
  assert largest_error(a, b) == pytest.approx(3 / 10)
  assert norm_error(np.array([[3.0, 4.0]]), np.array([[3.0, 0.0]])) == pytest.approx(4 / 3)
  for error in (largest_error, norm_error):
    assert error(np.array([0.0, 3.0]), np.zeros(2)) == 3.0
    assert error(np.array([np.nan, 0.0]), b) == error(b, np.array([np.inf, 0.0])) == error(a, a[:1]) == float("inf")


def test_the_worst_of_the_arrays_that_both_have_is_named():
  reference = {"a": np.array([10.0, 0.0]), "b": np.array([1.0, 2.0])}
  found = worst({"a": np.array([10.0, 1.0]), "b": np.array([1.0, 2.5]), "c": np.ones(1)}, reference)
  assert found == ("b", 0.25)
  with pytest.raises(RuntimeError, match="nothing to compare: one side gives c, the other a, b"):
    worst({"c": np.ones(2)}, reference)


def test_sides_that_differ_are_not_compared():
  with pytest.raises(RuntimeError, match="peer differs from the reference by 1.0e-01 in 'y'; 1e-02 is allowed"):
    measure([constant("ours", 2.0), constant("peer", 2.2)], QUICK, 1e-2)
  with pytest.raises(RuntimeError, match="ours differs from the reference by inf"):
    measure([constant("ours", np.nan)], QUICK, 1e-2, {"y": np.ones(2)})
  apart = {"y": np.array([1.0, 0.0])}
  (measured,) = measure([constant("ours", 1.0)], QUICK, 2.0, apart, lambda a, b: float(np.abs(a - b).sum()))
  assert measured.error == 1.0


def test_every_side_is_measured_against_the_reference():
  exact = {"y": np.array([2.0, 1.0])}
  lines = []
  ours, peer = measure([constant("ours", 2.02), constant("peer", 1.98)], QUICK, 0.1, exact, say=lines.append)
  assert (ours.name, peer.name) == ("ours", "peer")
  assert ours.error == pytest.approx(0.01) and peer.error == pytest.approx(0.01)
  assert len(ours.seconds) == len(peer.seconds) == 3 and min(ours.seconds) > 0 and ours.first_seconds > 0
  assert [line.split(":")[0] for line in lines] == ["ours", "peer"]


def test_a_peer_that_fails_is_reported_and_our_own_is_raised():
  def broken():
    raise OSError("no compiler\nhere")

  failing = Side("peer", broken, dict, may_fail=True)
  ours, peer = measure([constant("ours", 1.0), failing], QUICK, 1e-2)
  assert peer == Measured("peer", failed="OSError: no compiler") and len(ours.seconds) == 3
  with pytest.raises(OSError, match="no compiler"):
    measure([Side("ours", broken, dict)], QUICK, 1e-2)


def test_memory_is_what_the_side_says_or_how_much_the_process_grows():
  told, grown = measure([constant("told", 1.0, memory=lambda: 123), constant("grown", 1.0)], QUICK, 1e-2)
  assert told.memory == 123
  assert grown.memory is None or 0 <= grown.memory < 1e8


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"rounds": 0}, "rounds = 0; at least 1 is needed, and 7 for a median"),
    ({"max_calls": 0}, "max_calls = 0; at least 1"),
    ({"turn_seconds": -1.0}, "turn_seconds = -1.0, pause_seconds = 0.05; neither can be negative"),
  ],
)
def test_an_impossible_schedule_is_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    Schedule(**fields)
