r"""Downloads that are one tar archive, often compressed by gzip and cut into numbered parts, each of them maybe zipped.

Something-Something-V2 comes as 20bn-something-something-v2-00.zip, -01.zip, ..., and its instructions say

  unzip 20bn-something-something-v2-\?\?.zip
  cat 20bn-something-something-v2-?? | tar -xvz

Here that is one stream: no part is ever written to the disk, and memory does not depend on what is in the archive. An
archive is somebody else's file, so only plain files with names that stay inside the target are taken from it; any other
member ends the unpacking with an error. The source is only read.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from gasmcast.core.errors import DataError, WorkdirError
from gasmcast.core.manifest import atomic_file

BLOCK = 1 << 20
MAX_MEMBER = 16 << 30  # bytes; an hour of video has a few
MAX_GROWTH = 20  # videos hardly compress: an archive that unpacks to more than this times its size is a bomb
MAX_SMALL = 256 << 20  # below so many bytes no archive is
_TEMPORARY = ".unpacking"
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{2,3})(?P<zip>\.zip)?")
TEXTS = (".json", ".csv", ".txt")
_LARGEST_TEXT = 1_000_000_000
_WHOLE = (".tar", ".tar.gz", ".tgz")
_GZIP, _RECORD = b"\x1f\x8b", 512


@dataclasses.dataclass(frozen=True)
class Part:
  """A piece of an archive: a file, or the one file inside a zip file. `size` is that of the file on the disk."""

  file: pathlib.Path
  size: int
  zipped: bool


@dataclasses.dataclass(frozen=True)
class Archive:
  """A tar archive, its parts in order."""

  name: str
  parts: tuple[Part, ...]

  @property
  def size(self) -> int:
    """Bytes of all parts as they lie on the disk."""
    return sum(part.size for part in self.parts)


@dataclasses.dataclass(frozen=True)
class Unpacked:
  """A file that is now there: its path below the target, its bytes, and whether it was there before."""

  name: str
  size: int
  found: bool


def find(source: str | os.PathLike) -> tuple[Archive, ...]:
  """The archives in a folder, by name. Where a part lies there both zipped and unzipped, the zipped one is taken.

  Raises:
    DataError: a part between others is missing.
  """
  parts: dict[str, dict[int, Part]] = {}
  archives = []
  for file in sorted(pathlib.Path(source).iterdir()):
    if not file.is_file():
      continue
    found = _PART.fullmatch(file.name)
    if found:
      numbered, number = parts.setdefault(found["stem"], {}), int(found["number"])
      if number not in numbered or found["zip"]:
        numbered[number] = Part(file, file.stat().st_size, bool(found["zip"]))
    elif file.name.lower().endswith(_WHOLE):
      archives.append(Archive(file.name, (Part(file, file.stat().st_size, False),)))
  for stem, numbered in parts.items():
    first = min(numbered)
    begins = _begins_archive(numbered[first])
    if begins or _is_part(numbered[first]):
      _require_all(pathlib.Path(source) / stem, numbered, first if begins else 0)
      archives.append(Archive(stem, tuple(numbered[number] for number in sorted(numbered))))
  return tuple(sorted(archives, key=lambda archive: archive.name))


def unpack_annotations(source: str | os.PathLike, target: str | os.PathLike) -> pathlib.Path | None:
  """Files of text from the zip file in `source` that holds labels.json, into `target`; that zip file, None without one.

  Raises:
    DataError: it is damaged or encrypted, or a file in it is larger than 1 GB.
  """
  for file in sorted(pathlib.Path(source).glob("*.zip")):
    with _reading_zip(file), zipfile.ZipFile(file) as zipped:
      members = {info.filename.rpartition("/")[2]: info for info in _zip_members(zipped)}
      if not any(name.endswith("labels.json") for name in members):
        continue
      for name, info in members.items():
        if name.endswith(TEXTS):
          with _opened(file, zipped, info) as stream:
            content = stream.read(_LARGEST_TEXT + 1)
          if len(content) > _LARGEST_TEXT:
            raise DataError(f"{file}: {name!r} has more than {_LARGEST_TEXT:,} bytes; these are no annotations.")
          put(pathlib.Path(target) / name, content)
      return file
  return None


def put(file: pathlib.Path, content: bytes) -> None:
  """Writes a file unless it holds this already."""
  if not file.is_file() or file.stat().st_size != len(content) or file.read_bytes() != content:
    with atomic_file(file) as stream:
      stream.write(content)


def _begins_archive(part: Part) -> bool:
  """By its first bytes: other files may end in a number too."""
  try:
    begin = next(_part_blocks(part), b"")
  except DataError:
    return False
  return begin.startswith(_GZIP) or begin[257:262] == b"ustar"


def _is_part(part: Part) -> bool:
  """A zip file that is damaged, or that holds one file named as it is itself."""
  if not part.zipped:
    return False
  try:
    with zipfile.ZipFile(part.file) as zipped:
      return [info.filename.rpartition("/")[2] for info in _zip_members(zipped)] == [part.file.stem]
  except zipfile.BadZipFile:
    return True


def _require_all(stem: pathlib.Path, numbered: dict[int, Part], first: int) -> None:
  for number in range(first, max(numbered)):
    if number not in numbered:
      raise DataError(f"{stem}-{number:02d} is missing beside part {max(numbered):02d}; download it.")


def unpack(
  archive: Archive, target: str | os.PathLike, say: Callable[[int], None] = lambda read: None
) -> Iterator[Unpacked]:
  """Unpacks into `target` file by file. A file that is there with the same content stays as it is, with its time.

  A file appears whole or not at all. All that a killed process leaves behind is one temporary file, which the next one
  removes; `target` is for one process at a time. Times are those in the archive.

  Args:
    archive: what is read.
    target: is made where it does not exist.
    say: is told how many bytes of the parts are read.

  Raises:
    DataError: a part is damaged, the archive is cut off, or a member is not a plain file with a safe name.
    WorkdirError: the disk is too small.
  """
  target = pathlib.Path(target)
  temporary = target / _TEMPORARY
  shutil.rmtree(temporary, ignore_errors=True)
  temporary.mkdir(parents=True)
  try:
    allowed = max(MAX_SMALL, MAX_GROWTH * archive.size)
    for member, stream in _members(archive, say):
      name = _name(archive, member)
      if name is None:
        continue
      allowed -= member.size
      if member.size > MAX_MEMBER or allowed < 0:
        raise DataError(
          f"{archive.name}: with {name!r} ({member.size:,} bytes) it grows beyond {MAX_GROWTH} times its size "
          f"({archive.size:,} bytes) or a file beyond {MAX_MEMBER:,}; these are no videos."
        )
      try:
        found = _write(stream, target / name, member, temporary / uuid.uuid4().hex)
      except tarfile.TarError as error:
        raise DataError(f"{archive.name} is cut off in {name!r}: {error}; download it again.") from error
      except OSError as error:
        free = shutil.disk_usage(target).free
        raise WorkdirError(
          f"{target / name} can't be written ({error.strerror}): {member.size:,} bytes needed, {free:,} free; make "
          "room or choose another folder to unpack into."
        ) from error
      yield Unpacked(name, member.size, found)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _name(archive: Archive, member: tarfile.TarInfo) -> str | None:
  """The path below the target; None for what is no file or is hidden (as systems add them on their own)."""
  name = member.name.removeprefix("./")
  parts = name.split("/")
  harmless = name.isprintable() and "\\" not in name and not set(parts) & {"", ".."} and len(name.encode()) < 1024
  plain = member.isdir() or (member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse())
  if not harmless and not (member.isdir() and name in ("", ".")):
    raise DataError(f"{archive.name} holds {member.name[:200]!r}, a name that leads elsewhere; don't use this archive.")
  if not plain:
    raise DataError(
      f"{archive.name}: {name!r} is a link, a device or a sparse file (type {member.type!r}); an archive of videos "
      "holds plain files: don't use this one."
    )
  return None if member.isdir() or any(part.startswith(".") for part in parts) else name


def _write(stream: BinaryIO, path: pathlib.Path, member: tarfile.TarInfo, temporary: pathlib.Path) -> bool:
  """Writes the content of a member, unless the file holds it already (True)."""
  same, block = _compare(stream, path, member.size)
  if same == member.size and path.exists():
    return True
  with open(temporary, "wb") as file:
    if same:
      with open(path, "rb") as old:
        shutil.copyfileobj(_Head(old, same), file, BLOCK)
    file.write(block)
    shutil.copyfileobj(stream, file, BLOCK)
  seconds = min(max(int(member.mtime), 0), 1 << 32)
  os.utime(temporary, (seconds, seconds))
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary.replace(path)
  return False


def _compare(stream: BinaryIO, path: pathlib.Path, size: int) -> tuple[int, bytes]:
  """(bytes at the beginning in which file and stream agree, what was read of the stream beyond them)."""
  if not path.is_file() or path.stat().st_size != size:
    return 0, b""
  same = 0
  with open(path, "rb") as file:
    while block := stream.read(BLOCK):
      if file.read(len(block)) != block:
        return same, block
      same += len(block)
  return same, b""


class _Head:
  """The first `left` bytes of a file."""

  def __init__(self, file: BinaryIO, left: int):
    self._file, self._left = file, left

  def read(self, size: int) -> bytes:
    block = self._file.read(min(size, self._left))
    self._left -= len(block)
    return block


def _members(archive: Archive, say: Callable[[int], None]) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
  """Each member with its content, which has to be read before the next one is asked for."""
  stream = _Forward(archive.name, _inflated(archive, say))
  try:
    with tarfile.open(fileobj=stream, mode="r:") as tar:  # no compression: it has been undone
      while (member := tar.next()) is not None:
        tar.members.clear()  # tarfile remembers every member
        yield member, tar.extractfile(member) if member.isreg() else None
  except (tarfile.TarError, ValueError, OverflowError) as error:
    raise DataError(f"{archive.name} is no tar archive that can be read to its end: {error}.") from error
  if stream.last != bytes(_RECORD):  # tarfile takes a damaged member for the end
    raise DataError(f"{archive.name} is damaged: after {stream.tell():,} bytes there is no member; download it again.")
  while stream.read(BLOCK):  # gzip's own checksum stands at the end
    pass


class _Forward:
  """A stream of blocks as a file that can only be read onwards, for tarfile."""

  def __init__(self, name: str, blocks: Iterator[bytes]):
    self._name, self._blocks = name, blocks
    self._rest, self._position = memoryview(b""), 0
    self.last = b""

  def tell(self) -> int:
    return self._position

  def seek(self, position: int, whence: int = 0) -> int:
    if whence or position < self._position:
      raise DataError(f"{self._name} is damaged: it refers back to byte {position:,}; download it again.")
    while self._position < position and self.read(min(BLOCK, position - self._position)):
      pass
    return self._position

  def read(self, size: int = -1) -> bytes:
    if not 0 <= size <= BLOCK:  # tarfile reads headers of any size into memory
      raise DataError(f"{self._name} is damaged: a header of {size:,} bytes; download it again.")
    pieces, needed = [], size
    while needed:
      if not self._rest:
        self._rest = memoryview(next(self._blocks, b""))
        if not self._rest:
          break
      pieces.append(self._rest[:needed])
      self._rest = self._rest[needed:]
      needed -= len(pieces[-1])
    block = b"".join(pieces)
    self._position += len(block)
    if size == _RECORD:
      self.last = block
    return block


def _inflated(archive: Archive, say: Callable[[int], None]) -> Iterator[bytes]:
  """Blocks of the tar archive, none of them empty."""
  blocks = _blocks(archive, say)
  begin = next(blocks, b"")
  if not begin:
    raise DataError(f"{archive.name} is empty; download it again.")
  if not begin.startswith(_GZIP):
    yield begin
    yield from blocks
    return
  inflate = zlib.decompressobj(31)
  try:
    rest = begin
    while rest or (rest := next(blocks, b"")):
      if inflate.eof:  # one gzip file may follow another, and zeros may follow the last
        rest = rest.lstrip(b"\0")
        if not rest:
          continue
        inflate = zlib.decompressobj(31)
      block = inflate.decompress(rest, BLOCK)
      rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
      if block:
        yield block
    if block := inflate.flush():
      yield block
  except zlib.error as error:
    raise DataError(f"{archive.name} is damaged: gzip says {error}; download its parts again.") from error
  if not inflate.eof:
    last = archive.parts[-1].file
    raise DataError(f"{archive.name} ends too early: {last.name} is cut off, or parts after it are missing.")


def _blocks(archive: Archive, say: Callable[[int], None]) -> Iterator[bytes]:
  """The parts one after the other."""
  before = 0
  for part in archive.parts:
    read = 0
    for block in _part_blocks(part):
      read += len(block)
      say(before + min(read, part.size))
      yield block
    before += part.size
    say(before)


def _part_blocks(part: Part) -> Iterator[bytes]:
  with _reading_zip(part.file):
    if not part.zipped:
      with open(part.file, "rb") as file:
        yield from iter(lambda: file.read(BLOCK), b"")
      return
    with zipfile.ZipFile(part.file) as zipped:
      members = _zip_members(zipped)
      if len(members) != 1:
        raise DataError(f"{part.file} holds {len(members)} files; one part of an archive is expected in it.")
      with _opened(part.file, zipped, members[0]) as file:
        yield from iter(lambda: file.read(BLOCK), b"")


@contextlib.contextmanager
def _reading_zip(file: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
    raise DataError(f"{file} is damaged: {error}; download it again.") from error
  except OSError as error:
    raise DataError(f"{file} can't be read: {error.strerror or error}.") from error


def _zip_members(zipped: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
  """The files in it, without those that systems add on their own."""
  litter = lambda name: name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")
  return [info for info in zipped.infolist() if not info.is_dir() and not litter(info.filename)]


@contextlib.contextmanager
def _opened(file: pathlib.Path, zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[BinaryIO]:
  if info.flag_bits & 1:
    raise DataError(f"{file}: {info.filename!r} is encrypted; unpack it with its password first.")
  with zipped.open(info) as stream:
    yield stream
