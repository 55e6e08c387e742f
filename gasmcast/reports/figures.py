"""Numbers in, figures out: one pure function a figure, each returning a `matplotlib.figure.Figure`.

Shares are drawn in percent, names are cut to what fits, and every figure stays legible at the 174 classes of
Something-Something-V2: what can't be labelled there is numbered and listed beside.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from gasmcast.metrics.classification import ClassRow, check_names, wilson_interval
from gasmcast.reports.theme import LIGHT, ON_SHARES, SHARES, label, style

LABELLED = 40  # more classes than this can't all be named beside a matrix or a bar
WIDTH = 10.4  # inches
CURVES = (  # (key of a metrics.jsonl record, title, unit of the axis, factor)
  ("loss", "Loss", "nats", 1),
  ("nll", "Negative log-likelihood", "nats", 1),
  ("top1", "Top-1 accuracy", "%", 100),
  ("top5", "Top-5 accuracy", "%", 100),
  ("lr", "Learning rate", "", 1),
)
POINTS = 200  # of one curve


def confusion_order(confusion: Float[np.ndarray, "C C"]) -> Int[np.ndarray, "C"]:
  """The classes in an order that puts those confused with each other side by side.

  Average-linkage clustering with optimal leaf ordering (Bar-Joseph et al. 2001); two classes are near when a large
  share of either is predicted as the other.
  """
  if len(confusion) < 3:
    return np.arange(len(confusion))
  shares = _shares(confusion)
  nearness = (shares + shares.T) / 2
  distance = 1 - nearness
  np.fill_diagonal(distance, 0)
  tree = hierarchy.linkage(squareform(distance), "average", optimal_ordering=True)
  return hierarchy.leaves_list(tree)


def _shares(confusion: Float[np.ndarray, "C C"]) -> Float[np.ndarray, "C C"]:
  """Each row as shares of the predictions made for that class; rows without one stay zero."""
  return confusion / np.maximum(confusion.sum(1, keepdims=True), 1)


@style(LIGHT)
def confusion_matrix(confusion: Float[np.ndarray, "C C"], class_names: Sequence[str], listed: int = 16) -> Figure:
  """Rows true, columns predicted, in `confusion_order`. Where there are too many classes to name them all, the most
  frequent mistakes are ringed and listed beside.

  Raises:
    DataError: as many names as classes are needed.
  """
  check_names(class_names, confusion)
  order = confusion_order(confusion)
  shares = _shares(confusion)[np.ix_(order, order)]
  named = len(order) <= LABELLED
  figure = Figure(figsize=(8.3 if named else WIDTH, 6.7), layout="none")
  left, width = (0.335, 0.635) if named else (0.035, 0.52)
  axes = figure.add_axes((left, 0.145, width, 0.805), anchor="N")
  image = axes.imshow(100 * shares, cmap=SHARES, norm=PowerNorm(0.5, 0, 100), interpolation="none")
  bar = figure.colorbar(image, cax=figure.add_axes((left, 0.065, width, 0.018)), orientation="horizontal")
  bar.set_ticks([0, 1, 5, 20, 50, 100])
  bar.set_label("share of the true class, % (square-root scale)", fontsize=8.5)
  bar.outline.set_visible(False)
  axes.set(xlabel="predicted class", ylabel="true class", title=f"{len(order)} classes, ordered by confusion")
  axes.grid(False)
  axes.spines[:].set(visible=True, color=LIGHT.line)
  axes.tick_params(length=0)
  if named:
    _name_classes(axes, [class_names[index] for index in order], shares)
  else:
    axes.set(xticks=[], yticks=[])
    _list_mistakes(axes, figure.add_axes((0.585, 0.03, 0.405, 0.92)), confusion, class_names, order, listed)
  return figure


def _name_classes(axes: Axes, names: Sequence[str], shares: Float[np.ndarray, "C C"]) -> None:
  """Names the rows, numbers rows and columns, and writes the percentages where they can be read."""
  size = 8.5 if len(names) <= 20 else 6.5
  numbers = np.arange(len(names))
  axes.set_xticks(numbers, numbers + 1, fontsize=size)
  axes.set_yticks(numbers, [f"{label(name, 36)}  {i + 1}" for i, name in enumerate(names)], fontsize=size)
  if len(names) > 20:
    return
  for row, column in np.argwhere(shares >= 0.005):
    colour = ON_SHARES if shares[row, column] > 0.5 else LIGHT.ink
    axes.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=7.5)


def _list_mistakes(
  matrix: Axes,
  beside: Axes,
  confusion: Float[np.ndarray, "C C"],
  class_names: Sequence[str],
  order: Int[np.ndarray, "C"],
  listed: int,
) -> None:
  """Rings the most frequent mistakes in the matrix and names them in the empty axes beside it."""
  mistakes = confusion - np.diag(np.diag(confusion))
  place, support = np.argsort(order), confusion.sum(1)
  beside.set_axis_off()
  beside.set(xlim=(0, 1), ylim=(listed - 0.4, -1.3), title="Most frequent mistakes")
  beside.text(0.07, -0.85, "true class, predicted class", color=LIGHT.muted, fontsize=8, va="center")
  beside.text(1, -0.85, "examples", color=LIGHT.muted, fontsize=8, va="center", ha="right")
  for rank, cell in enumerate(np.argsort(-mistakes, axis=None, kind="stable")[:listed]):
    true, predicted = np.unravel_index(cell, mistakes.shape)
    count = mistakes[true, predicted]
    if count == 0:
      break
    x, y = place[predicted], place[true]
    matrix.plot(x, y, "o", markersize=9, markerfacecolor="none", markeredgecolor=LIGHT.vermilion, markeredgewidth=0.9)
    away = 1 if x > y else -1  # from the diagonal
    number = matrix.annotate(f"{rank + 1}", (x, y), (8 * away, 8 * away), textcoords="offset points")
    number.set(ha="center", va="center", fontsize=7, color=LIGHT.vermilion, annotation_clip=False)
    beside.text(0.045, rank, f"{rank + 1}", ha="right", va="center", color=LIGHT.vermilion, fontweight="bold")
    beside.text(0.07, rank - 0.2, label(class_names[true], 50), va="center", fontsize=7.5)
    beside.text(0.07, rank + 0.2, label(class_names[predicted], 50), va="center", fontsize=7.5, color=LIGHT.muted)
    share = 100 * count / support[true]
    beside.text(1, rank, f"{count:.0f} ({share:.0f} %)", ha="right", va="center", fontsize=7.5)


@style(LIGHT)
def per_class_bars(rows: Sequence[ClassRow], shown: int = 20) -> Figure:
  """Recall of each class with its 95 % interval, best first; of more than 40 classes the best and the worst `shown`,
  and all of them as one curve. Classes without an example are left out."""
  ranked = sorted((row for row in rows if row.support), key=lambda row: -row.recall)
  mean = 100 * float(np.mean([row.recall for row in ranked]))
  if len(ranked) <= LABELLED:
    figure = Figure(figsize=(WIDTH, 1.2 + 0.24 * len(ranked)))
    axes = figure.subplots()
    _bars(axes, ranked, mean, LIGHT.blue, width=60, fontsize=8.5)
    axes.set_title(f"Recall by class (examples); mean {mean:.1f} % (dashed)")
    return figure
  figure = Figure(figsize=(WIDTH, 3.0 + 0.2 * shown))
  grid = figure.add_gridspec(2, 2, height_ratios=(1.9, 0.8 + 0.2 * shown))
  curve = figure.add_subplot(grid[0, :])
  heights = [100 * row.recall for row in ranked]
  curve.bar(np.arange(1, len(ranked) + 1), heights, width=0.8, color=LIGHT.blue, alpha=0.85)
  curve.axhline(mean, color=LIGHT.ink, linestyle="--", linewidth=1)
  curve.set(xlim=(0.5, len(ranked) + 0.5), ylim=(0, 100), xlabel="classes, best first", ylabel="recall, %")
  curve.set_title(f"Recall of {len(ranked)} classes; mean {mean:.1f} % (dashed)")
  for column, (part, colour, title) in enumerate(
    [
      (ranked[:shown], LIGHT.blue, f"The {shown} best (examples)"),
      (ranked[-shown:], LIGHT.vermilion, f"The {shown} worst (examples)"),
    ]
  ):
    axes = figure.add_subplot(grid[1, column])
    _bars(axes, part, mean, colour, width=34, fontsize=7.5)
    axes.set_title(title)
  return figure


def _bars(axes: Axes, rows: Sequence[ClassRow], mean: float, colour: str, width: int, fontsize: float) -> None:
  recall = np.array([row.recall for row in rows])
  intervals = np.array([wilson_interval(row.recall * row.support, row.support) for row in rows])
  places = np.arange(len(rows))
  axes.barh(places, 100 * recall, height=0.72, color=colour, alpha=0.85)
  axes.hlines(places, 100 * intervals[:, 0], 100 * intervals[:, 1], color=LIGHT.ink, linewidth=1)
  axes.axvline(mean, color=LIGHT.ink, linestyle="--", linewidth=1)
  axes.set_yticks(places, [f"{label(row.name, width)}  ({row.support})" for row in rows], fontsize=fontsize)
  axes.set(xlim=(0, 100), ylim=(len(rows) - 0.4, -0.6), xlabel="recall and its 95 % interval, %")
  axes.grid(False, axis="y")
  axes.tick_params(axis="y", length=0)


@style(LIGHT)
def training_curves(records: Sequence[Mapping[str, Any]]) -> Figure:
  """One panel for each of the `CURVES` that occurs in the records of metrics.jsonl, one line for each split.

  Of a step that was logged twice (a resumed run) the later record counts; values that are not finite are left out.
  A line of more than `POINTS` records is drawn as the mean of equally many consecutive ones, inside their extremes.
  """
  series = [(curve, _series(records, curve[0])) for curve in CURVES]
  series = [(curve, lines) for curve, lines in series if lines]
  rows = max(1, -(-len(series) // 2))
  figure = Figure(figsize=(WIDTH, 0.3 + 2.7 * rows))
  panels = figure.subplots(rows, 2, squeeze=False).ravel()
  last = max((steps[-1] for _, lines in series for steps, _ in lines.values()), default=0)
  for panel, ((_, title, unit, factor), lines) in zip(panels, series, strict=False):
    for name, (steps, values) in lines.items():
      curve(panel, steps, factor * values, name)
    panel.set(xlabel="step", ylabel=unit, xlim=(-0.02 * last - 1, 1.02 * last + 1))
    panel.set_title(title)
    panel.xaxis.set_major_formatter("{x:,.0f}")
    if len(lines) > 1:
      panel.legend()
  for panel in panels[len(series) :]:
    panel.set_axis_off()
  return figure


def _series(records: Sequence[Mapping[str, Any]], key: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """(steps, values) of one key by split, in order of steps."""
  splits: dict[str, dict[int, float]] = {}
  for record in records:
    value = record.get(key)
    if value is not None and np.isfinite(value):
      splits.setdefault(record["split"], {})[record["step"]] = value
  return {name: tuple(np.array(sorted(points.items())).T) for name, points in splits.items()}


def curve(
  axes: Axes,
  steps: np.ndarray,
  values: np.ndarray,
  name: str,
  look: tuple[str, Any] | None = None,
  band: bool = True,
) -> None:
  """One line of at most `POINTS` points, each the mean of equally many consecutive values.

  Args:
    name: in the legend; of a split it decides the look, if none is given.
    look: colour and dash.
    band: whether the extremes of the values behind a point are shaded.
  """
  colours = {"train": LIGHT.blue, "validation": LIGHT.vermilion}
  colour, dash = look or (colours.get(name, LIGHT.green), "-")
  points = min(POINTS, len(steps))
  parts = np.array_split(values, points)
  places = [part.mean() for part in np.array_split(steps, points)]
  if points < len(steps) and band:
    low, high = [part.min() for part in parts], [part.max() for part in parts]
    axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
  shown = {"linestyle": dash, "marker": "o" if points <= 30 else None, "markersize": 4 if band else 2.5}
  axes.plot(places, [part.mean() for part in parts], color=colour, label=label(name, 30), **shown)


@style(LIGHT)
def reliability_diagram(bins: Mapping[str, np.ndarray]) -> Figure:
  """Accuracy against confidence of the bins of `metrics.calibration.sums`, above the share of examples in each."""
  count = np.asarray(bins["count"], np.float64)
  filled = count > 0
  edges = np.linspace(0, 100, len(count) + 1)
  centres, width = (edges[:-1] + edges[1:]) / 2, edges[1]
  accuracy = 100 * np.asarray(bins["correct"], np.float64)[filled] / count[filled]
  confidence = 100 * np.asarray(bins["confidence"], np.float64)[filled] / count[filled]
  figure = Figure(figsize=(6.2, 5.4))
  above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
  above.bar(centres[filled], accuracy, 0.92 * width, color=LIGHT.blue, alpha=0.85, label="accuracy")
  above.bar(
    centres[filled],
    confidence - accuracy,
    0.92 * width,
    bottom=accuracy,
    facecolor="none",
    edgecolor=LIGHT.vermilion,
    hatch="////",
    linewidth=0.8,
    label="gap to the mean confidence",
  )
  above.plot([0, 100], [0, 100], linestyle="--", linewidth=1, color=LIGHT.muted, label="perfect calibration")
  above.set(xlim=(0, 100), ylim=(0, 100), ylabel="accuracy, %")
  above.legend(loc="upper left")
  ece = np.abs(confidence - accuracy) @ count[filled] / count.sum()
  above.set_title(f"Expected calibration error {ece:.1f} points")
  below.bar(centres, 100 * count / count.sum(), 0.92 * width, color=LIGHT.muted)
  below.set(xlabel="confidence (probability of the predicted class), %", ylabel="examples, %")
  return figure


@style(LIGHT)
def depth_accuracy(hits: Sequence[float], examples: float) -> Figure:
  """Top-1 accuracy with its 95 % interval after 0, 1, 2, ... fusion layers: `hits` right ones of `examples` each."""
  shares = 100 * np.asarray(hits, np.float64) / examples
  intervals = 100 * np.array([wilson_interval(hit, examples) for hit in hits])
  depths = np.arange(len(shares))
  figure = Figure(figsize=(6.2, 3.4))
  axes = figure.subplots()
  axes.errorbar(
    depths, shares, np.abs(intervals - shares[:, None]).T, color=LIGHT.blue, marker="o", capsize=4, elinewidth=1.2
  )
  for depth, share in enumerate(shares):
    axes.annotate(f"{share:.1f}", (depth, share), (8, -13), textcoords="offset points", color=LIGHT.ink)
  axes.set_xticks(depths, ["before fusion", *(f"after layer {depth}" for depth in depths[1:])])
  axes.set(xlim=(-0.3, len(shares) - 0.5), ylabel="top-1 accuracy, %")
  axes.set_title("Accuracy by depth (line: 95 % interval)")
  axes.grid(False, axis="x")
  axes.margins(y=0.15)
  return figure
