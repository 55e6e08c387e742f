"""The verdicts, tables and the figure of job efficiency."""

import pytest

from gasmcast.fusion.config import StreamShapes
from gasmcast.reports import efficiency as report
from gasmcast.reports.efficiency import Cost, Point, Row
from gasmcast.reports.theme import LIGHT, raster
from tests.reports.test_figures import texts

COST = Cost(0.0123, 0.012, 0.0151, 34_000_000)


def row(method, depth, graphs, graph, exchange, **fields):
  name = f"{method}, {depth} layers" + (", graphs" if graphs else "")
  return Row(
    name, method, depth, graphs, 1_234, {"graph": graph, "exchange": exchange, "classification": 500}, 7e6, **fields
  )


ROWS = [
  row("plain", 2, False, 0, 10_000_000, forward=COST, step=COST),
  row("plain", 2, True, 6_000_000, 10_000_000),
  row("ours", 2, False, 0, 4_000_000, forward=COST),
  row("ours", 2, True, 1_500_000, 4_000_000),
  row("late", 0, True, 6_000_000, 0),
]
CURVE = [Point("ours", size, 10 * size**2, 1e-3 * size, 4 * size) for size in (2, 4, 8)]


def test_a_line_a_way_says_whether_the_target_is_kept_without_graphs_and_with_them():
  lines = report.targets(ROWS, "plain", 0.5)
  assert len(lines) == 2  # the baseline and ways without layers are not judged
  assert "at most 0.5 of the MACs of as many layers of plain without graph layers (2: 10.0M)" in lines[0]
  assert lines[1] == "  ours, 2 layers: 0.400 met / 0.550 NOT met"
  assert report.targets(ROWS, "plain", 0.6)[1] == "  ours, 2 layers: 0.400 met / 0.550 met"


def test_the_backbones_are_told_beside():
  line = report.targets(ROWS, "plain", 0.5, {"a": 150e9, "b": 50e9})[-1]
  assert line.startswith(
    "End to end the backbones dominate: a 150.0G, b 50.0G; the dearest way here adds 0.02G to 200.0G"
  )


def test_exponents_by_hand():
  """10 n^2 has the exponent 2, n / 1000 has 1."""
  assert report.exponent(CURVE, "macs") == pytest.approx(2.0)
  assert report.exponent(CURVE, "seconds") == pytest.approx(1.0)
  assert report.exponent(CURVE[:1], "macs") is None
  unknown = [Point("ours", size, 1, 1.0, None) for size in (1, 2)]
  assert report.exponent(unknown, "memory") is None


def test_the_table_has_macs_by_scope_times_and_memory():
  head, lines = report.table(ROWS)
  assert head[:7] == ("way", "parameters", "MMACs graph", "exchange", "rest", "all", "XLA / 2")
  assert lines[0] == (
    *("plain, 2 layers", "1,234", "0.0", "10.0", "0.0", "10.0", "7.0"),
    *("12.3 (12.0 to 15.1)", "34", "12.3 (12.0 to 15.1)", "34"),
  )
  assert lines[1][7:] == ("", "", "", "")


def test_growth_is_told_size_by_size():
  head, lines = report.growth_table(CURVE, "frames")
  assert head == ("way", "2 frames", "4 frames", "8 frames", "exponent of MACs", "of time", "of memory")
  assert lines == [("ours", "0 M, 2.0 ms", "0 M, 4.0 ms", "0 M, 8.0 ms", "2.00", "1.00", "1.00")]


def test_the_page_holds_all_of_it():
  judged = report.targets(ROWS, "plain", 0.5)
  page = report.markdown(ROWS, {"frames": CURVE}, judged, ["the machine"], StreamShapes(), "1 clips a batch")
  assert "semantic 8 x 196 x 768, motion 8 x 1 x 512. 1 clips a batch." in page and "the machine" in page
  assert "- ours, 2 layers: 0.400 met / 0.550 NOT met" in page and "## Growth with frames" in page
  assert "![Growth](figures/growth.png)" in page
  assert "growth.png" not in report.markdown(ROWS, {}, judged, [], StreamShapes(), "")


@pytest.mark.parametrize(
  ("heights", "expected"),
  [([0.0, 0.0, 5.0], [0.0, 1.0, 5.0]), ([2.0, 0.5, 0.0], [2.0, 1.0, 0.0]), ([0.0, 3.0], [0.0, 3.0]), ([], [])],
)
def test_texts_at_the_ends_of_curves_keep_apart(heights, expected):
  assert report.spread(heights, 1.0) == expected


def test_the_figure_has_two_panels_a_size_and_names_the_powers():
  other = [Point("plain", size, 10 * size, 1e-3, 1) for size in (2, 4, 8)]
  figure = report.growth_figure({"frames": [*CURVE, *other], "clips": CURVE})
  assert len(figure.axes) == 4 and {"over frames", "over clips", "GMACs", "ms", "2.00", "1.00"} <= set(texts(figure))
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.get_texts()] == ["ours", "plain"]
  assert len(raster(figure, LIGHT, "png", 60)) > 5000
