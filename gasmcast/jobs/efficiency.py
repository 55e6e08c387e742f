"""Job efficiency: what each way of bringing the streams together costs, and how that grows.

For each way and depth, with graph layers and without: multiply-accumulates by formula and as XLA counts them,
parameters, time and memory of a forward pass and of a training step; then MACs and times over tokens, frames and clips,
with the exponents of their growth. For each way a line says whether it keeps the target against the baseline, which is
named.

Writes efficiency.json, efficiency.md and, where growth is followed, figures/growth.png and .pdf.
"""

import dataclasses
import datetime
import gc
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
from rich.console import Console

from gasmcast.core import machine
from gasmcast.core.config import require, to_dict
from gasmcast.core.errors import WorkdirError
from gasmcast.core.manifest import atomic_file, write_json
from gasmcast.core.timing import Measured as Timed
from gasmcast.core.timing import Schedule, measure
from gasmcast.features.backbones import BACKBONES
from gasmcast.features.cost import cost
from gasmcast.fusion.config import StreamShapes
from gasmcast.jobs import records
from gasmcast.jobs.efficiency_cases import Case, Measured, Method, count, make_case
from gasmcast.jobs.run import Run
from gasmcast.reports import efficiency as report
from gasmcast.reports.theme import LIGHT, pdf, raster

_DPI = 130


@dataclasses.dataclass(frozen=True)
class GrowthConfig:
  """Sizes over which costs are followed, one at a time while the others stay.

  Attributes:
    methods: "name" or "name, graphs" of ways at their greatest depth; the first is the baseline's colour.
    grids: sides of the square grid of patches.
    frames: T.
    clips: of a batch.
  """

  methods: tuple[str, ...] = ()
  grids: tuple[int, ...] = ()
  frames: tuple[int, ...] = ()
  clips: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class EfficiencyConfig:
  """What is measured.

  Attributes:
    methods: ways to bring the streams together, with the depths of each.
    baseline: name of the way that the others are compared with, without graph layers, at the same depth.
    target: what a way may cost at most, as a share of the baseline's MACs.
    shapes: of the features.
    classes: C.
    clips: of a batch that is timed.
    dtype: of the arithmetic.
    schedule: of the timing.
    backbones: (name of `features.backbones.BACKBONES`, frames of a clip, their side) of what gives the features.
    growth: see there.
  """

  methods: tuple[Method, ...]
  baseline: str
  target: float = 0.5
  shapes: StreamShapes = dataclasses.field(default_factory=StreamShapes)
  classes: int = 174
  clips: int = 1
  dtype: Literal["float32", "bfloat16"] = "float32"
  schedule: Schedule = dataclasses.field(default_factory=Schedule)
  backbones: tuple[tuple[str, int, int], ...] = ()
  growth: GrowthConfig = dataclasses.field(default_factory=GrowthConfig)

  def __post_init__(self):
    names = [method.name for method in self.methods]
    require(len(set(names)) == len(names) > 0, f"efficiency.methods = {names}: give one or more, each once.")
    require(
      self.baseline in names, f"efficiency.baseline = {self.baseline!r} is none of {', '.join(map(repr, names))}."
    )
    require(self.target > 0, f"efficiency.target = {self.target}: it is a share of the baseline, above 0.")
    for name, _, _ in self.backbones:
      require(name in BACKBONES, f"efficiency.backbones: {name!r} is none of {', '.join(BACKBONES)}.")
    require(self.clips >= 1, f"efficiency.clips = {self.clips}: a batch has at least 1.")
    for name in self.growth.methods:
      require(
        name.removesuffix(report.WITH_GRAPHS) in names,
        f"efficiency.growth.methods: {name!r} is none of the methods, with {report.WITH_GRAPHS!r} behind it or not.",
      )

  def backbone_macs(self) -> dict[str, float]:
    """Name -> multiply-accumulates of a clip."""
    shapes = {name: (1, frames, side, side) for name, frames, side in self.backbones}
    return {name: cost(BACKBONES[name].config, shape).forward / 2 for name, shape in shapes.items()}

  @property
  def sizes(self) -> dict[str, Any]:
    """Fields of a case beside the method."""
    return {"clips": self.clips, "classes": self.classes, "dtype": self.dtype}


class Efficiency(Run):
  """A run that measures.

  Raises:
    ConfigError: unknown fields, or a case that can't be.
  """

  def __init__(
    self, config: Mapping[str, Any], workdir: str | os.PathLike, command: str, console: Console | None = None
  ):
    super().__init__(config, workdir, command, console)
    self.config = self.only_section("efficiency", EfficiencyConfig)
    self.cases = tuple(self._cases())
    self.growth = {over: tuple(cases) for over, cases in self._growth().items() if cases}

  def _cases(self) -> Iterator[Case]:
    config = self.config
    for method in config.methods:
      for depth in method.depths:
        for graphs in (False, True):
          yield make_case(method, depth, graphs, config.shapes, config.sizes)

  def _growth(self) -> dict[str, list[tuple[int, Case]]]:
    """Over what -> (size, case) of every way at every size."""
    config = self.config
    over = {
      "tokens of a frame": [(side**2, {"grid": (side, side)}, {}) for side in config.growth.grids],
      "frames": [(time, {"time": time}, {}) for time in config.growth.frames],
      "clips": [(clips, {}, {"clips": clips}) for clips in config.growth.clips],
    }
    methods = {method.name: method for method in config.methods}
    found: dict[str, list[tuple[int, Case]]] = {}
    for name, points in over.items():
      found[name] = []
      for wanted in config.growth.methods:
        method = methods[wanted.removesuffix(report.WITH_GRAPHS)]
        for size, shapes, sizes in points:
          place = dataclasses.replace(config.shapes, **shapes)
          graphs = wanted.endswith(report.WITH_GRAPHS)
          found[name].append((size, make_case(method, max(method.depths), graphs, place, config.sizes | sizes)))
    return found

  def say(self, line: str) -> None:
    self.console.print(line, markup=False, highlight=False, soft_wrap=True)


