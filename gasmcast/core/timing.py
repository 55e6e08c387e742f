"""How long several ways of computing one thing take, side by side in one process.

A machine's speed drifts, and by more than what is to be measured. So the sides take turns: a round gives each one turn,
the order changes from round to round, and sides are compared within rounds. The garbage collector rests meanwhile.
"""

import contextlib
import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gasmcast.core.config import require
from gasmcast.core.machine import resident_growth


@dataclasses.dataclass(frozen=True)
class Schedule:
  """How often is measured.

  Attributes:
    rounds: turns of every side.
    turn_seconds: a turn repeats a short call for about this long; its time is the median of its calls.
    max_calls: of a turn.
    pause_seconds: before every turn, in which the idle threads of the side before go to sleep.
  """

  rounds: int = 9
  turn_seconds: float = 0.3
  max_calls: int = 25
  pause_seconds: float = 0.05

  def __post_init__(self):
    require(self.rounds >= 1, f"rounds = {self.rounds}; at least 1 is needed, and 7 for a median that can be trusted.")
    require(self.max_calls >= 1, f"max_calls = {self.max_calls}; at least 1 is needed.")
    require(
      self.turn_seconds >= 0 and self.pause_seconds >= 0,
      f"turn_seconds = {self.turn_seconds}, pause_seconds = {self.pause_seconds}; neither can be negative.",
    )


@dataclasses.dataclass(frozen=True)
class Side:
  """One way to compute the thing.

  Attributes:
    name: in the table.
    call: computes it once and returns when it is done; the first call may compile.
    arrays: the named numpy arrays in what `call` returned, by which sides are held to be the same function.
    memory: bytes that a call needs beside its arguments; without it, the growth of the process during one.
    may_fail: a side of somebody else's, which is reported as failed in place of ending the benchmark.
  """

  name: str
  call: Callable[[], Any]
  arrays: Callable[[Any], Mapping[str, np.ndarray]]
  memory: Callable[[], int | None] | None = None
  may_fail: bool = False


@dataclasses.dataclass(frozen=True)
class Measured:
  """What was measured of a side.

  Attributes:
    name: of the side.
    first_seconds: of the first call, compilation included.
    seconds: of a call, one number a round.
    memory: bytes that a call needs beside its arguments; None where it can't be told.
    error: the largest of its arrays' differences from the reference; see `largest_error` and `norm_error`.
    failed: why there are no numbers; "" if there are.
  """

  name: str
  first_seconds: float = 0.0
  seconds: tuple[float, ...] = ()
  memory: int | None = None
  error: float = 0.0
  failed: str = ""

  @property
  def median(self) -> float:
    return statistics.median(self.seconds)


def measure(
  sides: Sequence[Side],
  schedule: Schedule,
  tolerance: float,
  reference: Mapping[str, np.ndarray] | None = None,
  difference: Callable[[np.ndarray, np.ndarray], float] | None = None,
  say: Callable[[str], None] = lambda line: None,
) -> list[Measured]:
  """Every side called once, compared with the reference, then timed in turns.

  Args:
    sides: the first one is the reference if none is given.
    tolerance: largest error.
    difference: of an array from the reference's, `largest_error` or `norm_error`.
    say: is told of each first call.

  Raises:
    RuntimeError: a side computes something else than the reference, so that its time means nothing.
  """
  measured: dict[str, Measured] = {}
  for side in sides:
    begin = time.perf_counter()
    try:
      result = side.call()
    except Exception as error:
      if not side.may_fail:
        raise
      measured[side.name] = Measured(side.name, failed=f"{type(error).__name__}: {_first_line(error)}")
      say(f"{side.name}: failed, {measured[side.name].failed}")
      continue
    first = time.perf_counter() - begin
    arrays = side.arrays(result)
    del result
    reference = arrays if reference is None else reference
    name, error = worst(arrays, reference, difference or largest_error)
    if not error <= tolerance:
      raise RuntimeError(
        f"{side.name} differs from the reference by {error:.1e} in {name!r}; {tolerance:.0e} is allowed. They do not "
        "compute the same, so their times can't be compared."
      )
    measured[side.name] = Measured(side.name, first, error=error)
    say(f"{side.name}: first call {first:.1f} s, error {error:.1e}")
  alive = [side for side in sides if not measured[side.name].failed]
  for side in alive:
    memory = side.memory() if side.memory else resident_growth(side.call)
    measured[side.name] = dataclasses.replace(measured[side.name], memory=memory)
  for name, seconds in alternate({side.name: side.call for side in alive}, schedule).items():
    measured[name] = dataclasses.replace(measured[name], seconds=tuple(seconds))
  return [measured[side.name] for side in sides]


