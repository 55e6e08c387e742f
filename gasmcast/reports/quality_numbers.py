"""What a quality.json says, drawn together: the verdict of its checks, the balance of its classes, the differences
from an earlier one.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gasmcast.metrics.data_quality import FLAGS
from gasmcast.reports.quality_figures import MEASURES

MEANINGS = {  # of flags, in words
  "missing": "the annotations name a file that is not there",
  "corrupt": "the file can't be decoded",
  "outside": "the clip begins after the end of its file",
  "changed": "the file's content is not what it was at the run before",
  "checksum": "the file's checksum is not the given one",
  "short": "too few frames or seconds",
  "black": "mostly black frames",
  "frozen": "mostly frames that repeat the one before",
  "small": "frames of too few pixels",
  "miscounted": "the header promises another number of frames than can be decoded",
  "leak": "the file also stands in a later split",
  "duplicate": "byte for byte the same file as another clip",
  "similar": "looks the same as another clip",
}
NUMBERS = ("examples", "videos", "readable", "seconds", "bytes")


@dataclasses.dataclass(frozen=True)
class Balance:
  """How the clips of one split spread over the classes of one label.

  Attributes:
    label: name of the label.
    split: name of the split.
    clips: of all classes.
    classes: how many there are.
    empty: how many have no clip.
    smallest: (class name, clips) of the smallest class that has a clip.
    median: clips of the class in the middle, empty ones included.
    largest: (class name, clips).
  """

  label: str
  split: str
  clips: int
  classes: int
  empty: int
  smallest: tuple[str, int]
  median: float
  largest: tuple[str, int]

  @property
  def ratio(self) -> float:
    """Clips of the largest class for each clip of the smallest that has any."""
    return self.largest[1] / self.smallest[1]


@dataclasses.dataclass(frozen=True)
class Change:
  """One number of this report beside the same number of an earlier one; None where a report has no such number."""

  split: str
  name: str
  unit: str
  before: float | None
  after: float | None

  @property
  def difference(self) -> float | None:
    return None if self.before is None or self.after is None else self.after - self.before


def verdict(checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """{"state": the worst of "failed", "warned" and "passed", or "unchecked" where there is no check, "words", "checks":
  all of them with their own "state", failed ones first}.
  """
  state = lambda check: "passed" if check["passed"] else {"error": "failed", "warning": "warned"}[check["severity"]]
  states = {"failed": "failed", "warned": "gave a warning", "passed": "passed"}
  ranked = sorted(({**check, "state": state(check)} for check in checks), key=lambda one: [*states].index(one["state"]))
  if not ranked:
    return {"state": "unchecked", "words": "Nothing was checked.", "checks": []}
  worst = ranked[0]["state"]
  if worst == "passed":
    return {"state": worst, "words": f"All checks passed, {len(ranked)} of {len(ranked)}.", "checks": ranked}
  tally = {words: sum(one["state"] == name for one in ranked) for name, words in states.items()}
  parts = [f"{count} {words}" for words, count in tally.items() if count]
  return {"state": worst, "words": f"Of {len(ranked)} checks {', '.join(parts)}.", "checks": ranked}


def class_tables(quality: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
  """label -> split -> clips of each class, without splits and labels that have none."""
  tables = {}
  for label in quality["classes"]:
    counts = {split: content["classes"].get(label, []) for split, content in quality["splits"].items()}
    if found := {split: clips for split, clips in counts.items() if sum(clips)}:
      tables[label] = found
  return tables


def balance(names: Sequence[str], label: str, split: str, counts: Sequence[int]) -> Balance:
  """See `Balance`. At least one class must have a clip."""
  filled = [index for index, count in enumerate(counts) if count]
  smallest, largest = min(filled, key=counts.__getitem__), max(filled, key=counts.__getitem__)
  return Balance(
    label=label,
    split=split,
    clips=sum(counts),
    classes=len(counts),
    empty=len(counts) - len(filled),
    smallest=(names[smallest], counts[smallest]),
    median=float(np.median(counts)),
    largest=(names[largest], counts[largest]),
  )


def flag_order(flag: str) -> tuple[int, str]:
  """Key that sorts flags by how bad they are, unknown ones last."""
  return (FLAGS.index(flag) if flag in FLAGS else len(FLAGS), flag)


def measured(split: Mapping[str, Any]) -> dict[str, Any]:
  """The statistics of a split that rest on at least one clip."""
  return {key: one for key, one in split["statistics"].items() if one and sum(one["histogram"]["counts"])}


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
  """Counts, flags and medians of every split of either report, those of `after` first."""
  changes = []
  for split in dict.fromkeys((*after["splits"], *before["splits"])):
    old, new = before["splits"].get(split, {}), after["splits"].get(split, {})
    changes += [Change(split, key, "", old.get(key), new.get(key)) for key in NUMBERS]
    # A flag that a split doesn't name stood at no clip; a split that isn't there has no number.
    old_flags, new_flags = old.get("flags", {}), new.get("flags", {})
    for flag in sorted({*old_flags, *new_flags}, key=flag_order):
      pair = (old_flags.get(flag, 0) if old else None), (new_flags.get(flag, 0) if new else None)
      changes.append(Change(split, f"flagged {flag}", "", *pair))
    statistics = [measured(one) if one else {} for one in (old, new)]
    for key, (title, unit) in MEASURES.items():
      pair = [one[key]["median"] if key in one else None for one in statistics]
      if pair != [None, None]:
        changes.append(Change(split, f"median {title.lower()}", unit, *pair))
  return changes


def class_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Labels whose class names are others than before: {"label", "gone", "new"}."""
  changes = []
  for label in dict.fromkeys((*after["classes"], *before["classes"])):
    old, new = before["classes"].get(label, []), after["classes"].get(label, [])
    if old != new:
      changes.append({"label": label, "gone": sorted({*old} - {*new}), "new": sorted({*new} - {*old})})
  return changes
