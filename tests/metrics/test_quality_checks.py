"""Every check on numbers that are just good enough and just not."""

import copy
import dataclasses

import pytest

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError
from gasmcast.metrics.quality_checks import Check, ChecksConfig, check


def split(examples=100, official=None, medians=(), classes=(50, 50), **flags):
  return {
    "examples": examples,
    "official": official,
    "flags": flags,
    "statistics": {name: {"median": value} for name, value in (("frames", 40.0), *medians)},
    "classes": {"action": list(classes)},
  }


def quality(train=None, validation=None, across=0, unmapped=0, changed=0, given=None):
  checksums = {"compared": 200, "changed_total": changed}
  if given is not None:
    checksums |= {"given": 10, "wrong": given}
  return {
    "splits": {"train": train or split(), "validation": validation or split()},
    "classes": {"action": ["up", "down"]},
    "labels": {"mapped": 200 - unmapped, "unmapped": unmapped},
    "across_splits": across,
    "checksums": checksums,
  }


def result(name, now, limit, baseline=None):
  checks = check(now, dataclasses.replace(ChecksConfig(), **{name: Check(limit, "error")}), baseline)
  (found,) = [one for one in checks if one["name"] == name]
  return found


@pytest.mark.parametrize(
  ("name", "limit", "good", "bad", "message"),
  [
    ("official_counts", 1, {"train": split(100, 101)}, {"train": split(100, 102)}, "train: 100 of 102 examples"),
    ("missing", 0.02, {"train": split(missing=2)}, {"train": split(missing=3)}, "train: 3 of 100 examples"),
    ("unreadable", 0.02, {"train": split(corrupt=2)}, {"train": split(corrupt=2, outside=1)}, "train: 3 of 100"),
    ("short", 0.02, {"validation": split(short=2)}, {"validation": split(short=3)}, "validation: 3 of 100"),
    ("black", 0.02, {"train": split(black=2)}, {"train": split(black=3)}, "train: 3 of 100"),
    ("frozen", 0.02, {"train": split(frozen=2)}, {"train": split(frozen=3)}, "train: 3 of 100"),
    ("small", 0.02, {"train": split(small=2)}, {"train": split(small=3)}, "train: 3 of 100"),
    ("miscounted", 0.02, {"train": split(miscounted=2)}, {"train": split(miscounted=3)}, "train: 3 of 100"),
    ("duplicates", 1, {"train": split(duplicate=1)}, {"train": split(duplicate=2)}, "train: 2 examples are copies"),
    ("across_splits", 1, {"across": 1}, {"across": 2}, "2 files stand in more than one split"),
    ("unmapped", 1, {"unmapped": 1}, {"unmapped": 2}, "2 of 200 examples have no answer"),
    (
      "fewest_examples",
      5,
      {"train": split(classes=(95, 5))},
      {"train": split(classes=(96, 4))},
      "4 examples of",
    ),
    ("changed", 0, {}, {"changed": 1}, "1 of 200 videos are not what they were at the last run"),
    ("wrong_checksums", 0, {"given": 0}, {"given": 1}, "1 of 10 files differ from the given checksums"),
  ],
)
def test_a_check_passes_up_to_its_limit(name, limit, good, bad, message):
  passed, failed = result(name, quality(**good), limit), result(name, quality(**bad), limit)
  assert passed["passed"] and not failed["passed"], (passed, failed)
  assert message in failed["message"] and failed["severity"] == "error" and failed["limit"] == limit


BEFORE = quality(split(medians=(("brightness", 100.0),)), split())
BEFORE["splits"]["train"]["flags"] = {"black": 1}


@pytest.mark.parametrize(
  ("name", "limit", "good", "bad", "message"),
  [
    ("drift_examples", 0.01, split(99), split(98), "train: 98 examples, 100 before"),
    ("drift_flags", 0.02, split(black=3), split(black=4), "train: 4.00% black, 1.00% before"),
    ("drift_flags", 0.02, split(corrupt=2), split(corrupt=3), "train: 3.00% corrupt, 0.00% before"),
    (
      "drift_statistics",
      0.2,
      split(medians=(("brightness", 80.0),)),
      split(medians=(("brightness", 79.0),)),
      "train: median brightness 79, 100 before",
    ),
    ("drift_classes", 0.1, split(classes=(60, 40)), split(classes=(62, 38)), "train: 12.0% of the examples moved"),
  ],
)
def test_a_drop_beyond_the_threshold_is_told(name, limit, good, bad, message):
  passed, failed = (result(name, quality(one), limit, BEFORE) for one in (good, bad))
  assert passed["passed"] and not failed["passed"], (passed, failed)
  assert message in failed["message"]


def test_a_split_that_is_gone_has_lost_everything():
  now = quality()
  del now["splits"]["validation"]
  found = result("drift_examples", now, 0.01, BEFORE)
  assert (found["value"], found["message"]) == (1.0, "validation: the split is gone")


def test_nothing_drifts_from_itself_and_growing_is_no_loss():
  drifts = [one for one in check(BEFORE, ChecksConfig(), BEFORE) if one["name"].startswith("drift")]
  assert len(drifts) == 4 and all(one["passed"] and one["value"] == 0 for one in drifts)
  assert result("drift_examples", quality(split(200)), 0.01, BEFORE)["passed"]


def test_classes_are_compared_by_name():
  now = copy.deepcopy(BEFORE)
  now["classes"]["action"] = ["down", "up"]
  now["splits"]["train"]["classes"]["action"] = [30, 70]
  before = copy.deepcopy(BEFORE)
  before["splits"]["train"]["classes"]["action"] = [70, 30]
  assert result("drift_classes", now, 0.0, before)["value"] == 0


def test_what_is_off_or_unknown_is_not_looked_at():
  names = {one["name"] for one in check(quality(), ChecksConfig())}
  assert "official_counts" not in names and "wrong_checksums" not in names and "drift_flags" not in names
  off = dataclasses.replace(ChecksConfig(), missing=Check(0, "off"))
  assert "missing" in names and "missing" not in {one["name"] for one in check(quality(), off)}


def test_thresholds_are_checked():
  with pytest.raises(ConfigError, match=r"config.missing: limit = -1.0: it must be at least 0"):
    parse(ChecksConfig, {"missing": {"limit": -1, "severity": "error"}})
  with pytest.raises(ConfigError, match=r"config.missing.severity = 'fatal' is not one of 'error', 'warning', 'off'"):
    parse(ChecksConfig, {"missing": {"limit": 1, "severity": "fatal"}})
