"""What the quality of a data set must be: thresholds that turn numbers of quality.json into warnings and errors."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from gasmcast.core.config import require

_MEDIANS = ("frames", "rate", "seconds", "brightness", "contrast", "sharpness", "motion")


@dataclasses.dataclass(frozen=True)
class Check:
  """A threshold.

  Attributes:
    limit: the check fails where the value is above it (`fewest_examples`: below it).
    severity: what a failure is; "off" does not look.
  """

  limit: float
  severity: Literal["error", "warning", "off"]

  def __post_init__(self):
    require(self.limit >= 0, f"limit = {self.limit}: it must be at least 0.")


@dataclasses.dataclass(frozen=True)
class ChecksConfig:
  """What is looked at. Shares are of the examples of a split, and the worst split counts.

  Attributes:
    official_counts: examples more or fewer than the published number, in any split.
    missing: share of examples whose video is not there.
    unreadable: share of examples whose video can't be decoded, or that begin after its end.
    short, black, frozen, small, miscounted: share of examples with this flag.
    duplicates: examples that are the same file as another one of the split.
    across_splits: files that stand in more than one split.
    unmapped: examples without an answer, in splits in which others have one.
    fewest_examples: of a class, in the first split.
    changed: videos whose content is not what it was at the last run though nobody said so.
    wrong_checksums: files that differ from the given lists of checksums.
    drift_examples: share of examples that a split has lost since the baseline.
    drift_flags: rise of the share of examples with a flag, of any flag.
    drift_statistics: relative change of the median of a statistic.
    drift_classes: share of examples that would have to change their class (total variation of the histograms).
  """

  official_counts: Check = Check(0, "error")
  missing: Check = Check(0, "error")
  unreadable: Check = Check(0.001, "error")
  short: Check = Check(0.01, "warning")
  black: Check = Check(0.01, "warning")
  frozen: Check = Check(0.01, "warning")
  small: Check = Check(0.01, "warning")
  miscounted: Check = Check(0.05, "warning")
  duplicates: Check = Check(0, "warning")
  across_splits: Check = Check(0, "warning")
  unmapped: Check = Check(0, "error")
  fewest_examples: Check = Check(1, "warning")
  changed: Check = Check(0, "error")
  wrong_checksums: Check = Check(0, "error")
  drift_examples: Check = Check(0.01, "error")
  drift_flags: Check = Check(0.01, "warning")
  drift_statistics: Check = Check(0.2, "warning")
  drift_classes: Check = Check(0.05, "warning")


@dataclasses.dataclass(frozen=True)
class Finding:
  """The worst value that a check has seen, and where, in words."""

  value: float
  message: str


def check(
  quality: Mapping[str, Any], config: ChecksConfig, baseline: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
  """The entry "checks" of quality.json, in the order of the fields of `ChecksConfig`.

  Args:
    quality: quality.json without its checks.
    config: thresholds.
    baseline: an earlier quality.json; without one nothing drifts.
  """
  found = dict(_findings(quality))
  if baseline is not None:
    found |= dict(_drifts(baseline, quality))
  checks = []
  for field in dataclasses.fields(config):
    one = getattr(config, field.name)
    finding = found.get(field.name)
    if finding is None or one.severity == "off":
      continue
    passed = finding.value >= one.limit if field.name == "fewest_examples" else finding.value <= one.limit
    checks.append(
      {
        "name": field.name,
        "severity": one.severity,
        "value": round(finding.value, 6),
        "limit": one.limit,
        "passed": bool(passed),
        "message": finding.message,
      }
    )
  return checks


def _findings(quality: Mapping[str, Any]) -> Iterator[tuple[str, Finding]]:
  splits = quality["splits"]
  counted = {name: split for name, split in splits.items() if split["official"] is not None}
  if counted:
    yield (
      "official_counts",
      _worst(
        (abs(split["examples"] - split["official"]), f"{name}: {split['examples']:,} of {split['official']:,} examples")
        for name, split in counted.items()
      ),
    )
  for name, flags in (
    ("missing", ("missing",)),
    ("unreadable", ("corrupt", "outside")),
    *((flag, (flag,)) for flag in ("short", "black", "frozen", "small", "miscounted")),
  ):
    yield name, _worst(_share(split, splits[split], flags) for split in splits)
  yield (
    "duplicates",
    _worst(
      (split["flags"].get("duplicate", 0), f"{name}: {split['flags'].get('duplicate', 0):,} examples are copies")
      for name, split in splits.items()
    ),
  )
  across = quality["across_splits"]
  yield "across_splits", Finding(across, f"{across:,} files stand in more than one split")
  labels = quality["labels"]
  total = labels["mapped"] + labels["unmapped"]
  yield "unmapped", Finding(labels["unmapped"], f"{labels['unmapped']:,} of {total:,} examples have no answer")
  if (fewest := _fewest(quality)) is not None:
    yield "fewest_examples", fewest
  changed = quality["checksums"]["changed_total"]
  compared = quality["checksums"]["compared"]
  yield "changed", Finding(changed, f"{changed:,} of {compared:,} videos are not what they were at the last run")
  if "given" in quality["checksums"]:
    given, wrong = quality["checksums"]["given"], quality["checksums"]["wrong"]
    yield "wrong_checksums", Finding(wrong, f"{wrong:,} of {given:,} files differ from the given checksums")


def _worst(findings: Iterator[tuple[float, str]]) -> Finding:
  return Finding(*max(findings, key=lambda finding: finding[0]))


def _share(name: str, split: Mapping[str, Any], flags: tuple[str, ...]) -> tuple[float, str]:
  count = sum(split["flags"].get(flag, 0) for flag in flags)
  return count / max(1, split["examples"]), f"{name}: {count:,} of {split['examples']:,} examples"


def _fewest(quality: Mapping[str, Any]) -> Finding | None:
  """Over the classes of all labels in the first split; None where it has no answers."""
  name, split = next(iter(quality["splits"].items()))
  found = [
    (int(counts[index]), f"{name}: {counts[index]:,} examples of {label} {quality['classes'][label][index]!r}")
    for label, counts in split["classes"].items()
    if sum(counts)
    for index in [int(np.argmin(counts))]
  ]
  return Finding(*min(found, key=lambda one: one[0])) if found else None


def _drifts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Finding]]:
  """How far every split that both reports have went from what it was; a split that is gone has lost everything."""
  lost, flags, medians, classes = [], [], [], []
  for name, old in before["splits"].items():
    new = after["splits"].get(name)
    if new is None:
      lost.append((1.0, f"{name}: the split is gone"))
      continue
    count, now = old["examples"], new["examples"]
    lost.append(((count - now) / max(1, count), f"{name}: {now:,} examples, {count:,} before"))
    for flag in {**old["flags"], **new["flags"]}:
      was, is_now = (one["flags"].get(flag, 0) / max(1, one["examples"]) for one in (old, new))
      flags.append((is_now - was, f"{name}: {is_now:.2%} {flag}, {was:.2%} before"))
    for statistic in _MEDIANS:
      if statistic in old["statistics"] and statistic in new["statistics"]:
        was, is_now = (one["statistics"][statistic]["median"] for one in (old, new))
        change = abs(is_now - was) / abs(was) if was else float(is_now != was)
        medians.append((change, f"{name}: median {statistic} {is_now:g}, {was:g} before"))
    for label in new["classes"]:
      distance = _total_variation(before, after, name, label)
      classes.append((distance, f"{name}: {distance:.1%} of the examples moved between the classes of {label}"))
  found = (("drift_examples", lost), ("drift_flags", flags), ("drift_statistics", medians), ("drift_classes", classes))
  for name, findings in found:
    if findings:
      yield name, _worst(iter(findings))


def _total_variation(before: Mapping[str, Any], after: Mapping[str, Any], split: str, label: str) -> float:
  """Half the sum over the classes, by name, of the differences of their shares; 0 where either has no answers."""
  shares = []
  for quality in (before, after):
    counts = quality["splits"][split]["classes"].get(label, [])
    total = sum(counts)
    if not total:
      return 0.0
    names = quality["classes"][label]
    shares.append({name: count / total for name, count in zip(names, counts, strict=True)})
  old, new = shares
  return 0.5 * sum(abs(new.get(name, 0) - old.get(name, 0)) for name in {**old, **new})
