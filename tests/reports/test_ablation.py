"""The sentences, tables and the figure of an ablation."""

import csv
import io
import math

from gasmcast.metrics.differences import Difference
from gasmcast.reports import ablation as report
from gasmcast.reports.ablation import Header, Row
from gasmcast.reports.theme import LIGHT, raster
from tests.reports.test_figures import texts

SHARED = {"trained": 12_345, "macs": 2_500_000, "step_seconds": 0.0504, "step_bytes": 31_400_000.0}
OWN = Row("easy", "ours", {0: 0.9, 1: 0.92}, 0.91, 0.01414, None, 1.0, False, {"mirrored": 0.99}, **SHARED)
WORSE = Row(
  *("easy", "late & cheap", {0: 0.5, 1: 0.51}, 0.505, 0.00707, Difference(-0.405, -0.47, -0.34), 0.5, False),
  *({"mirrored": 0.5},),
  **SHARED,
)
UNSURE = Row("hard", "late & cheap", {0: 0.7}, 0.7, 0.0, Difference(0.1, -0.2, 0.4), 0.5, True, {}, **SHARED)
REST = Row("hard", "ours", {0: 0.6, 1: 0.6}, 0.6, 0.0, None, None, False, {}, **SHARED)
FAILED = Row(
  "hard", "broken", {}, math.nan, 0.0, None, None, False, {}, 0, 0, 0.0, None, failed={0: "the loss | is nan."}
)
ROWS = [OWN, WORSE, REST, UNSURE, FAILED]
HEADER = Header("Which is best?", "top1", "test", "ours", (0, 1), 1, ("    python launch/main.py",))


def table(page, setting):
  part = page.split(f"## {setting}\n\n")[1].split("\n\n")[0]
  return [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]


def test_a_table_a_setting():
  page = report.markdown(ROWS, HEADER, "figures/ablation.png")
  assert page.startswith("# Which is best?\n\n    python launch/main.py\n")
  assert "![Which is best?](figures/ablation.png)" in page
  head, _, own, worse = table(page, "easy")
  heads = [
    "variant",
    "accuracy",
    "difference",
    "ceiling",
    "pairs mirrored",
    "parameters",
    "MMACs",
    "step ms",
    "memory MB",
  ]
  assert head == heads
  assert own == ["ours", "91.0 ± 1.4", "", "100.0", "99.0", "12,345", "2.50", "50", "31"]
  assert worse[:5] == ["late & cheap", "50.5 ± 0.7", "**-40.5 [-47.0, -34.0]**", "50.0", "50.0"]
  hard = table(page, "hard")
  assert hard[0] == ["variant", "accuracy", "difference", "ceiling", "parameters", "MMACs", "step ms", "memory MB"]
  assert hard[3][2] == "+10.0 [-20.0, +40.0]"  # not clear, so not bold
  assert hard[4][:2] == ["broken", "failed"]


def test_sentences_tell_what_is_clear_what_is_impossible_and_what_failed():
  said = report.sentences(ROWS, HEADER)
  assert "late & cheap is worse on easy than ours." in said
  assert "ABOVE THE CEILING, so the construction or the view is wrong: late & cheap on hard." in said
  assert "broken on hard, seed 0, failed: the loss | is nan." in said
  fine = report.sentences([OWN, WORSE], HEADER)
  assert "No variant is above the ceiling of what it can see, chance (three standard errors) allowed for." in fine
  searched = report.sentences(ROWS, HEADER._replace(points=3))
  assert any("the same 3 points of a search" in line for line in searched)
  assert not any("points of a search" in line for line in said)
  both = [WORSE, UNSURE._replace(difference=Difference(0.1, 0.05, 0.15))]
  assert "late & cheap is better on hard and worse on easy than ours." in report.sentences(both, HEADER)


def test_the_csv_has_every_training_with_every_digit():
  rows = list(csv.DictReader(io.StringIO(report.to_csv(ROWS))))
  assert [(row["setting"], row["variant"], row["seed"]) for row in rows] == [
    *(("easy", "ours", "0"), ("easy", "ours", "1"), ("easy", "late & cheap", "0"), ("easy", "late & cheap", "1")),
    *(("hard", "ours", "0"), ("hard", "ours", "1"), ("hard", "late & cheap", "0"), ("hard", "broken", "0")),
  ]
  assert rows[0]["difference"] == "" and float(rows[2]["difference"]) == 0.5 - 0.9
  assert rows[2]["step_seconds"] == "0.0504" and rows[2]["pairs mirrored"] == "0.5"
  assert rows[7]["value"] == "" and rows[7]["failed"] == "the loss | is nan."


def test_latex_escapes_names():
  text = report.latex(ROWS, HEADER)
  assert "late \\& cheap & $50.5 \\pm 0.7$ & $\\mathbf{-40.5}$ & 12,345 & 2.50 \\\\" in text
  assert "\\multicolumn{5}{l}{\\emph{hard}} \\\\" in text and text.count("\\midrule") == 2
  assert "broken & failed & " in text
  odd = report.latex([OWN._replace(variant="a_b\\c^2")], HEADER)
  assert "a\\_b\\textbackslash{}c\\textasciicircum{}2 & " in odd


def test_what_was_chosen_by_a_search_is_told():
  rows = [OWN._replace(point="optim.lr 0.003"), WORSE._replace(point="optim.lr 0.001")]
  head, _, own, _ = table(report.markdown(rows, HEADER._replace(points=2), "a.png"), "easy")
  assert own[head.index("chosen")] == "optim.lr 0.003"


def test_the_figure_has_a_panel_a_setting_and_is_drawn():
  figure = report.figure(ROWS, HEADER)
  assert {"easy", "hard", "ours", "late & cheap", "broken", "top1 on test, %"} <= set(texts(figure))
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.get_texts()] == ["a seed", "mean", "ours", "ceiling"]
  assert len(raster(figure, LIGHT, "png", 60)) > 5000
