"""Measured sides in, numbers and a Markdown page out. Times in seconds, rates in GFLOP/s (1e9 operations a second) or,
where a call is so many clips, in clips a second."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from gasmcast.core.timing import Measured, paired_ratio


@dataclasses.dataclass(frozen=True)
class Target:
  """How fast our side has to be.

  Attributes:
    against: a side, or the first part of the names of several, the fastest of which counts; "" for all.
    ratio: its time divided by ours is to be at least this.
  """

  against: str
  ratio: float


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What became of a target.

  Attributes:
    against: the side that was compared with; "" if none of them was measured.
    ratio: its time divided by ours, the median of the rounds; None if it was not measured.
    met: None if it was not measured.
  """

  target: Target
  against: str = ""
  ratio: float | None = None
  met: bool | None = None


@dataclasses.dataclass(frozen=True)
class Reading:
  """A number other than a time, and how large it may be.

  Attributes:
    what: was read, in words.
    value: None where the system can't tell.
    limit: the largest value that is met.
  """

  what: str
  value: float | None
  limit: float

  @property
  def met(self) -> bool | None:
    """None if there is no value."""
    return None if self.value is None else self.value <= self.limit


@dataclasses.dataclass(frozen=True)
class CaseResult:
  """One case, measured.

  Attributes:
    name, dtype: of the case.
    what: is computed, in words.
    flop: operations of a call; 0 if nobody counts any.
    formula: of `flop`.
    sides: ours first.
    target: None for a case without.
    clips: of a call; 0 where a call isn't about clips.
    readings: numbers other than times.
  """

  name: str
  dtype: str
  what: str
  flop: float
  formula: str
  sides: tuple[Measured, ...]
  target: Target | None = None
  clips: int = 0
  readings: tuple[Reading, ...] = ()

  @property
  def verdict(self) -> Verdict | None:
    """Whether our first side met the target; None without one."""
    if self.target is None:
      return None
    peers = [side for side in self.sides[1:] if side.name.startswith(self.target.against) and side.seconds]
    if not peers or not self.sides[0].seconds:
      return Verdict(self.target)
    fastest = min(peers, key=lambda side: side.median)
    ratio = paired_ratio(fastest, self.sides[0])
    return Verdict(self.target, fastest.name, ratio, ratio >= self.target.ratio)


Peaks = Mapping[str, Mapping[str, float]]  # dtype -> library -> GFLOP/s of its fastest matrix product


def peak_of(peaks: Peaks, dtype: str) -> float:
  """The fastest matrix product of any library: what the machine is known to reach. 0 if none was measured."""
  return max(peaks.get(dtype, {}).values(), default=0.0)


def side_numbers(case: CaseResult, side: Measured, peaks: Peaks) -> dict[str, Any]:
  """Everything about a side, as JSON holds it."""
  if side.failed:
    return {"name": side.name, "failed": side.failed}
  rate, peak = case.flop / side.median / 1e9, peak_of(peaks, case.dtype)
  return {
    "name": side.name,
    "median_seconds": side.median,
    "ratio_to_first": paired_ratio(side, case.sides[0]) if case.sides[0].seconds else None,
    "gflop_per_second": rate or None,
    "share_of_peak": rate / peak if peak and rate else None,
    "clips_per_second": case.clips / side.median if case.clips else None,
    "memory_bytes": side.memory,
    "first_call_seconds": side.first_seconds,
    "error": side.error,
    "seconds": list(side.seconds),
  }


def case_numbers(case: CaseResult, peaks: Peaks) -> dict[str, Any]:
  """Everything about a case, as JSON holds it."""
  verdict = case.verdict
  return {
    "name": case.name,
    "what": case.what,
    "dtype": case.dtype,
    "gflop": case.flop / 1e9,
    "formula": case.formula,
    "sides": [side_numbers(case, side, peaks) for side in case.sides],
    "target": verdict and dataclasses.asdict(verdict),
    "readings": [{**dataclasses.asdict(reading), "met": reading.met} for reading in case.readings],
  }


def markdown(cases: Sequence[CaseResult], peaks: Peaks, header: Sequence[str], accelerator: bool) -> str:
  """The page: what was measured on (`header`), the peaks, a table of sides, a table of targets."""
  parts = ["\n".join(f"- {line}" for line in header)]
  if peaks:
    rows = [
      [dtype, *(f"{rate:,.0f}" for rate in by_library.values()), f"{peak_of(peaks, dtype):,.0f}"]
      for dtype, by_library in peaks.items()
    ]
    libraries = list(next(iter(peaks.values())))
    parts.append(_table(["largest matrix product, GFLOP/s", *libraries, "peak"], rows))
  share = "MFU" if accelerator else "share of peak"
  rates = (
    {"clips_per_second": "clips/s"} if _of_clips(cases) else {"gflop_per_second": "GFLOP/s", "share_of_peak": share}
  )
  columns = ["case", "side", "median ms", "range ms", "time, first side = 1", *rates.values()]
  rows = [_row(case, side, peaks, list(rates)) for case in cases for side in case.sides]
  if rows:
    parts.append(_table([*columns, "memory MB", "first call s", "error"], rows))
  parts.append("\n".join(_described(case) for case in cases))
  judged = [_judged(case.name, case.verdict) for case in cases if case.verdict]
  judged += [_read(case.name, reading) for case in cases for reading in case.readings]
  if judged:
    parts.append(_table(["case", "target", "measured", "met"], judged))
  return "\n\n".join(parts) + "\n"


def _of_clips(cases: Sequence[CaseResult]) -> bool:
  return all(case.clips or not case.sides for case in cases)


def _described(case: CaseResult) -> str:
  return f"- {case.name}: {case.what}" + (f"; {case.flop / 1e9:.4g} GFLOP = {case.formula}" if case.formula else "")


def _row(case: CaseResult, side: Measured, peaks: Peaks, rates: Sequence[str]) -> list[str]:
  if side.failed:
    return [case.name, side.name, f"failed: {side.failed}".replace("|", "/"), *[""] * (5 + len(rates))]
  numbers = side_numbers(case, side, peaks)
  return [
    case.name,
    side.name,
    _milliseconds(side.median),
    f"{_milliseconds(min(side.seconds))} to {_milliseconds(max(side.seconds))}",
    _or_dash(numbers["ratio_to_first"], "{:.2f}"),
    *(_or_dash(numbers[rate], "{:.0%}" if rate == "share_of_peak" else "{:,.0f}") for rate in rates),
    _or_dash(side.memory if side.memory is None else side.memory / 1e6, "{:,.0f}"),
    f"{side.first_seconds:.1f}",
    f"{side.error:.1e}",
  ]


def _milliseconds(seconds: float) -> str:
  return f"{1e3 * seconds:,.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"


def _judged(name: str, verdict: Verdict) -> list[str]:
  target = f"{verdict.target.ratio:g} x {verdict.target.against or 'every peer'}"
  if verdict.met is None:
    return [name, target, "", "not measured"]
  measured = f"{verdict.ratio:.2f} x {verdict.against}"
  return [name, target, measured, "met" if verdict.met else "not met"]


def _read(name: str, reading: Reading) -> list[str]:
  target = f"{reading.what}: at most {reading.limit:g}"
  if reading.met is None:
    return [name, target, "", "not measured"]
  return [name, target, f"{reading.value:.3g}", "met" if reading.met else "not met"]


def _or_dash(value: float | None, form: str) -> str:
  return "-" if value is None else form.format(value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table that is aligned in plain text too."""
  widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
  line = lambda cells: "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
  return "\n".join([line(columns), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])
