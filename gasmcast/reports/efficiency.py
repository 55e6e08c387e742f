"""What ways of bringing the streams together cost, for people: tables, verdicts, and a figure of growth."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from gasmcast.fusion.config import StreamShapes
from gasmcast.reports.figures import WIDTH
from gasmcast.reports.theme import LIGHT, label, style

WITH_GRAPHS = ", graphs"
_COLOURS = (LIGHT.vermilion, LIGHT.blue, LIGHT.green, LIGHT.muted, LIGHT.ink)
_MARKERS = "osD^v"
_LINE = 0.055  # height of a line of text, as a share of a panel


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of one call.

  Attributes:
    seconds: median.
    least, most: of the rounds.
    memory: bytes by the compiler's plan, parameters and inputs included; None where it does not tell.
  """

  seconds: float
  least: float
  most: float
  memory: int | None


@dataclasses.dataclass(frozen=True)
class Row:
  """A way at a depth, with graph layers or without.

  Attributes:
    name: unique.
    method, depth, graphs: what it is.
    trained: parameters, auxiliary heads apart.
    macs: of a clip by formula: "graph", "exchange", "classification".
    xla_macs: half of the operations that XLA counts for a clip.
    forward, step: of a batch, where they were measured.
  """

  name: str
  method: str
  depth: int
  graphs: bool
  trained: int
  macs: Mapping[str, int]
  xla_macs: float | None
  forward: Cost | None = None
  step: Cost | None = None

  @property
  def all_macs(self) -> int:
    return sum(self.macs.values())


@dataclasses.dataclass(frozen=True)
class Point:
  """A way at one size: MACs and seconds of a forward pass of the batch, and the bytes that it needs."""

  name: str
  size: int
  macs: int
  seconds: float
  memory: int | None


def targets(
  rows: Sequence[Row], baseline: str, target: float, backbones: Mapping[str, float] | None = None
) -> list[str]:
  """A line for each way with layers of exchange: what it costs against as many layers of the baseline.

  Args:
    backbones: multiply-accumulates of a clip in what gives the features.
  """
  base = {row.depth: row.macs["exchange"] for row in rows if row.method == baseline and not row.graphs}
  lines = [
    f"Target: at most {target:g} of the MACs of as many layers of {baseline} without graph layers "
    f"({', '.join(f'{depth}: {macs / 1e6:,.1f}M' for depth, macs in base.items())}). Layers of exchange alone / with "
    "the graph layers:"
  ]
  for row in rows:
    if not row.graphs or row.method == baseline or not row.depth or row.depth not in base:
      continue
    shares = [macs / base[row.depth] for macs in (row.macs["exchange"], row.macs["exchange"] + row.macs["graph"])]
    told = [f"{share:.3f} {'met' if share <= target else 'NOT met'}" for share in shares]
    lines.append(f"  {row.name.removesuffix(WITH_GRAPHS)}: {told[0]} / {told[1]}")
  if backbones:
    whole = sum(backbones.values())
    named = ", ".join(f"{name} {macs / 1e9:,.1f}G" for name, macs in backbones.items())
    most = max(row.all_macs for row in rows)
    lines.append(
      f"End to end the backbones dominate: {named}; the dearest way here adds {most / 1e9:,.2f}G to "
      f"{whole / 1e9:,.1f}G, {100 * most / (most + whole):.1f} % of the whole."
    )
  return lines


def exponent(points: Sequence[Point], value: str) -> float | None:
  """k of value = c size^k, by least squares in logarithms (`value`: "macs", "seconds", "memory"); None of under two."""
  known = [(point.size, getattr(point, value)) for point in points if getattr(point, value)]
  if len(known) < 2:
    return None
  sizes, values = np.log(np.array(known, float)).T
  return float(np.polyfit(sizes, values, 1)[0])


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
  """(columns, rows)."""
  head = ("way", "parameters", "MMACs graph", "exchange", "rest", "all", "XLA / 2", "forward ms", "MB", "step ms", "MB")
  lines = []
  for row in rows:
    macs = [f"{macs / 1e6:,.1f}" for macs in (*row.macs.values(), row.all_macs)]
    xla = "" if row.xla_macs is None else f"{row.xla_macs / 1e6:,.1f}"
    costs = [text for cost in (row.forward, row.step) for text in _cost(cost)]
    lines.append((row.name, f"{row.trained:,}", *macs, xla, *costs))
  return head, lines


def _cost(cost: Cost | None) -> tuple[str, str]:
  if cost is None:
    return "", ""
  spread = f"{1e3 * cost.seconds:,.1f} ({1e3 * cost.least:,.1f} to {1e3 * cost.most:,.1f})"
  return spread, "" if cost.memory is None else f"{cost.memory / 1e6:,.0f}"


