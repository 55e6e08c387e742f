"""The content of a quality.json, made up so that its page can be checked by hand."""

from gasmcast.reports.data_quality import write
from tests.reports.test_html import Page


def measure(counts, edges=None):
  edges = list(range(len(counts) + 1)) if edges is None else edges
  summary = {"min": 0, "p5": 0.5, "median": 1.5, "mean": 1.25, "p95": 2.5, "max": 3}
  return summary | {"histogram": {"edges": edges, "counts": counts}}


def split(**changes):
  content = {
    "examples": 5,
    "official": 6,
    "videos": 5,
    "readable": 4,
    "flags": {"corrupt": 1, "short": 0},
    "bytes": 12_345,
    "seconds": 90.0,
    "statistics": {"frames": measure([1, 2, 1])},
    "codecs": {"VP90": 4},
    "sizes": {"320x240": 3, "64x48": 1},
    "classes": {"action": [3, 1, 0]},
  }
  return content | changes


EMPTY = split(
  examples=0, official=None, videos=0, readable=0, flags={}, bytes=0, seconds=0.0, statistics={}, codecs={}, sizes={},
  classes={},
)  # fmt: skip
NAMES = ["open", "close", "fold"]


def quality(splits=None, **changes):
  splits = {"train": split()} if splits is None else splits
  content = {
    "format": 1,
    "data": {"name": "doors", "source": "/data/doors", "fingerprint": "5f" * 32},
    "splits": splits,
    "classes": {"action": NAMES},
    "labels": {"mapped": 4, "unmapped": 0},
    "duplicates": [],
    "across_splits": 0,
    "checksums": {"files": 5, "compared": 4, "changed": [], "changed_total": 0, "new": 1, "gone": 0},
    "checks": [],
    "worst": {},
    "examples": {name: [] for name in splits},
    "excluded": dict.fromkeys(splits, 0),
  }
  return content | changes


def check(passed=True, severity="error", **changes):
  return {
    "name": "readable",
    "severity": severity,
    "value": 0.8,
    "limit": 0.9,
    "passed": passed,
    "message": "-",
  } | changes


def page(folder, content, baseline=None):
  (folder / "flagged.jsonl").write_text("")
  return Page(write(folder / "report", content, folder / "flagged.jsonl", baseline))
