"""Lists of checksums, as md5sum, sha1sum, sha256sum and b3sum write them, and files hashed by these algorithms."""

import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import blake3

from gasmcast.core.errors import DataError

_BLOCK = 1 << 20
_MAKERS = {"md5": hashlib.md5, "sha1": hashlib.sha1, "sha256": hashlib.sha256, "blake3": blake3.blake3}
_BY_LENGTH = {32: "md5", 40: "sha1", 64: "sha256"}
_PLAIN = re.compile(r"(\\?)([0-9a-fA-F]+) [ *](.+)")
_TAGGED = re.compile(r"(\\?)(MD5|SHA1|SHA256|BLAKE3) \((.+)\) = ([0-9a-fA-F]+)")
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


@dataclasses.dataclass(frozen=True)
class Checksum:
  """What a file is said to hash to: algorithm ("md5", "sha1", "sha256", "blake3") and hexadecimal digits."""

  algorithm: str
  digest: str


class ChecksumList:
  """Names of files, in folders or not, and what each is said to hash to."""

  def __init__(self, entries: Mapping[str, Checksum]):
    self._entries = dict(entries)

  def __len__(self) -> int:
    return len(self._entries)

  def __iter__(self) -> Iterator[str]:
    return iter(self._entries)

  def find(self, path: str | os.PathLike) -> tuple[str, Checksum] | None:
    """The entry that is meant by a path, by the longest ending: "a/1.mp4" before "1.mp4" for x/a/1.mp4."""
    parts = pathlib.PurePath(path).parts
    for first in range(len(parts)):
      name = "/".join(parts[first:])
      if name in self._entries:
        return name, self._entries[name]
    return None


def read_lists(files: Iterable[str | os.PathLike]) -> ChecksumList:
  """All entries of these files. A list of 64 digits an entry is of BLAKE3 if its name holds "b3" or "blake3".

  Raises:
    DataError: a file can't be read, a line is no entry, or two entries contradict each other.
  """
  entries: dict[str, Checksum] = {}
  for file in map(pathlib.Path, files):
    for number, name, checksum in _entries(file):
      if entries.setdefault(name, checksum) != checksum and entries[name].algorithm == checksum.algorithm:
        raise DataError(f"{file}, line {number}: {name!r} has another checksum before; remove the wrong one.")
      entries[name] = checksum
  return ChecksumList(entries)


def _entries(file: pathlib.Path) -> Iterator[tuple[int, str, Checksum]]:
  try:
    text = file.read_text(encoding="utf-8-sig")
  except OSError as error:
    raise DataError(f"{file}: the list of checksums can't be read: {error.strerror}.") from error
  except UnicodeDecodeError as error:
    raise DataError(f"{file} is not UTF-8 text; give a list as md5sum, sha256sum or b3sum writes it.") from error
  is_blake3 = re.search("b3|blake3", file.name.lower()) is not None
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip() or line.startswith("#"):
      continue
    plain, tagged = _PLAIN.fullmatch(line), _TAGGED.fullmatch(line)
    if tagged:
      escaped, tag, name, digest = tagged.groups()
      algorithm = tag.lower()
    elif plain:
      escaped, digest, name = plain.groups()
      algorithm = "blake3" if is_blake3 and len(digest) == 64 else _BY_LENGTH.get(len(digest), "")
    else:
      algorithm = digest = ""
    if not algorithm or len(digest) != 2 * _MAKERS[algorithm]().digest_size:
      raise DataError(
        f"{file}, line {number}: {line[:80]!r} is no checksum; md5sum, sha1sum, sha256sum and b3sum write "
        '"<hexadecimal digits>  <file>".'
      )
    yield number, _name(name, escaped).removeprefix("./"), Checksum(algorithm, digest.lower())


def digests(path: str | os.PathLike, algorithms: Iterable[str]) -> dict[str, str]:
  """Algorithm -> hexadecimal digits of the file's content, which is read once in blocks."""
  hashes: dict[str, Any] = {name: _MAKERS[name]() for name in algorithms}
  with open(path, "rb") as file:
    while block := file.read(_BLOCK):
      for one in hashes.values():
        one.update(block)
  return {name: one.hexdigest() for name, one in hashes.items()}


def entry(name: str, digest: str) -> str:
  """A line as b3sum writes it, which `b3sum --check` reads."""
  escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
  return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def parse_entry(line: str) -> tuple[str, str] | None:
  """(name, digits) of a line that `entry` wrote, without its end; None for anything else."""
  found = _PLAIN.fullmatch(line)
  return None if found is None else (_name(found[3], found[1]), found[2].lower())


def _name(written: str, escaped: str) -> str:
  return re.sub(r"\\[\\nr]", lambda found: _ESCAPES[found[0]], written) if escaped else written
