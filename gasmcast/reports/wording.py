"""Numbers and texts as a reader wants them in a table."""

import math
from typing import Any

CHARACTERS = 300  # of one name, path or reason


def number(value: float | None) -> str:
  """Whole numbers in full, others with three digits or down to one place after the point; "–" for None."""
  if value is None:
    return "–"
  if not math.isfinite(value) or value == int(value):
    return f"{value:,.0f}"
  places = 2 - math.floor(math.log10(abs(value)))
  return f"{value:.1e}" if places > 6 else f"{value:,.{max(places, 1)}f}"


def exact(value: Any) -> str:
  """A measured value or a limit with all digits that count, so that 0.99996 doesn't look like 1."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return "–" if value is None else str(value)
  return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def signed(value: float | None) -> str:
  """`number` with its sign; "–" for None, "0" for no difference."""
  if value is None:
    return "–"
  return f"{'+' if value > 0 else '−' if value < 0 else ''}{number(abs(value))}"


def size(value: float) -> str:
  """Bytes in a unit that leaves one to three digits before the point (TB: all)."""
  if value < 1000:
    return f"{value:.0f} bytes"
  power = next((power for power in (1, 2, 3) if round(value / 1000**power, 1) < 1000), 4)
  return f"{value / 1000**power:,.1f} {' kMGT'[power]}B"


def duration(value: float) -> str:
  """Seconds in hours, minutes or seconds, at least two of them but for the last."""
  for unit, seconds in (("hours", 3600), ("minutes", 60)):
    if value >= 2 * seconds:
      return f"{value / seconds:,.1f} {unit}"
  return f"{value:,.1f} seconds"


def floor_percent(share: float) -> str:
  """A share in percent, rounded down: 100.0 means all."""
  return f"{math.floor(1000 * share + 1e-9) / 10:.1f}"


def few_percent(share: float) -> str:
  """A share above 0 in percent, two places after the point below 10 and one from there on; never 0."""
  if share < 0.0001:
    return "under 0.01"
  text = f"{100 * share:.{2 if share < 0.1 else 1}f}"
  return text.rstrip("0").rstrip(".")


def cut(text: Any) -> str:
  """At most 300 characters of a text."""
  text = str(text)
  return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
