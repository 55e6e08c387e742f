"""A `Report` in, a folder out: one page that needs nothing else, its figures as files, the classes as CSV.

Whatever comes from outside (class names, ids, paths, the command) is text: jinja2 escapes every value, figures are
images, and the page's Content-Security-Policy lets run the one script whose hash it names and load nothing.
"""

import csv
import dataclasses
import io
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gasmcast.core.manifest import atomic_file
from gasmcast.metrics import classification
from gasmcast.metrics.classification import ClassRow, Mistake
from gasmcast.reports import figures, training_figures
from gasmcast.reports import training as training_page
from gasmcast.reports.attention import AttentionExample, attention_figure
from gasmcast.reports.page import data_uri, render
from gasmcast.reports.theme import DARK, LIGHT, raster, svg
from gasmcast.reports.training import Training

PICTURES_LIMIT = 1_900_000  # bytes of attention pictures inside the page, which stays below 3 MB
_OWN_FILES = re.compile(r"(confusion|per_class|training|norms|resources|calibration|depth)\.svg|attention-\d+\.png")


@dataclasses.dataclass(frozen=True)
class Run:
  """What has to be known to make the numbers again."""

  command: str
  step: int
  data: str  # name of the data set
  fingerprint: str  # of the evaluated examples
  versions: Mapping[str, str]
  parameters: Mapping[str, int]  # kind ("trainable", "frozen", ...) -> count
  weights: Mapping[str, str] = dataclasses.field(default_factory=dict)  # part of the model -> what it began with


@dataclasses.dataclass(frozen=True)
class Report:
  """Everything on the page. What is empty has no section.

  Attributes:
    split: "validation", "test", ...
    sums: merged sums of `metrics.classification`.
    training: how the evaluated parameters came about.
    pairs: kind ("mirrored", "reversed in time") -> pairs of class indices that differ in that alone.
    depth_hits: right predictions after 0, 1, 2, ... fusion layers, each of all examples.
    mistakes: the most confident ones.
    attention: examples to look into.
    unreadable: clips that could not be read and are in no number.
  """

  run: Run
  split: str
  class_names: Sequence[str]
  sums: Mapping[str, Any]
  training: Training | None = None
  pairs: Mapping[str, Sequence[tuple[int, int]]] = dataclasses.field(default_factory=dict)
  depth_hits: Sequence[float] = ()
  mistakes: Sequence[Mistake] = ()
  attention: Sequence[AttentionExample] = ()
  unreadable: int = 0


def write_report(folder: str | os.PathLike, report: Report) -> pathlib.Path:
  """Writes index.html, per_class.csv, *.svg and attention-*.png into `folder`; each file appears whole.

  Figures that an earlier report left there and this one has not are removed.

  Returns:
    The path of index.html.

  Raises:
    DataError, TrainingError: see `metrics.classification.summarize`.
  """
  folder = pathlib.Path(folder)
  numbers = classification.summarize(report.sums)
  rows = classification.per_class(report.sums, report.class_names)
  charts = _charts(report, rows)
  files = {f"{name}.svg": content for name, content in charts.items()}
  files["per_class.csv"] = _csv(rows)
  for number, example in enumerate(report.attention, start=1):
    files[f"attention-{number:02d}.png"] = raster(attention_figure(example), LIGHT, "png", dpi=150)
  files["index.html"] = _page(report, numbers, rows, charts).encode("utf-8", "replace")
  for name, content in files.items():
    with atomic_file(folder / name) as file:
      file.write(content)
  for old in folder.iterdir():
    if old.name not in files and _OWN_FILES.fullmatch(old.name):
      old.unlink()
  return folder / "index.html"


def _charts(report: Report, rows: Sequence[ClassRow]) -> dict[str, bytes]:
  """The figures of the sections that have data, as SVG."""
  sums = report.sums
  charts = {
    "per_class": figures.per_class_bars(rows),
    "confusion": figures.confusion_matrix(sums["confusion"], report.class_names),
    "calibration": figures.reliability_diagram(sums["calibration"]),
  }
  if report.depth_hits:
    charts["depth"] = figures.depth_accuracy(report.depth_hits, float(sums["examples"]))
  made = {name: svg(figure) for name, figure in charts.items()}
  return made if report.training is None else made | training_figures.charts(report.training.records)


def _page(report: Report, numbers: Mapping[str, float], rows: Sequence[ClassRow], charts: Mapping[str, bytes]) -> str:
  pairs = {kind: classification.pairs(report.sums, pairs, report.class_names) for kind, pairs in report.pairs.items()}
  return render(
    "report.html",
    charts,
    filters=training_page.FILTERS,
    **({} if report.training is None else training_page.values(report.training)),
    report=report,
    run=report.run,
    numbers=numbers,
    interval={
      name: classification.wilson_interval(numbers[name] * numbers["examples"], numbers["examples"])
      for name in ("top1", "top5")
    },
    top=min(classification.TOP, len(rows)),
    rows=rows,
    pairs={kind: (*found, classification.pooled(found)) for kind, found in pairs.items() if found},
    pictures=_pictures(report.attention),
  )


def _pictures(examples: Sequence[AttentionExample]) -> list[dict[str, str | None]]:
  """File name and data URIs by theme of each example; no URIs from the first that exceeds the limit."""
  pictures, total = [], 0
  for number, example in enumerate(examples, start=1):
    picture = {"file": f"attention-{number:02d}.png", "id": example.id, "light": None, "dark": None}
    if total < PICTURES_LIMIT:
      for name, theme in (("light", LIGHT), ("dark", DARK)):
        picture[name] = data_uri("image/webp", raster(attention_figure(example, theme), theme, "webp", dpi=130))
      total += len(picture["light"]) + len(picture["dark"])
    if total > PICTURES_LIMIT:
      picture |= {"light": None, "dark": None}
    pictures.append(picture)
  return pictures


def _csv(rows: Sequence[ClassRow]) -> bytes:
  """The rows with unrounded shares; a share without a denominator is empty."""
  text = io.StringIO()
  writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(ClassRow)])
  writer.writeheader()
  writer.writerows(dataclasses.asdict(row) for row in rows)
  return text.getvalue().encode("utf-8", "replace")
