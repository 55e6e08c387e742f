"""The page that describes job prepare says what the code does."""

import dataclasses
import pathlib
import re

from configs import ssv2_prepare
from gasmcast.core.config import parse
from gasmcast.jobs.preparation import PrepareConfig
from gasmcast.metrics.data_quality import FLAGS
from gasmcast.metrics.quality_checks import ChecksConfig
from gasmcast.reports.quality_numbers import MEANINGS
from gasmcast.videos.quality import QualityConfig

PAGE = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "prepare.md").read_text("utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)


def test_the_page_lists_every_flag_in_its_order_and_the_words_of_the_report():
  assert [row for row in ROWS if row[0] in MEANINGS and row[1] == MEANINGS[row[0]]] == [(f, MEANINGS[f]) for f in FLAGS]


def test_the_page_lists_every_check_with_its_limit_and_severity():
  checks = {name: rest.split(" | ")[:2] for name, rest in ROWS if rest.count(" | ") == 2}
  wanted = {f.name: getattr(ChecksConfig(), f.name) for f in dataclasses.fields(ChecksConfig)}
  assert checks == {name: [f"{check.limit:g}", check.severity] for name, check in wanted.items()}


def test_the_page_names_every_field():
  for owner in (PrepareConfig, QualityConfig):
    for field in dataclasses.fields(owner):
      known = ("dataset", "source", "annotations", "splits", "options", "shard")  # told with the readers, and clusters
      assert field.name in known or f"`{field.name}`" in PAGE or f"config.prepare.{field.name}" in PAGE, field.name


def test_the_config_has_the_limits_of_the_page():
  config = ssv2_prepare.get_config()
  assert parse(ChecksConfig, config.prepare.checks.to_dict(), "checks") == ChecksConfig()
