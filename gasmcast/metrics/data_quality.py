"""The quality of a data set from what was found of each of its videos: flags, statistics, classes.

Everything is fed one video or one example at a time, and what is kept is a few dozen bytes of each: of 220,847 videos
some 30 MB. `SplitQuality.summary` gives one entry of "splits" in quality.json:

    "examples", "official" (or null), "videos" (different files), "readable" (of them), "bytes", "seconds" (of the
    examples), "flags": {flag: examples}, "statistics": {name: {"min", "p5", "median", "mean", "p95", "max",
    "histogram": {"edges", "counts"}}} over the readable videos, "codecs": {name: videos}, "sizes": {"320x240": videos},
    "classes": {label: [examples by class]}
"""

import array
import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from gasmcast.core.types import Example

STATISTICS = ("frames", "rate", "height", "width", "seconds", "brightness", "contrast", "sharpness", "motion")
# In the order of how bad they are; a clip may have several.
FLAGS = (
  *("missing", "corrupt", "outside", "changed", "checksum", "short", "black", "frozen", "small", "miscounted"),
  *("leak", "duplicate", "similar"),
)
WORST = 50  # examples of each flag in quality.json
CHOSEN = 12  # examples of each split for pictures
_BINS = 30
_MANY = 1_000  # sizes and codecs of one split: hostile headers could name one each
_DIGEST = 16  # bytes of a hash that are kept
_SIGNATURE = 24  # bytes

Record = Mapping[str, Any]


class Contents:
  """Which videos hold the same bytes, or look the same, and in which splits they stand. Videos are known by number.

  Args:
    videos: how many there are.
  """

  def __init__(self, videos: int):
    self.splits = np.zeros(videos, np.uint8)  # bit s: the video stands in split s
    self._bytes = np.zeros(videos, f"V{_DIGEST}")
    self._looks = np.zeros(videos, f"V{_SIGNATURE}")
    self._readable = np.zeros(videos, bool)
    self._telling = np.zeros(videos, bool)  # what it looks like tells it from others

  def add(self, video: int, probe: Record, flags: Sequence[str]) -> None:
    """A readable video and its flags: of black and still ones many look the same."""
    look = bytes.fromhex(probe["signature"])
    self._bytes[video] = np.void(bytes.fromhex(probe["blake3"])[:_DIGEST])
    self._looks[video] = np.void(look)
    self._readable[video], self._telling[video] = True, any(look) and not {"black", "frozen"} & set(flags)

  def compare(self) -> None:
    """After the last video: fills `same`, `alike` and `content_splits`.

    same: number of the first video with the same bytes; -1 for one that can't be read or has no equal.
    alike: number of the first video that looks the same and has other bytes; -1 if none does.
    content_splits: bits of the splits in which a video with the same bytes stands.
    """
    self.same = _first_of_group(self._bytes, self._readable)
    alike = _first_of_group(self._looks, self._readable & self._telling)
    found = np.flatnonzero(alike >= 0)
    self.alike = np.full(len(alike), -1, np.int32)
    other = found[self._bytes[found] != self._bytes[alike[found]]]
    self.alike[other] = alike[other]
    self.content_splits = self.splits.copy()
    grouped = np.flatnonzero(self.same >= 0)
    np.bitwise_or.at(self.content_splits, self.same[grouped], self.splits[grouped])
    self.content_splits[grouped] = self.content_splits[self.same[grouped]]

  def across_splits(self) -> int:
    """Different contents (or files) that stand in more than one split."""
    several = (self.content_splits & (self.content_splits - 1)).astype(bool)
    return int((several & ((self.same < 0) | (self.same == np.arange(len(self.same))))).sum())


def _first_of_group(keys: np.ndarray, counted: Bool[np.ndarray, "V"]) -> Int[np.ndarray, "V"]:
  """The lowest number with the same key, for counted entries that share theirs; -1 for the others."""
  first = np.full(len(keys), -1, np.int32)
  numbers = np.flatnonzero(counted)
  if not len(numbers):
    return first
  _, lowest, inverse, counts = np.unique(keys[numbers], return_index=True, return_inverse=True, return_counts=True)
  inverse = inverse.reshape(-1)
  first[numbers] = np.where(counts[inverse] > 1, numbers[lowest[inverse]], -1)
  return first


