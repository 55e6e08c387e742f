"""What an ablation found, for people: sentences, tables as Markdown, CSV and LaTeX, and a figure."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gasmcast.metrics.differences import Difference
from gasmcast.reports.figures import WIDTH
from gasmcast.reports.theme import LIGHT, label, style
from gasmcast.reports.wording import cut

_ACROSS = 2  # panels beside each other
_NAME = 34  # characters of a variant's name in the figure


class Row(NamedTuple):
  """A variant on a setting, over all seeds, with the point of the search that validated best.

  Attributes:
    setting, variant: by name.
    values: the number that is compared, by seed; only of finished trainings.
    mean, deviation: of the values.
    difference: from the reference, paired by seed; None of the reference itself.
    ceiling: that the variant can't exceed by construction; None where it is not known.
    exceeds: whether it does all the same, by more than chance.
    pairs: kind -> share told apart of clips predicted as one of a pair of classes, mean over seeds.
    trained: parameters.
    macs: of a clip, behind the backbones.
    step_seconds: median of a training step.
    step_bytes: that it needs; None where the compiler does not tell.
    point: what of the search was chosen, in words; "" where nothing was searched.
    failed: seed -> why there is no value.
  """

  setting: str
  variant: str
  values: Mapping[int, float]
  mean: float
  deviation: float
  difference: Difference | None
  ceiling: float | None
  exceeds: bool
  pairs: Mapping[str, float]
  trained: int
  macs: int
  step_seconds: float
  step_bytes: float | None
  point: str = ""
  failed: Mapping[int, str] = {}


class Header(NamedTuple):
  """What stands above the tables.

  Attributes:
    question: the title.
    metric, split: what is compared.
    reference: the variant that all others are compared with.
    seeds: of each variant.
    points: of the search, 1 if there is none.
    notes: machine, date, command and the like, a sentence each.
  """

  question: str
  metric: str
  split: str
  reference: str
  seeds: tuple[int, ...]
  points: int
  notes: tuple[str, ...] = ()


def sentences(rows: Sequence[Row], header: Header) -> list[str]:
  """How to read the tables, and what they say."""
  lines = [
    f"{header.metric} on {header.split} in %, mean and standard deviation over seeds "
    f"{', '.join(map(str, header.seeds))}. Difference: from {header.reference!r}, paired by seed, with the 95 % "
    "interval of Student's t; one whose interval leaves out 0 is set in bold. MACs: of one clip behind the "
    "backbones. Step and memory: of one training step.",
  ]
  if header.points > 1:
    lines.append(
      f"Every variant was trained with the same {header.points} points of a search; the one with the best mean on "
      "validation is reported."
    )
  counts: dict[str, list[Row]] = {}
  for row in rows:
    counts.setdefault(row.variant, []).append(row)
  for variant, found in counts.items():
    clear = [row for row in found if row.difference is not None and row.difference.clear]
    if clear:
      better = [row.setting for row in clear if row.difference.mean > 0]
      worse = [row.setting for row in clear if row.difference.mean < 0]
      told = [f"better on {', '.join(better)}"] * bool(better) + [f"worse on {', '.join(worse)}"] * bool(worse)
      lines.append(f"{variant} is {' and '.join(told)} than {header.reference}.")
  if over := [row for row in rows if row.exceeds]:
    names = ", ".join(f"{row.variant} on {row.setting}" for row in over)
    lines.append(f"ABOVE THE CEILING, so the construction or the view is wrong: {names}.")
  elif any(row.ceiling is not None for row in rows):
    lines.append("No variant is above the ceiling of what it can see, chance (three standard errors) allowed for.")
  lines += [
    f"{row.variant} on {row.setting}, seed {seed}, failed: {cut(why)}"
    for row in rows
    for seed, why in row.failed.items()
  ]
  return lines


def columns(rows: Sequence[Row]) -> tuple[str, ...]:
  """Heads of the table of a setting."""
  kinds = _kinds(rows)
  ceilings = ("ceiling",) if any(row.ceiling is not None for row in rows) else ()
  points = ("chosen",) if any(row.point for row in rows) else ()
  told = tuple(f"pairs {kind}" for kind in kinds)
  return ("variant", "accuracy", "difference", *ceilings, *told, *points, "parameters", "MMACs", "step ms", "memory MB")


def cells(row: Row, heads: Sequence[str]) -> tuple[str, ...]:
  """The texts of a row under these heads."""
  difference = row.difference
  texts = {
    "variant": row.variant,
    "accuracy": _accuracy(row),
    "difference": "" if difference is None else _interval(difference),
    "ceiling": "" if row.ceiling is None else f"{100 * row.ceiling:.1f}",
    "chosen": row.point,
    "parameters": f"{row.trained:,}",
    "MMACs": f"{row.macs / 1e6:,.2f}",
    "step ms": f"{1e3 * row.step_seconds:,.0f}",
    "memory MB": "" if row.step_bytes is None else f"{row.step_bytes / 1e6:,.0f}",
  }
  texts |= {f"pairs {kind}": f"{100 * share:.1f}" for kind, share in row.pairs.items()}
  return tuple(texts.get(head, "") for head in heads)


def by_setting(rows: Sequence[Row]) -> dict[str, list[Row]]:
  """The rows of each setting, in their order."""
  found: dict[str, list[Row]] = {}
  for row in rows:
    found.setdefault(row.setting, []).append(row)
  return found


def markdown(rows: Sequence[Row], header: Header, figure: str) -> str:
  """ablation.md: sentences, a table a setting, a link to the figure."""
  lines = [f"# {header.question}", "", *header.notes, ""] if header.notes else [f"# {header.question}", ""]
  lines += [f"- {sentence}" for sentence in sentences(rows, header)]
  for setting, found in by_setting(rows).items():
    heads = columns(found)
    lines += ["", f"## {setting}", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in found:
      texts = [text.replace("|", "/") for text in cells(row, heads)]
      place = heads.index("difference")
      if row.difference is not None and row.difference.clear:
        texts[place] = f"**{texts[place]}**"
      lines.append(f"| {' | '.join(texts)} |")
  return "\n".join([*lines, "", f"![{header.question}]({figure})", ""])


def to_csv(rows: Sequence[Row]) -> str:
  """A line for each training, numbers with all their digits."""
  file = io.StringIO()
  writer = csv.writer(file, lineterminator="\n")
  kinds = _kinds(rows)
  numbers = ("value", "difference", "ceiling", "parameters", "macs", "step_seconds", "step_bytes")
  writer.writerow(("setting", "variant", "seed", *numbers, *(f"pairs {kind}" for kind in kinds), "chosen", "failed"))
  references = {row.setting: row.values for row in rows if row.difference is None}
  for row in rows:
    for seed in sorted({*row.values, *row.failed}):
      value, other = row.values.get(seed), references.get(row.setting, {}).get(seed)
      apart = "" if value is None or other is None or row.difference is None else value - other
      numbers = (row.ceiling, row.trained, row.macs, row.step_seconds, row.step_bytes)
      told = (row.pairs.get(kind) for kind in kinds)
      cell = (row.setting, row.variant, seed, value, apart, *numbers, *told, row.point, row.failed.get(seed, ""))
      writer.writerow("" if one is None else one for one in cell)
  return file.getvalue()


def latex(rows: Sequence[Row], header: Header) -> str:
  """A table of booktabs with a block a setting: variant, accuracy, difference, parameters, MACs."""
  lines = [
    "% needs \\usepackage{booktabs}",
    "\\begin{tabular}{lrrrr}",
    "\\toprule",
    f"& {_tex(header.metric)} (\\%) & difference & parameters & MMACs \\\\",
  ]
  for setting, found in by_setting(rows).items():
    lines += ["\\midrule", f"\\multicolumn{{5}}{{l}}{{\\emph{{{_tex(setting)}}}}} \\\\"]
    for row in found:
      apart = "" if row.difference is None else f"${_signed(100 * row.difference.mean)}$"
      if row.difference is not None and row.difference.clear:
        apart = f"$\\mathbf{{{_signed(100 * row.difference.mean)}}}$"
      accuracy = f"${100 * row.mean:.1f} \\pm {100 * row.deviation:.1f}$" if row.values else "failed"
      texts = (_tex(row.variant), accuracy, apart, f"{row.trained:,}", f"{row.macs / 1e6:,.2f}")
      lines.append(f"{' & '.join(texts)} \\\\")
  return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


@style(LIGHT)
def figure(rows: Sequence[Row], header: Header) -> Figure:
  """A panel a setting: each seed a dot, the mean a line, the reference's mean a line through all, ceilings as ticks."""
  settings = by_setting(rows)
  across = min(_ACROSS, len(settings))
  down = -(-len(settings) // across)
  most = max(map(len, settings.values()))
  drawn = Figure(figsize=(WIDTH, 0.5 + down * (0.75 + 0.26 * most)))
  panels = drawn.subplots(down, across, squeeze=False, sharey="row").ravel()
  for panel, (setting, found) in zip(panels, settings.items(), strict=False):
    _panel(panel, setting, found, header)
  for panel in panels[len(settings) :]:
    panel.set_axis_off()
  handles, names = panels[0].get_legend_handles_labels()
  drawn.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8)
  return drawn


