"""Figures show shares of each split on common bins, and name what they show."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from gasmcast.reports import theme
from gasmcast.reports.quality_figures import class_counts, common_bins, distributions, span
from tests.reports.made_up_quality import measure


def texts(figure):
  root = ElementTree.fromstring(theme.svg(figure))
  return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_distributions_name_measures_units_and_splits():
  statistics = {
    "train": {"seconds": measure([1, 2, 1]), "motion": measure([4])},
    "test": {"seconds": measure([1, 1], edges=[0, 2, 8])},
  }
  written = texts(distributions(statistics))
  assert {"Duration", "seconds", "Motion", "mean change between frames, grey levels", "train", "test"} <= set(written)
  assert written.count("clips of the split, %") == 1
  assert "Brightness" not in written


def test_heights_are_shares_of_the_split():
  whole = measure([1, 3], edges=[0, 15, 30])
  edges, (first, second) = common_bins([whole, measure([10, 10], edges=[0, 10, 30])])
  np.testing.assert_allclose(edges, np.arange(31))
  np.testing.assert_allclose(first, [25 / 15] * 15 + [75 / 15] * 15)
  np.testing.assert_allclose(second, [5] * 10 + [2.5] * 20)
  figure = distributions({"train": {"frames": whole}})
  outline, area = (patch.get_data().values for patch in figure.axes[0].patches)
  np.testing.assert_allclose(outline, first)
  np.testing.assert_allclose(area, first)


def test_a_narrow_histogram_beside_a_wide_one_stays_below_100_percent():
  same = measure([0] * 15 + [7] + [0] * 14, edges=np.linspace(11.5, 12.5, 31).tolist()) | {"min": 12.0, "max": 12.0}
  wide = measure([1] * 30, edges=np.linspace(1, 120, 31).tolist()) | {"max": 120}
  edges, (first, second) = common_bins([same, wide])
  assert np.flatnonzero(first).tolist() == [2] and edges[2] < 12 < edges[3]
  assert first.sum() == pytest.approx(100) and second.sum() == pytest.approx(100)


def test_numbers_that_are_all_the_same_are_one_bar():
  rate = measure([0, 5], edges=[29.5, 30, 30.5]) | {"min": 30.0, "max": 30.00001}
  edges, shares = common_bins([rate, rate])
  assert edges.tolist() == [29.5, 30.5]
  assert [one.tolist() for one in shares] == [[100], [100]]
  axes = distributions({"train": {"rate": rate}}).axes[0]
  assert axes.get_xlim() == (27, 33)
  axes = distributions({"train": {"motion": rate | {"min": 0.0, "max": 0.0}}}).axes[0]
  assert axes.get_xlim() == (-3, 3)


def test_an_axis_leaves_out_a_thousandth_on_either_side():
  counts = np.array([1, 0, 5000, 5000, 0, 1])
  assert span(np.arange(7.0), counts) == (2, 4)
  assert span(np.arange(4.0), np.array([1, 0, 1])) == (0, 3)


def test_few_classes_are_named_and_many_are_counted():
  few = texts(class_counts(["open", "close"], {"train": [3, 1200]}))
  assert few.index("close") < few.index("open")
  assert {"1,200", "3"} <= set(few)
  many = texts(class_counts([f"class {i}" for i in range(174)], {"train": list(range(174)), "test": [2] * 174}))
  assert "train (dashed: median 86.5)" in many and "test (dashed: median 2)" in many
  assert "classes, most clips in train first" in many