class SplitQuality:
  """Gathers one split.

  Args:
    name: of the split.
    number: its place among the splits; an example that is also in a later split is a leak.
    classes: label -> class names.
    contents: compared.
    expected: examples that will be added, by which those for the pictures are chosen.
  """

  def __init__(self, name: str, number: int, classes: Mapping[str, Sequence[str]], contents: Contents, expected: int):
    self.name, self.examples, self.answered = name, 0, 0
    self.flags: collections.Counter[str] = collections.Counter()
    self.worst: dict[str, list[dict[str, Any]]] = {}
    self.chosen: list[dict[str, Any]] = []
    self.duplicates: dict[int, list[str]] = {}
    self._number, self._contents, self._expected = number, contents, expected
    self._values = {statistic: array.array("d") for statistic in STATISTICS}
    self._classes = {label: np.zeros(len(names), np.int64) for label, names in classes.items()}
    self._names = classes
    self._codecs: collections.Counter[str] = collections.Counter()
    self._sizes: collections.Counter[str] = collections.Counter()
    self._seen = np.zeros(len(contents.same), bool)
    self._first: dict[int, int] = {}
    self._bytes, self._seconds, self._readable = 0, 0.0, 0

  def comparison_flags(self, example: Example, video: int, record: Record) -> dict[str, str]:
    """Flag -> why, of what only comparing with other videos and with the annotation can tell."""
    found = {}
    probe = record.get("probe")
    if probe is not None and example.start is not None and probe["seconds"] and example.start >= probe["seconds"]:
      found["outside"] = f"begins at {example.start:g} s of {probe['seconds']:g} s"
    contents, content = self._contents, int(self._contents.same[video])
    later = int(contents.content_splits[video]) >> (self._number + 1)
    if later:
      found["leak"] = "its file is also in a later split"
    if content >= 0:
      self.duplicates.setdefault(content, []).append(example.id)
      if self._first.setdefault(content, video) != video:
        found["duplicate"] = f"the same file as {self.duplicates[content][0]}"
    if contents.alike[video] >= 0:
      found["similar"] = "looks the same as another video"
    return found

  def add(self, example: Example, video: int, record: Record, flags: Mapping[str, str]) -> None:
    """An example, what was found of its video, and its flags with the reason for each."""
    place = {"split": self.name, "id": example.id, "path": example.path}
    place |= {
      key: value
      for key, value in (("start", example.start), ("stop", example.stop), ("rate", example.rate))
      if value is not None
    }
    for flag, why in flags.items():
      self.flags[flag] += 1
      if len(worst := self.worst.setdefault(flag, [])) < WORST:
        worst.append({**place, "why": why})
    for label, name in example.labels.items():
      self._classes[label][name] += 1
    self.answered += bool(example.labels or example.values)
    probe = record.get("probe")
    if probe is not None:
      self._choose(example, place, flags)
      stop = probe["seconds"] if example.stop is None else min(example.stop, probe["seconds"] or example.stop)
      self._seconds += max(0.0, stop - (example.start or 0.0))
    if not self._seen[video]:
      self._seen[video] = True
      self._add_video(record)
    self.examples += 1

  def _choose(self, example: Example, place: dict[str, Any], flags: Mapping[str, str]) -> None:
    """Unflagged examples at about equal distances."""
    if not flags and self.examples * CHOSEN >= len(self.chosen) * self._expected and len(self.chosen) < CHOSEN:
      label, number = next(iter(example.labels.items()), ("", 0))
      self.chosen.append({**place, "label": self._names[label][number] if label else ""})

  def _add_video(self, record: Record) -> None:
    self._bytes += max(0, record["size"])
    probe = record.get("probe")
    if probe is None:
      return
    self._readable += 1
    for statistic, values in self._values.items():
      if probe.get(statistic) is not None:
        values.append(probe[statistic])
    for counter, kind in ((self._codecs, probe["codec"]), (self._sizes, f"{probe['width']}x{probe['height']}")):
      counter[kind if kind in counter or len(counter) < _MANY else "other"] += 1

  def summary(self, official: int | None) -> dict[str, Any]:
    """See the module."""
    return {
      "examples": self.examples,
      "official": official,
      "videos": int(self._seen.sum()),
      "readable": self._readable,
      "flags": {flag: self.flags[flag] for flag in FLAGS if self.flags[flag]},
      "bytes": self._bytes,
      "seconds": round(self._seconds, 3),
      "statistics": {name: statistics(values) for name, values in self._values.items() if len(values)},
      "codecs": dict(self._codecs.most_common()),
      "sizes": dict(self._sizes.most_common()),
      "classes": {label: counts.tolist() for label, counts in self._classes.items()},
    }


def statistics(values: Sequence[float]) -> dict[str, Any]:
  """Quantiles, mean and histogram (30 equal bins from the smallest to the largest) of at least one number."""
  numbers = np.asarray(values, np.float64)
  low, p5, median, p95, high = np.quantile(numbers, [0, 0.05, 0.5, 0.95, 1])
  counts, edges = np.histogram(numbers, _BINS)
  told = {"min": low, "p5": p5, "median": median, "mean": numbers.mean(), "p95": p95, "max": high}
  return {
    **{name: round(float(value), 6) for name, value in told.items()},
    "histogram": {"edges": [round(float(edge), 6) for edge in edges], "counts": counts.tolist()},
  }


def in_order(flags: Mapping[str, str]) -> dict[str, str]:
  """The worst first."""
  return dict(sorted(flags.items(), key=lambda item: (FLAGS.index(item[0]) if item[0] in FLAGS else len(FLAGS), item)))
