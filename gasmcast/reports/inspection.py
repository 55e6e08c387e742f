"""What two backbones see in one clip, in one picture and one table of numbers.

Top to bottom: the frames that the semantic network saw; the first three principal components of its patch tokens as
red, green and blue (as in Oquab et al., "DINOv2", 2023, figure 1); how much of what the motion network says is due to
the motion in each segment, beside the plain change of the pixels; the similarity of every moment to every other for
both networks, and statistics of their features.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gasmcast.core.errors import DataError
from gasmcast.metrics.feature_quality import pixel_change, self_similarity, statistics
from gasmcast.reports.theme import LIGHT, ON_SHARES, SHARES, label, style

WIDTH, _LEFT, _CONTENT = 10.4, 0.62, 9.66  # inches: of the picture, before the content, of the content
_GAP, _LARGEST = 0.07, 1.6  # inches: between images, side of an image
_SHOWN = 8  # frames, or fewer
_WRITTEN = 10  # larger matrices have no numbers in their cells
_ROBUST = (1, 99)  # percentiles of each component that become 0 and 1


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A network that looked at the clip.

  Attributes:
    name: of the network, and in which form it was used.
    weights: where they came from, in words.
    random: whether they were drawn at random.
  """

  name: str
  weights: str
  random: bool


@dataclasses.dataclass(frozen=True)
class Inspection:
  """One clip and its features.

  Attributes:
    name: of the clip.
    frames: all frames, RGB, as the semantic network saw every second of them.
    moments: of each frame in words, such as "0.42 s".
    semantic: the network of the tokens.
    motion: the network of the segments.
    tokens: patch tokens of every second frame, on their grid.
    segments: motion features, in equal parts of the clip.
    energy: of each segment, the relative change of the motion features when the segment is held still, >= 0.

  Raises:
    DataError: axes that do not agree, or values that are not finite.
  """

  name: str
  frames: UInt8[np.ndarray, "F H W 3"]
  moments: Sequence[str]
  semantic: Backbone
  motion: Backbone
  tokens: Float[np.ndarray, "T h w D"]
  segments: Float[np.ndarray, "S E"]
  energy: Float[np.ndarray, "S"]

  def __post_init__(self):
    for kind, array in (("patch tokens", self.tokens), ("motion segments", self.segments), ("energy", self.energy)):
      if bad := int(array.size - np.isfinite(array).sum()):
        raise DataError(
          f"{self.name}: {bad} of {array.size} values of the {kind} are NaN or infinite; the weights do not fit or "
          "are damaged."
        )
    frames, lengths = len(self.frames), (len(self.moments), len(self.tokens), len(self.segments), len(self.energy))
    if lengths[0] != frames or lengths[1] != -(-frames // 2) or lengths[2] != lengths[3] or 2 * lengths[2] > frames:
      raise DataError(
        f"{self.name}: {frames} frames need as many moments, tokens of every second frame, and one energy a segment "
        f"of two or more frames; there are {', '.join(map(str, lengths))}."
      )

  @functools.cached_property
  def pooled(self) -> Float[np.ndarray, "T D"]:
    """Mean of the patch tokens of each frame."""
    return self.tokens.mean((1, 2))

  @functools.cached_property
  def pixel_change(self) -> Float[np.ndarray, "S"]:
    """See `metrics.feature_quality.pixel_change`."""
    return pixel_change(self.frames, len(self.segments))

  @functools.cached_property
  def colours(self) -> tuple[Float[np.ndarray, "T h w 3"], Float[np.ndarray, "3"]]:
    """See `patch_colours`."""
    return patch_colours(self.tokens)

  @functools.cached_property
  def statistics(self) -> dict[str, dict[str, Any]]:
    """Of the "patch tokens", the "mean token" of each frame and the "segments"."""
    return {
      "patch tokens": statistics(self.tokens),
      "mean token": statistics(self.pooled),
      "segments": statistics(self.segments),
    }


def measurements(inspection: Inspection) -> dict[str, Any]:
  """The numbers of the picture, as JSON can hold them."""
  semantic, motion = (dataclasses.asdict(backbone) for backbone in (inspection.semantic, inspection.motion))
  return {
    "moments": list(inspection.moments),
    "semantic": semantic
    | {
      "tokens": inspection.statistics["patch tokens"],
      "mean_token": inspection.statistics["mean token"],
      "variance_of_components": inspection.colours[1].tolist(),
      "self_similarity": self_similarity(inspection.pooled).tolist(),
    },
    "motion": motion
    | {
      "segments": inspection.statistics["segments"],
      "energy": np.asarray(inspection.energy, np.float64).tolist(),
      "self_similarity": self_similarity(inspection.segments).tolist(),
    },
    "pixel_change": inspection.pixel_change.tolist(),
  }


def patch_colours(
  tokens: Float[np.ndarray, "T h w D"],
) -> tuple[Float[np.ndarray, "T h w 3"], Float[np.ndarray, "3"]]:
  """(colours in 0..1, share of the variance of each): the first three principal components over all patches.

  A component is turned so that its rarer side is bright (its third moment is positive), and scaled so that its first
  and last percentile are 0 and 1. One that doesn't vary is 0.5 everywhere.
  """
  vectors = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
  centred = vectors - vectors.mean(0)
  variances, directions = np.linalg.eigh(centred.T @ centred)  # ascending
  scores = np.zeros((len(centred), 3))
  kept = min(3, tokens.shape[-1])
  scores[:, :kept] = centred @ directions[:, ::-1][:, :kept]
  scores *= np.where((scores**3).sum(0) < 0, -1, 1)
  low, high = np.percentile(scores, _ROBUST, axis=0)
  span = high - low
  varies = span > 1e-9 * max(np.abs(vectors).max(), 1e-30)
  colours = np.where(varies, np.clip((scores - low) / np.where(varies, span, 1), 0, 1), 0.5)
  total = max(float(np.trace(centred.T @ centred)), 1e-30)
  shares = np.zeros(3)
  shares[:kept] = np.clip(variances[::-1][:kept], 0, None) / total
  return colours.reshape(*tokens.shape[:3], 3), shares


@style(LIGHT)
def inspection_figure(inspection: Inspection) -> Figure:
  """The picture described above, 10.4 inches wide. Save it with `theme.raster`."""
  T, (colours, shares) = len(inspection.tokens), inspection.colours
  shown = (2 * np.arange(min(T, _SHOWN)) + 1) * T // (2 * min(T, _SHOWN))
  side = min(_CONTENT / len(shown) - _GAP, _LARGEST)
  page = _Page(inches_high=7.72 + 2 * side)
  page.text(0.05, title(inspection), fontsize=12, fontweight="bold")
  for kind in ("semantic", "motion"):
    backbone = getattr(inspection, kind)
    text = f"{kind}: {label(backbone.name, 60)}, weights: {label(backbone.weights, 80)}"
    page.text(0.06, text, fontsize=8.5, color=LIGHT.muted)
  moments = [f"{t + 1}  ({inspection.moments[2 * t]})" for t in shown]
  page.images(0.28, [inspection.frames[2 * t] for t in shown], side, moments)
  page.text(0.2, f"Patch tokens: three principal components as colours, {100 * shares.sum():.0f} % of the variance")
  page.images(0.08, colours[shown], side)
  page.text(0.2, "Motion energy: change of the motion features when this segment alone is held still")
  _bars(page.axes(0.07, 0.8), 100 * np.asarray(inspection.energy), LIGHT.blue, "%")
  page.text(0.3, "Pixel change: mean difference of a pixel from one frame to the next, on the scale 0 to 255")
  axes = page.axes(0.07, 0.8)
  _bars(axes, inspection.pixel_change, LIGHT.vermilion, "grey levels")
  axes.set_xlabel(f"motion segment, {len(inspection.frames) // len(inspection.segments)} frames each")
  left, middle, right = page.row(0.78, 2.5, (2.5, 2.5, 3.6))
  _similarity(left, inspection.segments, "motion segment", "Motion: cosine over time")
  _similarity(middle, inspection.pooled, "frame", "Mean token: cosine over time")
  _table(right, inspection)
  return page.figure


class _Page:
  """A figure that is filled from the top, in inches."""

  def __init__(self, inches_high: float):
    self.figure = Figure(figsize=(WIDTH, inches_high), layout="none")
    self.high, self.used = inches_high, 0.0

  def down(self, inches: float) -> None:
    self.used += inches

  def text(self, above: float, text: str, **style: Any) -> None:
    """A line of text, a title unless `style` says otherwise."""
    style = {"fontsize": 10, "fontweight": "bold" if not style else "normal"} | style
    self.down(above + style["fontsize"] * 1.25 / 72)
    self.figure.text(_LEFT / WIDTH, 1 - self.used / self.high, text, va="baseline", **style)

  def row(self, above: float, high: float, widths: Sequence[float]) -> list[Axes]:
    """Axes of these widths side by side, spread over the content."""
    self.down(above + high)
    gap = (_CONTENT - sum(widths)) / max(len(widths) - 1, 1)
    starts = [_LEFT + sum(widths[:i]) + i * gap for i in range(len(widths))]
    bottom, height = 1 - self.used / self.high, high / self.high
    return [
      self.figure.add_axes((start / WIDTH, bottom, width / WIDTH, height))
      for start, width in zip(starts, widths, strict=True)
    ]

  def axes(self, above: float, high: float) -> Axes:
    """Axes over the whole content."""
    return self.row(above, high, (_CONTENT,))[0]

  def images(self, above: float, images: Sequence[np.ndarray], side: float, titles: Sequence[str] = ()) -> None:
    """Square images, each in the middle of an equal part of the content."""
    column = _CONTENT / len(images)
    self.down(above + side)
    for i, image in enumerate(images):
      start = _LEFT + (i + 0.5) * column - side / 2
      axes = self.figure.add_axes((start / WIDTH, 1 - self.used / self.high, side / WIDTH, side / self.high))
      axes.imshow(image, interpolation="nearest", aspect="auto")
      axes.set_axis_off()
      if titles:
        axes.set_title(titles[i], loc="center", fontsize=8.5, fontweight="normal", pad=4)


def title(inspection: Inspection) -> str:
  """The clip's name; that weights are random stands before it."""
  backbones = {"semantic": inspection.semantic, "motion": inspection.motion}
  random = [kind for kind, backbone in backbones.items() if backbone.random]
  return (f"RANDOM WEIGHTS ({' and '.join(random)}): " if random else "") + label(inspection.name, 70)


def _bars(axes: Axes, heights: Float[np.ndarray, "S"], colour: str, unit: str) -> None:
  S = len(heights)
  axes.bar(np.arange(S), heights, 0.62, color=colour, alpha=0.85)
  axes.set(xlim=(-0.5, S - 0.5), ylim=(0, 1.1 * max(float(np.max(heights)), 1e-6)), ylabel=unit)
  axes.yaxis.set_major_locator(MaxNLocator(3, steps=(1, 2, 5, 10)))
  axes.set_xticks(np.arange(S), np.arange(S) + 1)
  axes.grid(False, axis="x")
  axes.tick_params(axis="x", length=0)


def _similarity(axes: Axes, features: Float[np.ndarray, "T D"], what: str, title: str) -> None:
  matrix = self_similarity(features)
  low, written = float(matrix.min()), len(matrix) <= _WRITTEN
  axes.imshow(matrix, cmap=SHARES, vmin=low, vmax=1, interpolation="none")
  for row, column in np.ndindex(matrix.shape) if written else ():
    value = matrix[row, column]
    colour = ON_SHARES if value > (low + 1) / 2 else LIGHT.ink
    axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=colour)
  places = np.arange(len(matrix))[:: max(1, len(matrix) // 8)]
  axes.set_xticks(places, places + 1)
  axes.set_yticks(places, places + 1)
  axes.set(xlabel=what if written else f"{what} (white: {low:.2f}, blue: 1)", ylabel=what, title=title)
  axes.grid(False)
  axes.spines[:].set(visible=True, color=LIGHT.line)
  axes.tick_params(length=0)


def table(inspection: Inspection) -> list[tuple[str, str, str, str]]:
  """Lines of words, the first being the head: statistics of the patch tokens, of their means and of the segments."""
  row = lambda name, value: (name, *map(value, inspection.statistics.values()))
  highest = lambda shape: min(math.prod(shape[:-1]) - 1, shape[-1])
  return [
    ("", *inspection.statistics),
    row("shape", lambda one: " x ".join(map(str, one["shape"]))),
    row("all finite", lambda one: "yes" if one["finite"] else "no"),
    row("mean", lambda one: f"{one['mean']:.3g}"),
    row("standard deviation", lambda one: f"{one['std']:.3g}"),
    row("smallest", lambda one: f"{one['min']:.3g}"),
    row("largest", lambda one: f"{one['max']:.3g}"),
    row("length of a vector", lambda one: f"{one['norm']:.3g}"),
    row("constant channels", lambda one: f"{one['constant_channels']}"),
    row("effective rank", lambda one: f"{one['effective_rank']:.1f} of {highest(one['shape'])}"),
  ]


def _table(axes: Axes, inspection: Inspection) -> None:
  axes.set_axis_off()
  axes.set_title("Features")
  lines = table(inspection)
  for row, line in enumerate(lines):
    y = 1 - (row + 0.5) / len(lines)
    for x, text in zip((0, 0.59, 0.81, 1), line, strict=True):
      colour = LIGHT.ink if row and x else LIGHT.muted
      axes.text(x, y, text, ha="right" if x else "left", va="center", fontsize=7.5, color=colour)
    if row:
      axes.axhline(1 - row / len(lines), color=LIGHT.line, linewidth=0.7)
  axes.set(xlim=(0, 1), ylim=(0, 1))