SETUP = Efficiency


def check(efficiency: Efficiency) -> None:
  """Refuses a working directory whose records belong to a training."""
  if (efficiency.workdir / "checkpoints").exists():
    raise WorkdirError(f"{efficiency.workdir} holds a training; choose another --workdir for job efficiency.")


def run(efficiency: Efficiency) -> None:
  """Counts, measures, writes; what is measured is written after each part.

  Raises:
    WorkdirError: the working directory can't be written.
  """
  records.write(efficiency)
  config, header = efficiency.config, _header()
  for line in header:
    efficiency.say(line)
  rows = [_row(case) for case in efficiency.cases]
  for line in report.targets(rows, config.baseline, config.target, config.backbone_macs()):
    efficiency.say(line)
  curves: dict[str, list[report.Point]] = {}
  for kind in ("forward", "step"):
    timed = _time({case.name: case for case in efficiency.cases}, kind, efficiency)
    rows = [dataclasses.replace(row, **{kind: timed[row.name]}) for row in rows]
    _write(efficiency, rows, curves, header)
  for over, cases in efficiency.growth.items():
    curves[over] = _follow(over, cases, efficiency)
    _write(efficiency, rows, curves, header)
  efficiency.say("\n" + _page(efficiency, rows, curves, header))
  figure = ", figures/growth.png, .pdf" if curves else ""
  efficiency.say(f"Written: {efficiency.workdir / 'efficiency.md'}, efficiency.json{figure}")


def _row(case: Case) -> report.Row:
  counted = count(case)
  return report.Row(case.name, case.method, case.depth, case.graphs, counted.trained, counted.macs, counted.xla_macs)


def _time(cases: Mapping[str, Case], kind: str, efficiency: Efficiency) -> dict[str, report.Cost]:
  """All cases in turns, in one process."""
  efficiency.say(f"{kind}: {len(cases)} cases")
  measured = {name: Measured(case, kind) for name, case in cases.items()}
  say = lambda line: efficiency.say(f"  {line.partition(', error')[0]}")
  sides = [one.side(name) for name, one in measured.items()]
  timed: Sequence[Timed] = measure(sides, efficiency.config.schedule, float("inf"), say=say)
  costs = {one.name: report.Cost(one.median, min(one.seconds), max(one.seconds), one.memory) for one in timed}
  del measured, sides
  jax.clear_caches()
  gc.collect()
  return costs


def _follow(over: str, cases: Sequence[tuple[int, Case]], efficiency: Efficiency) -> list[report.Point]:
  """MACs and times of forward passes at every size; the cases of one size take turns."""
  points = []
  for size in dict.fromkeys(size for size, _ in cases):
    of_size = {case.name: case for other, case in cases if other == size}
    efficiency.say(f"{over}: {size}")
    costs = _time(of_size, "forward", efficiency)
    for name, case in of_size.items():
      clips = case.fusion.clips
      points.append(report.Point(name, size, clips * sum(case.macs.values()), costs[name].seconds, costs[name].memory))
  return points


def _write(
  efficiency: Efficiency,
  rows: Sequence[report.Row],
  curves: Mapping[str, Sequence[report.Point]],
  header: Sequence[str],
) -> None:
  workdir = efficiency.workdir
  content = {
    "command": efficiency.command,
    "config": efficiency.raw,
    "machine": machine.describe(),
    "versions": records.versions(),
    "rows": to_dict(list(rows)),
    "growth": {over: to_dict(list(points)) for over, points in curves.items()},
  }
  with records.writing(workdir):
    write_json(workdir / "efficiency.json", content)
    files = {"efficiency.md": _page(efficiency, rows, curves, header).encode("utf-8")}
    if curves:
      figure = report.growth_figure(curves)
      files |= {"figures/growth.png": raster(figure, LIGHT, "png", _DPI), "figures/growth.pdf": pdf(figure)}
    for name, bytes_ in files.items():
      with atomic_file(pathlib.Path(workdir / name)) as file:
        file.write(bytes_)


def _page(
  efficiency: Efficiency,
  rows: Sequence[report.Row],
  curves: Mapping[str, Sequence[report.Point]],
  header: Sequence[str],
) -> str:
  config = efficiency.config
  sizes = f"{config.clips} clips a batch, {config.classes} classes, {config.dtype}"
  judged = report.targets(rows, config.baseline, config.target, config.backbone_macs())
  return report.markdown(rows, curves, judged, [f"    {efficiency.command}", "", *header], config.shapes, sizes)


def _header() -> list[str]:
  described, devices = machine.describe(), jax.local_devices()
  versions = ", ".join(f"{name} {version}" for name, version in records.versions().items())
  date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
  load = described.get("load", [0.0])[0]
  lines = [
    f"{date}; {described['cpu']}, {machine.usable_cpus()} CPUs, {', '.join(described['flags'])}; jax on "
    f"{len(devices)} x {devices[0].device_kind}; {versions}.",
  ]
  if load > machine.usable_cpus() / 2:
    lines.append(f"The machine was busy at the start (load {load}): times mislead.")
  return lines
