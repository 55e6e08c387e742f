"""Every video of a data set looked at once, by any number of processes on any number of machines.

The folder of a survey holds one round a state of the files: a round is work in shards (`core.shards`) on the list of
paths, sizes and times, so a killed one goes on where it was, and a file that was changed begins another round, in which
only the changed files are looked at. A shard is a file of JSON lines, one a video in order:

    {"path", "rate", "size", "time", "probe": {...}}     what `quality.probe` tells; "time" is of the last change, in ns
    {"path", "rate", "size", "time", "failed": reason}   it can't be read
    {"path", "rate", "size": -1, "time": 0}              there is no such file

and "sums": {algorithm: digits} where checksums of the video are to be compared.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import blake3
import numpy as np
from jaxtyping import Int

from gasmcast.core.checksums import digests
from gasmcast.core.errors import DataError
from gasmcast.core.isolation import Isolated, Limits, Returned
from gasmcast.core.manifest import hash_bytes, hash_json
from gasmcast.core.shards import Claim, Work, is_worked_on
from gasmcast.videos import quality

_THREADS = 16  # that ask a disk for sizes: a network disk answers several at once
_VERSION = 1  # of what a record holds
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Video:
  """A video file, or a folder of frames with their rate."""

  path: str
  rate: float | None = None


@dataclasses.dataclass(frozen=True)
class Task:
  """What a worker is to do with a video.

  Attributes:
    video: to look at.
    algorithms: checksums wanted beside BLAKE3.
    known: an earlier record; if the file's BLAKE3 is as it says, the video isn't decoded again.
  """

  video: Video
  algorithms: tuple[str, ...] = ()
  known: Record | None = None


def sizes_and_times(videos: Sequence[Video]) -> Int[np.ndarray, "videos 2"]:
  """Bytes and time of the last change (ns) of every file; (-1, 0) for one that is not there."""
  with ThreadPoolExecutor(_THREADS) as threads:
    found = threads.map(_size_and_time, (video.path for video in videos), chunksize=256)
    return np.fromiter((number for pair in found for number in pair), np.int64, 2 * len(videos)).reshape(-1, 2)


def _size_and_time(path: str) -> tuple[int, int]:
  try:
    status = os.stat(path)  # noqa: PTH116 - a pathlib object for each of 220,847 paths takes longer than asking the disk
  except (FileNotFoundError, NotADirectoryError):
    return -1, 0
  except (OSError, ValueError):  # it is there and can't be looked at: reading it will say why
    return 0, 0
  return status.st_size, status.st_mtime_ns


def open_round(
  folder: str | os.PathLike,
  videos: Sequence[Video],
  state: Int[np.ndarray, "videos 2"],
  shard: int,
  algorithms: Mapping[str, tuple[str, ...]],
  verification: int,
  limits: Limits | None = None,
) -> Work:
  """The work of looking at these files in this state; the same files in the same state are the same work.

  Args:
    folder: of all rounds.
    videos: in order.
    state: their sizes and times.
    shard: videos of a shard.
    algorithms: path -> checksums wanted beside BLAKE3, of those for which any are.
    verification: another number is another round.
    limits: as of `run_round`. Other ones are another round, in which videos that failed within these are read again.
  """
  digest = blake3.blake3()
  for video, (size, time) in zip(videos, state.tolist(), strict=True):
    digest.update(json.dumps([video.path, video.rate, size, time]).encode("ascii"))
  identity = {
    "version": _VERSION,
    "files": digest.hexdigest(),
    "algorithms": hash_json(sorted(algorithms.items())),
    "verification": verification,
    "limits": dataclasses.astuple(limits or Limits()),
  }
  name = hash_bytes(json.dumps([identity, shard], sort_keys=True).encode("ascii"))[:16]
  return Work.open(pathlib.Path(folder) / name, len(videos), shard, identity, suffix=".jsonl")


def run_round(
  work: Work,
  videos: Sequence[Video],
  state: Int[np.ndarray, "videos 2"],
  algorithms: Mapping[str, tuple[str, ...]],
  workers: int,
  limits: Limits,
  verify: bool = False,
  say: Callable[[int], None] = lambda looked: None,
) -> None:
  """Works on the round until it is finished, by whoever; shards that are found damaged are made again.

  Args:
    work: of `open_round`.
    videos, state, algorithms: as there.
    workers: processes that decode.
    limits: of looking at one video.
    verify: what earlier rounds know of a file holds only if its content hashes to the same.
    say: is told how many videos of its shard this process has looked at; 0 between shards.
  """
  while work.missing():
    known = _Known(work, verify)
    with Isolated(examine, workers, limits) as pool:
      for claim in work.claims():
        with claim:
          _fill(claim, videos, state, algorithms, known, pool, say)
        say(0)
    work.verify(full=True)


def _fill(
  claim: Claim,
  videos: Sequence[Video],
  state: Int[np.ndarray, "videos 2"],
  algorithms: Mapping[str, tuple[str, ...]],
  known: "_Known",
  pool: Isolated,
  say: Callable[[int], None],
) -> None:
  first, last = claim.shard.first, claim.shard.last
  records: list[Record] = []
  tasks: dict[int, Task] = {}
  for video, (size, time) in zip(videos[first:last], state[first:last].tolist(), strict=True):
    wanted = algorithms.get(video.path, ())
    record = {"path": video.path, "rate": video.rate, "size": size, "time": time}
    earlier = known.find(video, size, time, wanted) if size >= 0 else None
    if earlier is not None and not known.verify:
      record = earlier
    elif size >= 0:
      tasks[len(records)] = Task(video, wanted, earlier)
    records.append(record)
  say(len(records) - len(tasks))
  for done, outcome in pool.map(tasks.values()):
    record = records[list(tasks)[done]]
    record.update(outcome.value if isinstance(outcome, Returned) else {"failed": outcome.reason})
    say(len(records) - len(tasks) + done + 1)
  with open(claim.path, "wb") as file:
    for record in records:
      file.write(json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n")
  claim.finish({"probed": len(tasks), "failed": sum("failed" in record for record in records)})


def records(work: Work) -> Iterator[Record]:
  """Of all videos, in order.

  Raises:
    DataError: a shard can't be read.
  """
  for shard in work.shards:
    yield from _lines(work.file(shard.number))


def _lines(file: pathlib.Path) -> Iterator[Record]:
  try:
    with open(file, "rb") as lines:
      yield from map(json.loads, lines)
  except (OSError, ValueError) as error:
    raise DataError(f"{file} can't be read ({error}); remove it, and the same command makes it again.") from error


def remove_other_rounds(work: Work) -> None:
  """What they knew is in this one. A round that somebody works on, having seen the files in another state, stays."""
  for folder in work.folder.parent.iterdir():
    if folder != work.folder and folder.is_dir() and not is_worked_on(folder, work.lease):
      shutil.rmtree(folder, ignore_errors=True)


def examine(task: Task) -> Record:
  """{"probe": ..., "sums": ... if any are wanted} of a video; called in a worker process.

  Raises:
    DataError: it can't be read.
  """
  video, sums, folder = task.video, {}, task.video.rate is not None
  if (task.algorithms or task.known) and not folder:
    try:
      sums = digests(video.path, {*task.algorithms, "blake3"})
    except OSError as error:
      raise DataError(f"{video.path} can't be read: {error.strerror}.") from error
  if task.known and not folder and task.known["probe"]["blake3"] == sums["blake3"]:
    probe = task.known["probe"]
  else:
    probe = dataclasses.asdict(quality.probe(video.path, rate=video.rate, digest=sums.get("blake3")))
  return {"probe": probe, **({"sums": {name: sums[name] for name in task.algorithms}} if task.algorithms else {})}


class _Known:
  """What other rounds have found of files that have not changed since. Keeps a few numbers a video, not the records."""

  def __init__(self, work: Work, verify: bool):
    self.verify = verify
    self._places: dict[bytes, tuple[int, int]] = {}
    self._files: list[pathlib.Path] = []
    with contextlib.suppress(OSError):  # removed meanwhile by a process that has finished this round
      others = [folder for folder in work.folder.parent.iterdir() if folder.is_dir() and folder != work.folder]
      for folder in sorted(others, key=lambda folder: folder.stat().st_mtime):
        for file in sorted(folder.glob("[0-9]*.jsonl")):
          if file.with_suffix(".json").exists():  # the receipt
            self._remember(file)

  def _remember(self, file: pathlib.Path) -> None:
    self._files.append(file)
    with open(file, "rb") as lines:
      place = 0
      for line in lines:
        path = _read(line).get("path", "")
        self._places[_key(path)] = (len(self._files) - 1, place)
        place += len(line)

  def find(self, video: Video, size: int, time: int, algorithms: Iterable[str]) -> Record | None:
    """The record of the video in this state, if it was read and its checksums are known."""
    place = self._places.get(_key(video.path))
    if place is None:
      return None
    try:
      with open(self._files[place[0]], "rb") as file:
        file.seek(place[1])
        record = _read(file.readline())
    except OSError:  # removed meanwhile
      return None
    same = (record.get("path"), record.get("rate"), record.get("size"), record.get("time")) == (
      *(video.path, video.rate),
      *(size, time),
    )
    return record if same and "probe" in record and set(algorithms) <= set(record.get("sums", {})) else None


def _key(path: str) -> bytes:
  return blake3.blake3(path.encode("utf-8", "surrogatepass")).digest(16)


def _read(line: bytes) -> Record:
  """A line of an earlier round; nothing where it is damaged, and the video is looked at again."""
  try:
    record = json.loads(line)
  except ValueError:
    return {}
  return record if isinstance(record, dict) else {}
