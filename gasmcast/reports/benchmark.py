"""Measured sides in, numbers and a Markdown page out. Times in seconds, rates in GFLOP/s (1e9 operations a second)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from gasmcast.core.timing import Measured, paired_ratio


@dataclasses.dataclass(frozen=True)
class Target:
  """How fast our side has to be.

  Attributes:
    against: a side, or the first part of the names of several, the fastest of which counts.
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
class CaseResult:
  """One case, measured.

  Attributes:
    name, dtype: of the case.
    what: is computed, in words.
    flop: operations of a call; 0 if nobody counts any.
    formula: of `flop`.
    sides: ours first.
    target: None for a case without.
  """

  name: str
  dtype: str
  what: str
  flop: float
  formula: str
  sides: tuple[Measured, ...]
  target: Target | None = None

  @property
  def verdict(self) -> Verdict | None:
    """Whether our first side met the target; None without one."""
    if self.target is None:
      return None
    peers = [side for side in self.sides[1:] if side.name.startswith(self.target.against) and side.seconds]
    if not peers:
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
    "ratio_to_first": paired_ratio(side, case.sides[0]),
    "gflop_per_second": rate or None,
    "share_of_peak": rate / peak if peak and rate else None,
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
  columns = ["case", "side", "median ms", "range ms", "time, first side = 1", "GFLOP/s", share]
  rows = [_row(case, side, peaks) for case in cases for side in case.sides]
  parts.append(_table([*columns, "memory MB", "first call s", "error"], rows))
  parts.append("\n".join(f"- {case.name}: {case.what}; {case.flop / 1e9:.4g} GFLOP = {case.formula}" for case in cases))
  if judged := [(case.name, case.verdict) for case in cases if case.verdict]:
    parts.append(_table(["case", "target", "measured", "met"], [_judged(*pair) for pair in judged]))
  return "\n\n".join(parts) + "\n"


def _row(case: CaseResult, side: Measured, peaks: Peaks) -> list[str]:
  if side.failed:
    return [case.name, side.name, f"failed: {side.failed}".replace("|", "/"), *[""] * 7]
  numbers = side_numbers(case, side, peaks)
  return [
    case.name,
    side.name,
    _milliseconds(side.median),
    f"{_milliseconds(min(side.seconds))} to {_milliseconds(max(side.seconds))}",
    f"{numbers['ratio_to_first']:.2f}",
    _or_dash(numbers["gflop_per_second"], "{:,.0f}"),
    _or_dash(numbers["share_of_peak"], "{:.0%}"),
    _or_dash(side.memory if side.memory is None else side.memory / 1e6, "{:,.0f}"),
    f"{side.first_seconds:.1f}",
    f"{side.error:.1e}",
  ]


def _milliseconds(seconds: float) -> str:
  return f"{1e3 * seconds:,.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"


def _judged(name: str, verdict: Verdict) -> list[str]:
  target = f"{verdict.target.ratio:g} x {verdict.target.against}"
  if verdict.met is None:
    return [name, target, "", "not measured"]
  measured = f"{verdict.ratio:.2f} x {verdict.against}"
  return [name, target, measured, "met" if verdict.met else "not met"]


def _or_dash(value: float | None, form: str) -> str:
  return "-" if value is None else form.format(value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table that is aligned in plain text too."""
  widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
  line = lambda cells: "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
  return "\n".join([line(columns), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])
