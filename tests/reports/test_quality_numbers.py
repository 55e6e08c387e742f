"""The numbers of the quality page by hand: the verdict, the balance of classes, what changed."""

from gasmcast.metrics.data_quality import FLAGS
from gasmcast.reports.quality_numbers import MEANINGS, Change, balance, class_changes, compare, verdict
from tests.reports.made_up_quality import NAMES, check, quality, split


def test_the_verdict_names_what_failed_first():
  checks = [check(), check(False, "warning"), check(False), check()]
  found = verdict(checks)
  assert found["state"] == "failed"
  assert found["words"] == "Of 4 checks 1 failed, 1 gave a warning, 2 passed."
  assert [one["state"] for one in found["checks"]] == ["failed", "warned", "passed", "passed"]
  assert verdict(checks[:2])["state"] == "warned"
  assert verdict(checks[:2])["words"] == "Of 2 checks 1 gave a warning, 1 passed."
  assert verdict([check()]) == {
    "state": "passed",
    "words": "All checks passed, 1 of 1.",
    "checks": [check() | {"state": "passed"}],
  }
  assert verdict([])["words"] == "Nothing was checked."


def test_balance_by_hand():
  found = balance(NAMES, "action", "train", [4, 0, 10])
  assert (found.clips, found.classes, found.empty, found.median) == (14, 3, 1, 4)
  assert (found.smallest, found.largest, found.ratio) == (("open", 4), ("fold", 10), 2.5)


def test_two_reports_are_compared_by_hand():
  before = quality({"train": split(), "gone": split()})
  after = quality({"train": split(examples=8, flags={"frozen": 2}, statistics={}), "new": split()})
  changes = {(change.split, change.name): change for change in compare(before, after)}
  assert changes["train", "examples"] == Change("train", "examples", "", 5, 8)
  assert changes["train", "examples"].difference == 3
  assert changes["train", "flagged corrupt"].difference == -1
  assert changes["train", "flagged frozen"] == Change("train", "flagged frozen", "", 0, 2)
  assert changes["train", "median frames"] == Change("train", "median frames", "frames that decode", 1.5, None)
  assert changes["new", "flagged corrupt"] == Change("new", "flagged corrupt", "", None, 1)
  assert changes["gone", "examples"].difference is None
  assert [change.split for change in compare(before, after)][-1] == "gone"


def test_classes_that_changed_are_named():
  before, after = quality(), quality(classes={"action": ["open", "push"], "noun": ["door"]})
  assert class_changes(before, after) == [
    {"label": "action", "gone": ["close", "fold"], "new": ["push"]},
    {"label": "noun", "gone": [], "new": ["door"]},
  ]
  assert class_changes(before, quality()) == []
  assert class_changes(before, quality(classes={"action": NAMES[::-1]})) == [{"label": "action", "gone": [], "new": []}]


def test_every_flag_has_a_meaning():
  assert tuple(MEANINGS) == FLAGS
