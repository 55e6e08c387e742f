"""From a download as it lies to a folder that a reader understands. The source is only read.

A download may be archives (they are unpacked elsewhere, by one of the processes that prepare together), a folder with
videos and annotations (used where it lies), or videos here and annotations there (a folder of links shows both).
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence

from gasmcast.core.checksums import ChecksumList, digests
from gasmcast.core.config import require
from gasmcast.core.errors import DataError, WorkdirError
from gasmcast.core.manifest import hash_json
from gasmcast.core.shards import Work
from gasmcast.datasets import archives
from gasmcast.datasets.folder import VIDEO_SUFFIXES

_LARGEST_COPY = 1_000_000_000  # bytes of an annotation file
_NOT_LINKED = ("labels",)  # annotations are copied to a folder of this name, which must not be the source's
_SPARE = 1.02  # a disk's blocks are larger than files


@dataclasses.dataclass(frozen=True)
class Places:
  """Where everything lies. Absolute paths.

  Attributes:
    source: the download.
    annotations: the folder with the annotations.
    videos: where archives are unpacked.
    workdir: of the run.
  """

  source: pathlib.Path
  annotations: pathlib.Path
  videos: pathlib.Path
  workdir: pathlib.Path

  def check(self) -> None:
    """Refuses a source that isn't there, and to write into it.

    Raises:
      ConfigError: a folder to write into lies in the source, or the source in it.
      DataError: the source or the annotations are absent.
    """
    for name, folder in (("source", self.source), ("annotations", self.annotations)):
      if not folder.is_dir():
        raise DataError(f"config.prepare.{name} = {str(folder)!r} is not a folder; give the one of the download.")
    source = self.source.resolve()
    for name, folder in (("--workdir", self.workdir), ("config.prepare.videos", self.videos)):
      require(
        not folder.resolve().is_relative_to(source),
        f"{name} = {str(folder)!r} lies in config.prepare.source = {str(self.source)!r}, which is only read; choose "
        "another one.",
      )
    require(
      not source.is_relative_to(self.videos.resolve()),
      f"config.prepare.source = {str(self.source)!r} lies in config.prepare.videos = {str(self.videos)!r}: unpacking "
      "could overwrite it; choose another one.",
    )


def make_root(
  places: Places, checksums: ChecksumList, print_line: Callable[[str], None], say: Callable[[int, int], None]
) -> pathlib.Path:
  """The folder for the reader, unpacked or linked if necessary.

  Args:
    places: checked.
    checksums: given ones; an archive that differs from them is refused.
    print_line: is told what was done.
    say: is told bytes read and bytes to read.

  Raises:
    DataError: an archive is damaged, incomplete, hostile or differs from the given checksum.
    WorkdirError: there is no room for it.
  """
  found = archives.find(places.source)
  if found:
    works = [_work(places, archive, checksums) for archive in found]
    if any(work.missing() for work in works):
      _require_space(places.videos, found)
    for archive, work in zip(found, works, strict=True):
      _unpack_once(places, archive, work, checksums, print_line, say)
    _copy_annotations(places, places.videos)
    return places.videos
  if places.annotations != places.source:
    return _link(places)
  print_line(f"Source: {places.source} (nothing to unpack)")
  return places.source


def _work(places: Places, archive: archives.Archive, checksums: ChecksumList) -> Work:
  """Unpacking this archive, as work of one shard."""
  identity = {
    "archive": archive.name,
    "parts": [[part.file.name, part.size, part.file.stat().st_mtime_ns] for part in archive.parts],
    "target": str(places.videos),
    "checksums": [str(checksums.find(part.file)) for part in archive.parts],
  }
  return Work.open(places.workdir / "unpacking" / hash_json(identity)[:16], 1, 1, identity, suffix=".jsonl")


def _unpack_once(
  places: Places,
  archive: archives.Archive,
  work: Work,
  checksums: ChecksumList,
  print_line: Callable[[str], None],
  say: Callable[[int, int], None],
) -> None:
  """Who finds the work claimed waits, who finds it finished goes on."""
  if work.missing():
    print_line(f"Unpacking {archive.name}: {len(archive.parts)} parts, {archive.size:,} bytes, into {places.videos}")
  for claim in work.claims():
    with claim:
      verified = _verify(archive, checksums)
      files, found = 0, 0
      with open(claim.path, "wb") as log:
        for unpacked in archives.unpack(archive, places.videos, lambda read: say(read, archive.size)):
          log.write(json.dumps({"name": unpacked.name, "size": unpacked.size}).encode("ascii") + b"\n")
          files, found = files + 1, found + unpacked.found
      if hasattr(os, "sync"):
        os.sync()  # the receipt must not reach the disk before the files
      claim.finish({"files": files, "verified": verified})
      print_line(f"Unpacked {files:,} files, of which {found:,} were there; given checksums of parts: {verified} right")
      break
  files = next(iter(work.receipts().values())).result["files"]
  print_line(f"Archive: {archive.name}, {files:,} files in {places.videos}")


def _verify(archive: archives.Archive, checksums: ChecksumList) -> int:
  """How many parts have the given checksum; a wrong one is refused."""
  verified = 0
  for part in archive.parts:
    given = checksums.find(part.file)
    if given is None:
      continue
    checksum = given[1]
    digest = digests(part.file, (checksum.algorithm,))[checksum.algorithm]
    if digest != checksum.digest:
      raise DataError(
        f"{part.file} has the {checksum.algorithm} {digest}, the given list says {checksum.digest}; download it again."
      )
    verified += 1
  return verified


def _require_space(target: pathlib.Path, found: Sequence[archives.Archive]) -> None:
  """Videos hardly compress: all archives together need what they have, less what is there of them."""
  target.mkdir(parents=True, exist_ok=True)
  there = sum(_sizes(target))
  needed, free = int(_SPARE * sum(archive.size for archive in found)) - there, shutil.disk_usage(target).free
  if needed > free:
    raise WorkdirError(
      f"{target}: unpacking {', '.join(archive.name for archive in found)} needs about {needed:,} bytes, {free:,} are "
      "free; make room or set config.prepare.videos to a folder on a larger disk."
    )


def _sizes(folder: pathlib.Path) -> Iterator[int]:
  with os.scandir(folder) as entries:
    for entry in entries:
      if entry.is_dir(follow_symlinks=False):
        yield from _sizes(pathlib.Path(entry.path))
      elif entry.is_file(follow_symlinks=False):
        yield entry.stat().st_size


def _copy_annotations(places: Places, target: pathlib.Path) -> None:
  """Text files beside the archives, in labels/ or in the zip file of labels."""
  copied = 0
  for folder in ("", "labels"):
    if not (places.annotations / folder).is_dir():
      continue
    for file in sorted((places.annotations / folder).iterdir()):
      if file.is_file() and file.suffix in archives.TEXTS and file.stat().st_size <= _LARGEST_COPY:
        archives.put(target / folder / file.name, file.read_bytes())
        copied += file.name.endswith("labels.json")
  if not copied:
    archives.unpack_annotations(places.annotations, target / "labels")


def _remove_texts(root: pathlib.Path) -> None:
  for folder in (root, root / "labels"):
    for file in folder.iterdir() if folder.is_dir() else ():
      if file.suffix in archives.TEXTS and file.is_file():
        file.unlink()


def _link(places: Places) -> pathlib.Path:
  """<workdir>/dataset: links to the folders of the source beside copies of annotations; videos that lie in the source
  itself are seen as `videos`.
  """
  root = places.workdir / "dataset"
  root.mkdir(parents=True, exist_ok=True)
  _remove_texts(root)  # of an earlier run: what has gone from the annotations must not count
  entries = sorted(places.source.iterdir())
  folders = {entry.name: entry for entry in entries if entry.is_dir() and entry.name not in _NOT_LINKED}
  if any(entry.suffix.lower() in VIDEO_SUFFIXES and entry.is_file() for entry in entries) or not folders:
    folders.setdefault("videos", places.source)
  for name, folder in folders.items():
    link = root / name
    if link.is_symlink() and link.readlink() != folder:
      link.unlink()
    with contextlib.suppress(FileExistsError):
      link.symlink_to(folder, target_is_directory=True)
  _copy_annotations(places, root)
  return root
