"""Figures of a training from the lines of its metrics.jsonl: norms by module group, learning rates, speed, memory."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from gasmcast.metrics.stability import Series, series
from gasmcast.reports import figures
from gasmcast.reports.figures import WIDTH, curve
from gasmcast.reports.theme import LIGHT, label, style, svg

GROUPS = 12  # drawn in one panel; of more, modules of the first level are drawn, and of these the largest
_COLOURS = (LIGHT.blue, LIGHT.vermilion, LIGHT.green)
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_NORMS = (
  ("grad_norm", "Gradient norm before clipping, by module"),
  ("update_ratio", "Norm of the update by that of the parameters"),
  ("param_norm", "Parameter norm"),
)
_SPEEDS = (  # (keys and their names, title, unit, factor)
  ({"clips_per_second": ""}, "Throughput, without validation and saving", "clips a second", 1),
  (
    {"time/input_wait": "waited for input", "time/input_starved": "and the devices had no work"},
    "Input",
    "% of the time",
    100,
  ),
  ({"speed/mfu": ""}, "Model FLOPs utilisation", "% of the published peak", 100),
  ({"speed/tflops": ""}, "Computed by the step on all devices", "TFLOP/s", 1),
  (
    {"memory/rss_mb": "this process", "memory/children_mb": "its data workers", "memory/device_mb": "device"},
    "Memory",
    "GB",
    1e-3,
  ),
  (
    {"time/validation": "validation", "time/checkpoint": "saving", "time/compilation": "compiling"},
    "Seconds apart from training, by log line",
    "s",
    1,
  ),
)


def charts(records: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
  """Name -> SVG of the figures that there are numbers for: "training", "norms", "resources"."""
  made = {"training": figures.training_curves(records) if records else None}
  made |= {"norms": norms(records), "resources": resources(records)}
  return {name: svg(figure) for name, figure in made.items() if figure is not None}


@style(LIGHT)
def norms(records: Sequence[Mapping[str, Any]]) -> Figure | None:
  """One panel a kind of norm, one line a module group, on a logarithmic axis; None without any.

  Where there are more than `GROUPS` groups, they are joined by the first level of their names (norms in squares, of
  ratios the largest); zeros have no place on the axis and are left out.
  """
  found = {kind: _grouped(records, kind) for kind, _ in _NORMS}
  found = {kind: lines for kind, lines in found.items() if lines}
  if not found:
    return None
  names = sorted({name for lines in found.values() for name in lines})
  looks = {name: (_COLOURS[i % 3], _DASHES[i // 3 % 4]) for i, name in enumerate(names)}
  figure = Figure(figsize=(WIDTH, 0.9 + 2.7 * len(found)))
  panels = figure.subplots(len(found), 1, squeeze=False, sharex=True).ravel()
  for panel, (kind, lines) in zip(panels, found.items(), strict=True):
    for name, (steps, values) in lines.items():
      curve(panel, steps, np.where(values > 0, values, np.nan), name, looks[name], band=False)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_title(dict(_NORMS)[kind])
  _steps(panels[-1], found[list(found)[-1]].values())
  handles = [panels[0].plot([], [], color=colour, linestyle=dash)[0] for colour, dash in looks.values()]
  figure.legend(handles, [label(name, 30) for name in looks], loc="outside upper left", ncols=4)
  return figure


def _grouped(records: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Series]:
  prefix = f"{kind}/"
  names = sorted({key.removeprefix(prefix) for record in records for key in record if key.startswith(prefix)})
  lines = {name: series(records, "train", prefix + name) for name in names}
  lines = {name: line for name, line in lines.items() if len(line[0])}
  if len(lines) > GROUPS:
    lines = _joined(lines, np.max if kind == "update_ratio" else lambda values: np.sqrt(np.sum(np.square(values))))
  largest = sorted(lines, key=lambda name: -float(np.median(lines[name][1])))[:GROUPS]
  return {name: lines[name] for name in sorted(largest)}


def _joined(lines: Mapping[str, Series], join: Any) -> dict[str, Series]:
  modules: dict[str, dict[float, list[float]]] = {}
  for name, (steps, values) in lines.items():
    points = modules.setdefault(name.split("/")[0], {})
    for step, value in zip(steps, values, strict=True):
      points.setdefault(step, []).append(value)
  return {
    module: (np.array(sorted(points)), np.array([join(points[step]) for step in sorted(points)]))
    for module, points in modules.items()
  }


@style(LIGHT)
def resources(records: Sequence[Mapping[str, Any]]) -> Figure | None:
  """Panels of speed, waiting and memory, as far as they were logged; None without any."""
  found = []
  for keys, title, unit, factor in _SPEEDS:
    lines = {name: series(records, "train", key) for key, name in keys.items()}
    lines = {name: line for name, line in lines.items() if len(line[0]) and (len(keys) < 3 or line[1].any())}
    if lines:
      found.append((title, unit, factor, lines))
  if not found:
    return None
  rows = -(-len(found) // 2)
  figure = Figure(figsize=(WIDTH, 0.3 + 2.5 * rows))
  panels = figure.subplots(rows, 2, squeeze=False).ravel()
  for panel, (title, unit, factor, lines) in zip(panels, found, strict=False):
    for number, (name, (steps, values)) in enumerate(lines.items()):
      curve(panel, steps, factor * values, name, (_COLOURS[number % 3], "-"))
    panel.set(title=title, ylabel=unit)
    panel.set_ylim(bottom=0)
    _steps(panel, lines.values())
    if len(lines) > 1 or any(lines):
      panel.legend()
  for panel in panels[len(found) :]:
    panel.set_axis_off()
  return figure


def _steps(axes: Axes, lines: Iterable[Series]) -> None:
  last = max(steps[-1] for steps, _ in lines)
  axes.set(xlabel="step", xlim=(-0.02 * last - 1, 1.02 * last + 1))
  axes.xaxis.set_major_formatter("{x:,.0f}")