def largest_error(a: np.ndarray, b: np.ndarray) -> float:
  """max|a - b| / max|b|; inf where something is not finite or the shapes differ."""
  return _relative(a, b, lambda x: np.abs(x).max())


def norm_error(a: np.ndarray, b: np.ndarray) -> float:
  """|a - b| / |b| in Euclidean norm; inf where something is not finite or the shapes differ.

  For gradients: an activation within rounding of the kink of a ReLU passes its gradient on one side and none on the
  other, which changes single entries a lot and the whole little.
  """
  return _relative(a, b, lambda x: np.linalg.norm(x.ravel()))


def _relative(a: np.ndarray, b: np.ndarray, size: Callable[[np.ndarray], float]) -> float:
  if a.shape != b.shape:
    return float("inf")
  a, b = np.float64(a), np.float64(b)
  if not (np.isfinite(a).all() and np.isfinite(b).all()):
    return float("inf")
  scale = size(b)
  return float(size(a - b) / scale if scale else size(a - b))


def worst(
  arrays: Mapping[str, np.ndarray],
  reference: Mapping[str, np.ndarray],
  difference: Callable[[np.ndarray, np.ndarray], float] = largest_error,
) -> tuple[str, float]:
  """(name, difference) of the array that differs most from the reference's of that name.

  Raises:
    RuntimeError: they share no name; arrays that only one of them has are left out otherwise.
  """
  shared = [name for name in arrays if name in reference]
  if not shared:
    raise RuntimeError(f"nothing to compare: one side gives {', '.join(arrays)}, the other {', '.join(reference)}.")
  errors = {name: difference(arrays[name], reference[name]) for name in shared}
  name = max(errors, key=errors.get)
  return name, errors[name]


def turns(names: Sequence[str], rounds: int) -> list[list[str]]:
  """The order of the sides in every round: rotated, so that each stands everywhere, and every other round reversed."""
  orders = []
  for i in range(rounds):
    start = (i // 2) % len(names)
    order = [*names[start:], *names[:start]]
    orders.append(order if i % 2 == 0 else order[::-1])
  return orders


def alternate(calls: Mapping[str, Callable[[], Any]], schedule: Schedule) -> dict[str, list[float]]:
  """Seconds of a call of each, one number a round; a turn begins with a call that is not counted."""
  seconds: dict[str, list[float]] = {name: [] for name in calls}
  if not calls:
    return seconds
  with _no_garbage_collection():
    for order in turns(list(calls), schedule.rounds):
      for name in order:
        time.sleep(schedule.pause_seconds)
        once = _seconds(calls[name])
        repeats = min(schedule.max_calls, max(1, round(schedule.turn_seconds / max(once, 1e-9))))
        seconds[name].append(statistics.median(_seconds(calls[name]) for _ in range(repeats)))
  return seconds


def _seconds(call: Callable[[], Any]) -> float:
  begin = time.perf_counter()
  call()
  return time.perf_counter() - begin


def paired_ratio(numerator: Measured, denominator: Measured) -> float:
  """Median over the rounds of the ratio within a round, in which slow moments of the machine cancel."""
  return statistics.median(a / b for a, b in zip(numerator.seconds, denominator.seconds, strict=True))


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
  was_enabled = gc.isenabled()
  gc.collect()
  gc.disable()
  try:
    yield
  finally:
    if was_enabled:
      gc.enable()


def _first_line(error: Exception) -> str:
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return lines[0] if lines else "no reason given"
