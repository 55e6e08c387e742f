"""The tables of backbones, and the page that describes them."""

import pathlib

import pytest

from gasmcast.features.backbones import BACKBONES, FAMILIES
from gasmcast.features.weights.sources import Hub

PAGE = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "backbones.md").read_text("utf-8")
ROWS = {
  cells[0]: cells[1:]
  for line in PAGE.splitlines()
  if line.startswith("| ") and (cells := [cell.strip() for cell in line.strip("|").split("|")])[0] in BACKBONES
}


def test_the_page_describes_every_backbone():
  assert set(ROWS) == set(BACKBONES)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_page_says_what_the_table_says(name):
  backbone, (parameters, source, normalisation, frames) = BACKBONES[name], ROWS[name]
  assert parameters == f"{backbone.parameters:,}"
  assert frames.startswith(str(backbone.config.image_size))
  first = backbone.config.normalisation.mean[0]
  assert normalisation == {0.485: "ImageNet", 0.43216: "Kinetics", 0.5: "-1 to 1"}[first]
  if isinstance(backbone.source, Hub):
    assert source.removesuffix(" (gated)") == backbone.source.id
    assert source.endswith(" (gated)") == (backbone.family == "dinov3")


def test_every_backbone_is_of_a_family_and_every_family_has_one():
  assert {backbone.family for backbone in BACKBONES.values()} == set(FAMILIES)
  for backbone in BACKBONES.values():
    assert isinstance(backbone.config, FAMILIES[backbone.family].config)
