"""Where one prediction looked: frames, patches, segments and times of one clip in one figure.

Top to bottom: the frames; the same frames under what the pooling over patches gave above average; what each frame and
each motion segment received in all; the scores of the classes beside the cross-attention of every layer.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from gasmcast.core.errors import DataError
from gasmcast.reports.theme import LIGHT, SHARES, Theme, label, style

# The bright part of inferno, transparent where the weight is low: no attention leaves the frame as it is.
_HEAT = LinearSegmentedColormap.from_list(
  "heat", [(*colormaps["inferno"](0.55 + 0.4 * x)[:3], 0.85 * x) for x in np.linspace(0, 1, 32)]
)


_FULL = 2.0  # times the average is drawn in full colour, or the largest weight if that is more


@dataclasses.dataclass(frozen=True)
class AttentionExample:
  """One clip and what the model attended to. Weights are averages over the heads, as the model gave them.

  Attributes:
    id: of the example.
    frames: the T frames that the semantic stream saw, RGB.
    patch_attention: weight of each patch of each frame in the pooling of the semantic stream, >= 0.
    segment_attention: weight of each motion segment in the pooling of the motion stream, >= 0.
    time_attention: layer name -> weights from frames (rows) to motion segments (columns), >= 0.
    true: name of the true class, None when it is unknown.
    predictions: (class name, probability), the most probable first; at least one.

  Raises:
    DataError: axes that do not agree, weights that are negative, not finite or all zero, or no prediction.
  """

  id: str
  frames: UInt8[np.ndarray, "T H W 3"]
  patch_attention: Float[np.ndarray, "T h w"]
  segment_attention: Float[np.ndarray, "T"]
  time_attention: Mapping[str, Float[np.ndarray, "T T"]]
  true: str | None
  predictions: Sequence[tuple[str, float]]

  def __post_init__(self):
    T = len(self.frames)
    weights = {"patch_attention": self.patch_attention, "segment_attention": self.segment_attention}
    weights |= {f"time_attention[{name!r}]": matrix for name, matrix in self.time_attention.items()}
    shapes = {"patch_attention": (T, *np.shape(self.patch_attention)[1:]), "segment_attention": (T,)}
    for name, array in weights.items():
      expected = shapes.get(name, (T, T))
      if np.shape(array) != expected:
        raise DataError(f"example {self.id!r}: {name} has shape {np.shape(array)}, {T} frames need {expected}.")
      if not (np.isfinite(array).all() and np.min(array) >= 0 and np.max(array) > 0):
        raise DataError(f"example {self.id!r}: {name} must hold finite weights >= 0 that are not all zero.")
    if not self.predictions:
      raise DataError(f"example {self.id!r} has no prediction: give the most probable class at least.")


def attention_figure(example: AttentionExample, theme: Theme = LIGHT) -> Figure:
  """The figure described above, 10.4 inches wide. Save it with `theme.raster` in the same theme."""
  T = len(example.frames)
  with style(theme):
    figure = Figure(figsize=(10.4, 6.6))
    figure.suptitle(_title(example), x=0.01, ha="left", fontsize=11, fontweight="bold")
    grid = figure.add_gridspec(4, T, height_ratios=(1.25, 1.25, 0.9, 2.1))
    uniform = np.mean(example.patch_attention)
    full = max(np.max(example.patch_attention), _FULL * uniform)
    for t in range(T):
      plain, overlaid = figure.add_subplot(grid[0, t]), figure.add_subplot(grid[1, t])
      plain.set_title(f"frame {t + 1}", loc="center", fontsize=8.5, fontweight="normal")
      plain.imshow(example.frames[t])
      plain.set_axis_off()
      above = np.clip((example.patch_attention[t] - uniform) / (full - uniform), 0, 1)
      _overlay(overlaid, example.frames[t], above)
      if t == 0:
        overlaid.text(-0.06, 0.5, "above average", transform=overlaid.transAxes, rotation=90, va="center", ha="right")
    _received(figure.add_subplot(grid[2, :]), example, theme)
    layers = len(example.time_attention)
    lower = grid[3, :].subgridspec(1, layers + 2, width_ratios=(1.5, *[1] * layers, 0.05))
    _scores(figure.add_subplot(lower[0]), example, theme)
    if layers:
      _time_matrices([figure.add_subplot(lower[column]) for column in range(1, layers + 2)], example.time_attention)
  return figure


def _title(example: AttentionExample) -> str:
  predicted, probability = example.predictions[0]
  verdict = f"predicted “{label(predicted, 44)}” ({100 * probability:.0f} %)"
  if example.true is None:
    return f"{label(example.id, 24)}: {verdict}"
  if example.true == predicted:
    return f"{label(example.id, 24)}: {verdict}, correct"
  return f"{label(example.id, 24)}: {verdict}\ntrue “{label(example.true, 44)}”"


def _overlay(axes: Axes, frame: UInt8[np.ndarray, "H W 3"], weights: Float[np.ndarray, "h w"]) -> None:
  """The frame in grey under what its patches received above the average, 0 to 1."""
  height, width = frame.shape[:2]
  axes.imshow(frame.mean(-1), cmap="gray", vmin=0, vmax=255)
  extent = (-0.5, width - 0.5, height - 0.5, -0.5)
  axes.imshow(weights, cmap=_HEAT, vmin=0, vmax=1, extent=extent, interpolation="nearest")
  axes.set_axis_off()


def _received(axes: Axes, example: AttentionExample, theme: Theme) -> None:
  """Bars under the frames: the share of the pooled attention that each frame and each segment got."""
  frames = np.sum(example.patch_attention, axis=(1, 2))
  places = np.arange(len(frames))
  axes.bar(places - 0.2, 100 * frames / frames.sum(), 0.38, color=theme.blue, label="patches of the frame")
  segments = 100 * np.asarray(example.segment_attention) / np.sum(example.segment_attention)
  axes.bar(places + 0.2, segments, 0.38, color=theme.vermilion, label="motion segment")
  axes.axhline(100 / len(frames), color=theme.muted, linestyle="--", linewidth=1)
  axes.set(xlim=(-0.5, len(frames) - 0.5), xticks=[], ylabel="share, %")
  axes.set_title("Attention received (dashed: uniform)", fontsize=9)
  axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0, fontsize=8)


def _scores(axes: Axes, example: AttentionExample, theme: Theme) -> None:
  top = list(example.predictions)[:5]
  colours = [theme.green if name == example.true else theme.muted for name, _ in top]
  axes.barh(range(len(top)), [100 * probability for _, probability in top], 0.35, color=colours)
  for row, (name, probability) in enumerate(top):
    axes.text(0, row - 0.36, f"{label(name, 40)}  {100 * probability:.1f} %", va="center", fontsize=8)
  axes.set(xlim=(0, 100), ylim=(len(top) - 0.6, -0.7), yticks=[], xlabel="probability, %")
  axes.set_title("Classes" if example.true is None else "Classes (green: the true one)", fontsize=9)
  axes.grid(False, axis="y")


def _time_matrices(axes: Sequence[Axes], matrices: Mapping[str, Float[np.ndarray, "T T"]]) -> None:
  """One matrix a layer, all on the scale that the last of the axes shows."""
  *panels, scale = axes
  highest = max(np.max(matrix) for matrix in matrices.values())
  for panel, (name, matrix) in zip(panels, matrices.items(), strict=True):
    image = panel.imshow(matrix, cmap=SHARES, vmin=0, vmax=highest, interpolation="none")
    panel.grid(False)
    panel.spines[:].set_visible(True)
    ticks = np.arange(len(matrix))[:: max(1, len(matrix) // 4)]
    panel.set_xticks(ticks, ticks + 1)
    panel.set_yticks(ticks, ticks + 1)
    panel.set(xlabel="motion segment")
    panel.set_title(label(name, 24), fontsize=9)
  panels[0].set_ylabel("frame")
  bar = scale.figure.colorbar(image, cax=scale, label="weight")
  bar.outline.set_visible(False)
