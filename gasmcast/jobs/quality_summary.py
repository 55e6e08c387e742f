"""What is made of a finished survey: videos.jsonl, checksums.b3, flagged.jsonl, the index and quality.json.

All of it is a function of the survey, the annotations and the checksums of the run before, so several processes that
finish together write the same. Memory holds the examples, and a few dozen bytes a video.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int

from gasmcast.core import checksums
from gasmcast.core.checksums import Checksum
from gasmcast.core.errors import DataError
from gasmcast.core.manifest import atomic_file, hash_json
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets import index
from gasmcast.metrics.data_quality import Contents, SplitQuality, in_order
from gasmcast.videos import quality
from gasmcast.videos.quality import Probe, QualityConfig

FORMAT = 1
VIDEOS, CHECKSUMS, FLAGGED = "videos.jsonl", "checksums.b3", "flagged.jsonl"
_LISTED = 200  # of any list in quality.json
Record = dict[str, Any]


class Records:
  """What was found of each video, in a file of JSON lines; by number, in any order."""

  def __init__(self, file: pathlib.Path, offsets: Int[np.ndarray, "V"]):
    self._stream: BinaryIO = open(file, "rb")  # noqa: SIM115 - closed by `close`
    self._offsets = offsets

  def __len__(self) -> int:
    return len(self._offsets)

  def __getitem__(self, video: int) -> Record:
    self._stream.seek(self._offsets[video])
    return json.loads(self._stream.readline())

  def close(self) -> None:
    self._stream.close()


def flags_of(probe: Mapping[str, Any], config: QualityConfig) -> tuple[str, ...]:
  """See `videos.quality.flags`; `probe` as it stands in a record."""
  return quality.flags(Probe(**probe), config)


def gather(
  workdir: pathlib.Path, found: Iterable[Record], videos: int, splits: Sequence[Sequence[int]], config: QualityConfig
) -> tuple[Records, Contents]:
  """Writes videos.jsonl and compares the videos with each other.

  Args:
    workdir: holds the file.
    found: a record a video, in order.
    videos: how many there are.
    splits: of each split the number of each example's video.
    config: where flags begin.
  """
  contents, offsets, place = Contents(videos), np.zeros(videos, np.int64), 0
  for number, numbers in enumerate(splits):
    contents.splits[np.unique(np.asarray(numbers, np.int64))] |= 1 << number
  with atomic_file(workdir / VIDEOS) as file:
    for video, record in enumerate(found):
      if "probe" in record:
        contents.add(video, record["probe"], flags_of(record["probe"], config))
      line = json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n"
      offsets[video], place = place, place + len(line)
      file.write(line)
  contents.compare()
  return Records(workdir / VIDEOS, offsets), contents


@contextlib.contextmanager
def previous_checksums(workdir: pathlib.Path) -> Iterator[BinaryIO | None]:
  """A copy of checksums.b3 as it is now: another process may replace it before this one compares. None without one."""
  if not (workdir / CHECKSUMS).is_file():
    yield None
    return
  with tempfile.TemporaryFile() as copy, open(workdir / CHECKSUMS, "rb") as file:
    for block in iter(lambda: file.read(1 << 20), b""):
      copy.write(block)
    yield copy


@dataclasses.dataclass(frozen=True)
class Compared:
  """Checksums of videos beside those of the run before. `changed`: numbers of the videos that differ."""

  files: int
  compared: int
  changed: tuple[int, ...]
  new: int
  gone: int


def compare_checksums(
  workdir: pathlib.Path, paths: Sequence[str], records: Records, previous: BinaryIO | None, accept: bool
) -> Compared:
  """Writes checksums.b3, sorted by path, as `b3sum --check` reads it.

  A video whose content changed keeps the checksum that it had, so that it is told until it is put right or accepted.

  Args:
    workdir: holds the file.
    paths: of the videos, by number.
    records: of the videos; one that can't be read has no checksum.
    previous: of `previous_checksums`.
    accept: changed contents are from now on the right ones.
  """
  order = sorted(range(len(paths)), key=lambda video: paths[video])
  files = compared = new = gone = 0
  changed = []
  earlier = iter(_earlier(workdir, previous))
  old = next(earlier, None)
  with atomic_file(workdir / CHECKSUMS) as file:
    for video in order:
      while old is not None and old[0] < paths[video]:
        gone, old = gone + 1, next(earlier, None)
      probe = records[video].get("probe")
      if probe is None:
        continue
      digest, files = probe["blake3"], files + 1
      if old is None or old[0] != paths[video]:
        new += 1
      else:
        compared += 1
        if old[1] != digest:
          changed.append(video)
          digest = digest if accept else old[1]
        old = next(earlier, None)
      file.write(checksums.entry(paths[video], digest).encode("utf-8", "surrogateescape"))
  gone += (old is not None) + sum(1 for _ in earlier)
  return Compared(files, compared, tuple(sorted(changed)), new, gone)


def _earlier(workdir: pathlib.Path, previous: BinaryIO | None) -> Iterator[tuple[str, str]]:
  if previous is None:
    return
  previous.seek(0)
  for number, line in enumerate(previous, 1):
    found = checksums.parse_entry(line.decode("utf-8", "surrogateescape").rstrip("\n"))
    if found is None:
      raise DataError(
        f"{workdir / CHECKSUMS}, line {number} is no checksum; remove the file: nothing is compared then."
      )
    yield found


@dataclasses.dataclass(frozen=True)
class Summary:
  """What `summarize` needs beside the survey.

  Attributes:
    workdir: holds flagged.jsonl.
    index: folder of the index.
    datasets: one a split.
    numbers: of each split the number of each example's video.
    official: split -> published number of examples.
    given: path -> what its content should hash to.
    exclude: flags whose examples are left out of the index.
    config: where flags begin.
  """

  workdir: pathlib.Path
  index: pathlib.Path
  datasets: Sequence[Dataset]
  numbers: Sequence[Int[np.ndarray, "examples"]]
  official: Mapping[str, int]
  given: Mapping[str, Checksum]
  exclude: tuple[str, ...]
  config: QualityConfig


def summarize(summary: Summary, records: Records, contents: Contents, compared: Compared) -> dict[str, Any]:
  """Writes the index and flagged.jsonl; returns quality.json without "data" and "checks".

  Raises:
    DataError: `exclude` leaves nothing of a split.
  """
  splits, gathered, written, excluded = {}, [], {}, {}
  changed = set(compared.changed)
  with atomic_file(summary.workdir / FLAGGED) as flagged:
    for number, (dataset, numbers) in enumerate(zip(summary.datasets, summary.numbers, strict=True)):
      one = SplitQuality(dataset.split, number, dataset.classes, contents, len(dataset.examples))
      entries = _entries(summary, one, dataset, numbers, records, changed, flagged)
      written[dataset.split] = index.write_split(summary.index, dataset.split, dataset, entries)
      excluded[dataset.split] = one.examples - written[dataset.split].examples
      if not written[dataset.split].examples:
        raise DataError(
          f"config.prepare.exclude = {summary.exclude} leaves no example of the split {dataset.split!r} "
          f"({one.examples:,} before; {summary.workdir / FLAGGED} lists why); exclude less."
        )
      splits[dataset.split] = one.summary(summary.official.get(dataset.split))
      gathered.append(one)
  index.write_index(summary.index, summary.datasets[0], written)
  given, wrong = _given(summary.given, gathered)
  answered = [one for one in gathered if one.answered or one.name != "test"]  # test answers may be unpublished
  flags = dict.fromkeys(flag for one in gathered for flag in one.worst)
  paths = [records[video]["path"] for video in compared.changed[:_LISTED]]
  return {
    "format": FORMAT,
    "fingerprint": hash_json({name: split.fingerprint for name, split in written.items()}),
    "splits": splits,
    "classes": {label: list(names) for label, names in summary.datasets[0].classes.items()},
    "labels": {
      "mapped": sum(one.answered for one in gathered),
      "unmapped": sum(one.examples - one.answered for one in answered),
    },
    "duplicates": _duplicates(gathered),
    "across_splits": contents.across_splits(),
    "checksums": {
      "files": compared.files,
      "compared": compared.compared,
      "changed": paths,
      "changed_total": len(compared.changed),
      "new": compared.new,
      "gone": compared.gone,
      **({"given": given, "wrong": wrong} if summary.given else {}),
    },
    "worst": {flag: [place for one in gathered for place in one.worst.get(flag, ())][:50] for flag in flags},
    "examples": {one.name: one.chosen for one in gathered},
    "excluded": excluded,
  }


def _entries(
  summary: Summary,
  one: SplitQuality,
  dataset: Dataset,
  numbers: Int[np.ndarray, "examples"],
  records: Records,
  changed: set[int],
  flagged: BinaryIO,
) -> Iterator[index.Entry]:
  """Looks at every example of a split, writes the flagged ones, gives those of the index."""
  for example, video in zip(dataset.examples, numbers.tolist(), strict=True):
    record = records[video]
    flags = _own_flags(example, record, summary, video in changed) | one.comparison_flags(example, video, record)
    flags = in_order(flags)
    one.add(example, video, record, flags)
    left_out = bool(set(summary.exclude) & set(flags))
    if flags:
      line = {"split": dataset.split, "id": example.id, "path": example.path, "flags": list(flags), "why": flags}
      line |= {"excluded": True} if left_out else {}
      flagged.write((json.dumps(line, ensure_ascii=True) + "\n").encode("ascii"))
    if not left_out:
      example = dataclasses.replace(example, path=record["path"])  # absolute
      yield index.Entry(example, record.get("probe", {}), tuple(flags))


def _own_flags(example: Example, record: Record, summary: Summary, changed: bool) -> dict[str, str]:
  """Flag -> why, of what the video itself tells."""
  if "probe" not in record:
    reason = record.get("failed")
    return {"missing": f"{record['path']} does not exist"} if reason is None else {"corrupt": reason}
  probe = record["probe"]
  found = {flag: _why(flag, probe) for flag in flags_of(probe, summary.config)}
  if changed:
    found["changed"] = "its content is not what it was at the run before"
  given = summary.given.get(record["path"])
  if given is not None and record.get("sums", {}).get(given.algorithm) != given.digest:
    found["checksum"] = f"its {given.algorithm} is not the given one"
  return found


def _why(flag: str, probe: Mapping[str, Any]) -> str:
  frames, promised = probe["frames"], probe["promised"]
  return {
    "short": f"{frames:,} frames, {probe['seconds']:.2f} s",
    "small": f"{probe['width']} x {probe['height']} pixels",
    "black": f"{probe['black']:.0%} of its frames are black",
    "frozen": f"{probe['frozen']:.0%} of its frames repeat the one before",
    "miscounted": f"{frames:,} frames decode, its header promises {promised}",
  }.get(flag, flag)


def _given(given: Mapping[str, Checksum], gathered: Sequence[SplitQuality]) -> tuple[int, int]:
  """Files with a given checksum, examples whose file differs from it."""
  return len(given), sum(one.flags["checksum"] for one in gathered)


def _duplicates(gathered: Sequence[SplitQuality]) -> list[list[str]]:
  """Groups of examples with the same file, each as split/id."""
  groups: dict[int, list[str]] = {}
  for one in gathered:
    for content, ids in one.duplicates.items():
      groups.setdefault(content, []).extend(f"{one.name}/{name}" for name in ids)
  return list(itertools.islice((ids for ids in groups.values() if len(ids) > 1), _LISTED))