def _panel(panel: Axes, setting: str, rows: Sequence[Row], header: Header) -> None:
  for place, row in enumerate(rows):
    own = row.variant == header.reference
    colour = LIGHT.vermilion if own else LIGHT.blue
    values = [100 * value for value in row.values.values()]
    panel.plot(values, [place] * len(values), "o", color=colour, alpha=0.55, markersize=4.5, label="_")
    if values:
      panel.plot([100 * row.mean] * 2, [place - 0.32, place + 0.32], color=colour, linewidth=2.2, label="_")
    if own and values:
      panel.axvline(100 * row.mean, color=LIGHT.vermilion, linewidth=0.9, linestyle="--", label="_")
    if row.ceiling is not None and row.ceiling < 1:
      panel.plot([100 * row.ceiling], [place], "|", color=LIGHT.ink, markersize=13, markeredgewidth=1.4, label="_")
  panel.set_yticks(range(len(rows)), [label(row.variant, _NAME) for row in rows])
  panel.set_ylim(len(rows) - 0.4, -0.6)
  panel.xaxis.set_major_locator(MaxNLocator(6))
  panel.set(title=label(setting, 60), xlabel=f"{header.metric} on {header.split}, %")
  panel.grid(False, axis="y")
  panel.plot([], [], "o", color=LIGHT.blue, alpha=0.55, markersize=4.5, label="a seed")
  panel.plot([], [], color=LIGHT.blue, linewidth=2.2, label="mean")
  panel.plot([], [], color=LIGHT.vermilion, linewidth=1.2, linestyle="--", label=label(header.reference, _NAME))
  if any(row.ceiling is not None and row.ceiling < 1 for row in rows):
    panel.plot([], [], "|", color=LIGHT.ink, markersize=10, markeredgewidth=1.4, linestyle="none", label="ceiling")


def _kinds(rows: Sequence[Row]) -> tuple[str, ...]:
  return tuple(dict.fromkeys(kind for row in rows for kind in row.pairs))


def _accuracy(row: Row) -> str:
  if not row.values:
    return "failed"
  return f"{100 * row.mean:.1f} ± {100 * row.deviation:.1f}" + (f" ({len(row.failed)} failed)" if row.failed else "")


def _interval(difference: Difference) -> str:
  if not math.isfinite(difference.low):
    return _signed(100 * difference.mean)
  bounds = (_signed(100 * bound) for bound in (difference.low, difference.high))
  return f"{_signed(100 * difference.mean)} [{', '.join(bounds)}]"


def _signed(value: float) -> str:
  return f"{value:+.1f}"


def _tex(text: str) -> str:
  """A text with the characters that LaTeX reads otherwise."""
  replaced = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
  return "".join(replaced.get(one, f"\\{one}" if one in "&%$#_{}" else one) for one in text)
