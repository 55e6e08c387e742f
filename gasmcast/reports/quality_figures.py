"""Figures of a data set: how a number is distributed in each split, and how many clips each class has.

Splits are told apart by colour and, where there are more than three, by dash.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gasmcast.reports.figures import LABELLED, WIDTH
from gasmcast.reports.theme import LIGHT, label, style
from gasmcast.reports.wording import number

MEASURES = {  # key -> (title, unit of the axis)
  "frames": ("Frames", "frames that decode"),
  "rate": ("Frame rate", "frames a second"),
  "seconds": ("Duration", "seconds"),
  "width": ("Width", "pixels"),
  "height": ("Height", "pixels"),
  "brightness": ("Brightness", "mean grey level, 0 to 255"),
  "contrast": ("Contrast", "standard deviation, grey levels"),
  "sharpness": ("Sharpness", "variance of the Laplacian"),
  "motion": ("Motion", "mean change between frames, grey levels"),
}
SPLITS = 6  # drawn at most; the tables hold all
_STEPS = (1, 2, 2.5, 5, 10)  # of the numbers on an axis
_BINS = 30
_TAIL = 0.001  # share of a split's clips that may lie outside the axis on either side
_COLOURS = (LIGHT.blue, LIGHT.vermilion, LIGHT.green)
_DASHES = ("-", (0, (4, 1.5)))


@style(LIGHT)
def distributions(statistics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Figure:
  """One panel for each of the `MEASURES` that a split has, one outline a split, as shares of its clips.

  Args:
    statistics: split -> measure -> {"min", "max", "histogram": {"edges": n + 1 numbers, "counts": n numbers}},
      at least one count each.
  """
  splits = list(statistics)[:SPLITS]
  found = {key: {split: statistics[split][key] for split in splits if key in statistics[split]} for key in MEASURES}
  found = {key: by_split for key, by_split in found.items() if by_split}
  rows = max(1, -(-len(found) // 3))
  figure = Figure(figsize=(WIDTH, 0.45 + 2.25 * rows))
  panels = figure.subplots(rows, 3, squeeze=False).ravel()
  for panel, (key, by_split) in zip(panels, found.items(), strict=False):
    _distribution(panel, by_split, splits)
    panel.set(title=MEASURES[key][0], xlabel=MEASURES[key][1])
  for row in range(0, len(found), 3):
    panels[row].set_ylabel("clips of the split, %")
  for panel in panels[len(found) :]:
    panel.set_axis_off()
  handles = [panels[0].plot([], [], color=colour, linestyle=dash)[0] for colour, dash in map(_line, range(len(splits)))]
  figure.legend(handles, [label(split, 24) for split in splits], loc="outside upper left", ncols=SPLITS)
  return figure


def _line(number: int) -> tuple[str, Any]:
  """Colour and dash of the split with this number."""
  return _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)]


def _distribution(axes: Axes, statistics: Mapping[str, Mapping[str, Any]], splits: Sequence[str]) -> None:
  edges, shares = common_bins(statistics.values())
  for split, heights in zip(statistics, shares, strict=True):
    colour, dash = _line(splits.index(split))
    first = split == splits[0]
    axes.stairs(heights, edges, color=colour, linestyle=dash, linewidth=1.4, zorder=2 if first else 3)
    if first:
      axes.stairs(heights, edges, color=colour, alpha=0.18, fill=True, linewidth=0)
  room = (2.5 if len(edges) == 2 else 0.02) * (edges[-1] - edges[0])
  axes.set(xlim=(edges[0] - room, edges[-1] + room), ylim=(0, None))
  axes.xaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
  axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(round(value, 6))))
  axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
  axes.grid(False, axis="x")


def common_bins(
  statistics: Collection[Mapping[str, Any]],
) -> tuple[Float[np.ndarray, "bins+1"], list[Float[np.ndarray, "bins"]]]:
  """(edges, of each histogram the percent of its counts in each bin): bins of one width for histograms of any.

  Up to 0.1 % of each histogram on either side lies outside, and counts are taken to be spread evenly inside their bin.
  Where all numbers are the same there is one bin around it.
  """
  low, high = min(one["min"] for one in statistics), max(one["max"] for one in statistics)
  if high - low <= 1e-6 * max(abs(low), abs(high)):
    return np.array([low - 0.5, low + 0.5]), [np.array([100.0]) for _ in statistics]
  histograms = [(np.array(one["histogram"]["edges"]), np.array(one["histogram"]["counts"])) for one in statistics]
  limits = [span(edges, counts) for edges, counts in histograms]
  bins = np.linspace(min(low for low, _ in limits), max(high for _, high in limits), _BINS + 1)
  below = [np.concatenate([[0], np.cumsum(counts)]) / counts.sum() for _, counts in histograms]
  return bins, [
    100 * np.diff(np.interp(bins, edges, shares)) for (edges, _), shares in zip(histograms, below, strict=True)
  ]


def span(edges: Float[np.ndarray, "bins+1"], counts: Float[np.ndarray, "bins"]) -> tuple[float, float]:
  """The edges between which all but 0.1 % of the counts on either side lie."""
  below = np.cumsum(counts) / counts.sum()
  first = int(np.searchsorted(below, _TAIL, side="right"))
  last = int(np.searchsorted(below, 1 - _TAIL, side="left"))
  return float(edges[first]), float(edges[min(last, len(counts) - 1) + 1])


@style(LIGHT)
def class_counts(names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> Figure:
  """Clips of each class, a part of the figure for each split; the classes stand in the order of the first split.

  Up to 40 classes are named; of more, each split's median is drawn and the table beside the figure names them.

  Args:
    names: of the classes.
    counts: split -> clips of each class; at least one split.
  """
  splits = list(counts)[:SPLITS]
  order = np.argsort(-np.asarray(counts[splits[0]]), kind="stable")
  if len(names) <= LABELLED:
    figure = Figure(figsize=(WIDTH, 0.9 + 0.24 * max(len(names), 2)))
    parts = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    for place, (axes, split) in enumerate(zip(parts, splits, strict=True)):
      _named_bars(axes, np.asarray(counts[split])[order], _line(place)[0])
      axes.set(title=label(split, 24), xlabel="clips")
    parts[0].set_yticks(range(len(names)), [label(names[index], 44) for index in order], fontsize=8.5)
    parts[0].set_ylim(len(names) - 0.4, -0.6)
    return figure
  figure = Figure(figsize=(WIDTH, 0.5 + 1.7 * len(splits)))
  parts = figure.subplots(len(splits), 1, sharex=True, squeeze=False)[:, 0]
  for place, (axes, split) in enumerate(zip(parts, splits, strict=True)):
    values = np.asarray(counts[split])[order]
    axes.bar(np.arange(1, len(order) + 1), values, width=0.85, color=_line(place)[0], alpha=0.85)
    axes.axhline(np.median(values), color=LIGHT.ink, linestyle="--", linewidth=1)
    axes.set(title=f"{label(split, 24)} (dashed: median {number(float(np.median(values)))})", ylabel="clips")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=_STEPS))
    axes.grid(False, axis="x")
  parts[-1].set(xlim=(0, len(order) + 1), xlabel=f"classes, most clips in {label(splits[0], 24)} first")
  return figure


def _named_bars(axes: Axes, values: np.ndarray, colour: str) -> None:
  places = np.arange(len(values))
  axes.barh(places, values, height=0.72, color=colour, alpha=0.85)
  for place, value in zip(places, values.tolist(), strict=True):
    axes.annotate(f"{value:,}", (value, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
  axes.set_xlim(0, 1.25 * max(int(values.max(initial=0)), 1))
  axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=_STEPS))
  axes.xaxis.set_major_formatter("{x:,.0f}")
  axes.grid(False, axis="y")
  axes.tick_params(axis="y", length=0)