def growth_table(points: Sequence[Point], over: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
  """(columns, rows): MMACs and milliseconds at each size, and the exponents of both and of memory."""
  sizes = list(dict.fromkeys(point.size for point in points))
  head = ("way", *(f"{size} {over}" for size in sizes), "exponent of MACs", "of time", "of memory")
  lines = []
  for name, of_name in by_name(points).items():
    cells = [f"{point.macs / 1e6:,.0f} M, {1e3 * point.seconds:,.1f} ms" for point in of_name]
    fitted = (exponent(of_name, value) for value in ("macs", "seconds", "memory"))
    lines.append((name, *cells, *("" if one is None else f"{one:.2f}" for one in fitted)))
  return head, lines


def by_name(points: Sequence[Point]) -> dict[str, list[Point]]:
  """The points of each way, in the order of the sizes."""
  found: dict[str, list[Point]] = {}
  for point in points:
    found.setdefault(point.name, []).append(point)
  return found


def markdown(
  rows: Sequence[Row],
  curves: Mapping[str, Sequence[Point]],
  judged: Sequence[str],
  header: Sequence[str],
  shapes: StreamShapes,
  sizes: str,
) -> str:
  """efficiency.md."""
  semantic = f"{shapes.time} x {shapes.patches} x {shapes.semantic_width}"
  motion = f"{shapes.time} x {shapes.cells} x {shapes.motion_width}"
  lines = ["# Efficiency", "", *header, ""]
  lines += [f"Features of a clip: semantic {semantic}, motion {motion}. {sizes}. Medians of turns in one process.", ""]
  lines += [*(f"- {line.strip()}" for line in judged), "", *_table(*table(rows))]
  for over, points in curves.items():
    lines += ["", f"## Growth with {over}", "", *_table(*growth_table(points, over))]
  if curves:
    lines += ["", "![Growth](figures/growth.png)"]
  return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]


@style(LIGHT)
def growth_figure(curves: Mapping[str, Sequence[Point]]) -> Figure:
  """MACs above, time below, a column for each size that grows; logarithmic, with the fitted powers."""
  figure = Figure(figsize=(WIDTH, 6.4))
  panels = figure.subplots(2, len(curves), squeeze=False, sharex="col")
  for column, (over, points) in enumerate(curves.items()):
    for row, (value, unit, factor) in enumerate((("macs", "GMACs", 1e-9), ("seconds", "ms", 1e3))):
      _curve(panels[row, column], points, value, unit, factor)
    panels[1, column].set_xlabel(label(over, 40))
    panels[0, column].set_title(f"over {label(over, 40)}")
  handles, names = panels[0, 0].get_legend_handles_labels()
  figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=8)
  return figure


def spread(heights: Sequence[float], gap: float) -> list[float]:
  """Heights near the given ones, in the same order from low to high, of which none is closer to the next than `gap`."""
  found, least = list(heights), -math.inf
  for place in sorted(range(len(found)), key=found.__getitem__):
    found[place] = least = max(found[place], least)
    least += gap
  return found


def _curve(axes: Axes, points: Sequence[Point], value: str, unit: str, factor: float) -> None:
  ends: list[tuple[float, str, str]] = []  # of the curves: value, exponent, colour
  for place, (name, of_name) in enumerate(by_name(points).items()):
    colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
    sizes, values = [point.size for point in of_name], [factor * getattr(point, value) for point in of_name]
    power = exponent(of_name, value)
    axes.plot(sizes, values, marker, color=colour, markersize=5, linestyle="none", label=label(name, 48))
    if power is None:
      continue
    middle = np.exp(np.mean(np.log(sizes))), np.exp(np.mean(np.log(values)))
    axes.plot(sizes, middle[1] * (np.array(sizes) / middle[0]) ** power, color=colour, linewidth=1.1, alpha=0.7)
    ends.append((values[-1], f"{power:.2f}", colour))
  axes.set(xscale="log", yscale="log", ylabel=unit)
  axes.xaxis.set_major_locator(FixedLocator(sorted({point.size for point in points})))
  axes.xaxis.set_minor_locator(NullLocator())
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    axis.set_minor_formatter(NullFormatter())
  axes.margins(x=0.16)
  decades = math.log10(axes.get_ylim()[1] / axes.get_ylim()[0])
  heights = spread([math.log10(end) for end, _, _ in ends], _LINE * decades)
  for height, (_, power, colour) in zip(heights, ends, strict=True):
    at = (max(point.size for point in points), 10**height)
    axes.annotate(power, at, (7, -3), textcoords="offset points", color=colour, fontsize=8)
