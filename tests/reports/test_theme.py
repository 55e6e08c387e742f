import dataclasses
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from gasmcast.reports import theme
from gasmcast.reports.theme import DARK, LIGHT


def luminance(colour):
  """Relative luminance of WCAG 2."""
  channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
  linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
  return np.dot(linear, [0.2126, 0.7152, 0.0722])


def contrast(a, b):
  bright, dark = sorted((luminance(a), luminance(b)), reverse=True)
  return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_and_marks_are_legible_on_both_backgrounds(palette):
  for background in (palette.surface, palette.page):
    assert contrast(palette.ink, background) > 12
    for role in ("muted", "blue", "vermilion", "green"):
      assert contrast(getattr(palette, role), background) > 4  # WCAG asks 3 of marks and 4.5 of small text


def test_colours_name_their_roles():
  for palette in (LIGHT, DARK):
    colours = dataclasses.astuple(palette)
    assert len(set(colours)) == len(colours)


def test_style_leaves_no_trace():
  before = dict(matplotlib.rcParams)
  with theme.style(DARK):
    assert matplotlib.rcParams["text.color"] == DARK.ink
  assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
  ("text", "width", "expected"),
  [
    ("opening\n  a  door", 20, "opening a door"),
    ("opening a door", 9, "opening…"),
    ("bell\x07 and \u202eevil", 20, "bell\ufffd and \ufffdevil"),
  ],
)
def test_labels_are_one_printable_line(text, width, expected):
  assert theme.label(text, width) == expected


@theme.style(LIGHT)
def drawn(title):
  figure = Figure(figsize=(2, 1))
  figure.subplots().set_title(title)
  return figure


def test_svg_holds_text_as_text_and_equal_figures_are_equal_bytes():
  hostile = r"<script>alert(1)</script> costs $5 & \frac{ 開く"
  content = theme.svg(drawn(hostile))
  assert content == theme.svg(drawn(hostile))
  root = ElementTree.fromstring(content)
  assert hostile in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
  assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def test_pdf_embeds_true_type_and_equal_figures_are_equal_bytes():
  content = theme.pdf(drawn("a"))
  assert content.startswith(b"%PDF") and content == theme.pdf(drawn("a"))
  assert b"/CIDFontType2" in content and b"/Type3" not in content


def test_page_svg_gives_every_role_its_dark_colour():
  content = theme.page_svg(theme.svg(drawn("a"))).decode()
  ElementTree.fromstring(content)
  assert f'[style*="fill: {LIGHT.ink}"]{{fill:{DARK.ink}!important}}' in content
  assert f'[style*="stroke: {LIGHT.muted}"]{{stroke:{DARK.muted}!important}}' in content
  assert f"stroke: {LIGHT.muted}" in theme.svg(drawn("a")).decode()  # the selector meets what matplotlib writes
