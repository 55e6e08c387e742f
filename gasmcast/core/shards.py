"""Work on numbered shards in a folder that any number of workers share, on one machine or on many.

A folder holds work.json (what is worked on), and for shard 3

    00003.arrayrecord          what was made
    00003.json                 its receipt, written last: the shard is finished when this is there
    .00003.claim               somebody works on it, see `core.leases`
    .00003.<token>.part        what is being written; renamed when it is whole
    00003.arrayrecord.damaged  what was found to differ from its receipt

Correctness rests on two rules and on no lock: the bytes of a shard depend on the work alone, and files appear whole or
not at all. So a worker may be killed between any two system calls: what has no receipt is made again. Two workers on
one shard waste time and nothing else, the first receipt stays. Adding a worker is starting one.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

from gasmcast.core import disk, leases, receipts
from gasmcast.core.config import difference, require, to_dict
from gasmcast.core.errors import DataError, UserError, WorkdirError
from gasmcast.core.manifest import hash_file, hash_json, read_json
from gasmcast.core.receipts import Receipt

FORMAT = 1
WORK = "work.json"
_RECEIPT = re.compile(r"(\d{5,})\.json")
_CLAIM = re.compile(r"\.(\d{5,})\.claim")
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 5.0  # seconds between two looks at what others do


@dataclasses.dataclass(frozen=True)
class Shard:
  """Items [first, last) of the work."""

  number: int
  first: int
  last: int


def plan(items: int, size: int) -> tuple[Shard, ...]:
  """Shards of `size` items, the last one of what is left.

  Raises:
    ConfigError: a negative number of items, or a size below 1.
  """
  require(items >= 0, f"items = {items}: it must be at least 0.")
  require(size >= 1, f"size = {size} items of a shard: it must be at least 1.")
  return tuple(Shard(i, first, min(first + size, items)) for i, first in enumerate(range(0, items, size)))


def is_worked_on(folder: pathlib.Path, lease: float) -> bool:
  """Whether a living worker holds a shard of the work in this folder.

  Args:
    lease: seconds, see `Work.open`.

  Raises:
    OSError: the folder can't be written.
  """
  claims = [path for path in folder.iterdir() if _CLAIM.fullmatch(path.name)]
  holders = [holder for path in claims if (holder := leases.read_holder(path)) is not None]
  now = leases.server_time(folder) if holders else 0.0
  return any(not leases.stale(holder, now, lease) for holder in holders)


class Work:
  """Made by `Work.open`.

  Attributes:
    folder: holds everything.
    shards: all of them, in order.
    lease: seconds, see `open`.
    notes: what was set aside when the work was opened or verified, as sentences.
  """

  def __init__(self, folder: pathlib.Path, shards: tuple[Shard, ...], suffix: str, lease: float, name: str):
    self.folder, self.shards, self.lease = folder, shards, lease
    self.notes: tuple[str, ...] = ()
    self._suffix, self._name = suffix, name

  @classmethod
  def open(
    cls,
    folder: str | os.PathLike,
    items: int,
    size: int,
    identity: Mapping[str, Any],
    suffix: str = ".arrayrecord",
    lease: float = 60.0,
    set_aside: bool = True,
  ) -> "Work":
    """The work in this folder, begun by whoever comes first; finished shards that are damaged are set aside.

    Args:
      items: to be worked on.
      size: items of a shard.
      identity: all that the bytes depend on, as JSON can hold it.
      suffix: of the shards' files.
      lease: seconds after which a worker of another machine that shows no sign of life is given up.
      set_aside: False for those who only read: damaged shards stay where they are.

    Raises:
      ConfigError: an impossible number.
      WorkdirError: the folder holds other work, or can't be written.
    """
    folder = pathlib.Path(folder).absolute()
    shards = plan(items, size)
    require(lease > 0, f"lease = {lease} seconds: it must be more than 0.")
    require(
      re.fullmatch(r"\.\w+", suffix) is not None and suffix not in (".json", ".part", ".damaged"),
      f"suffix = {suffix!r}: it must be a dot and letters, and none of .json, .part and .damaged.",
    )
    work = to_dict({"format": FORMAT, "items": items, "size": size, "suffix": suffix, "identity": identity})
    path = folder / WORK
    with disk.explained(folder):
      folder.mkdir(parents=True, exist_ok=True)
      if not path.exists():
        disk.create(path, receipts.encode(work), path.with_name(f".{WORK}.{leases.new_token()}.part"))
    _check_same(path, work)
    opened = cls(folder, shards, suffix, lease, hash_json(work))
    if set_aside:
      opened.verify(full=False)
    return opened

  def file(self, number: int) -> pathlib.Path:
    """Where the shard's file is, or will be."""
    return self.folder / f"{number:05d}{self._suffix}"

  def receipts(self) -> dict[int, Receipt]:
    """Of the finished shards, by number, in order.

    Raises:
      WorkdirError: one is damaged.
    """
    found = {}
    for number in sorted(self._list().receipts):
      try:
        found[number] = self._receipt(number)
      except DataError as error:
        raise WorkdirError(f"{error} Run the same command again: it makes the shard again.") from error
    return found

  def missing(self) -> tuple[Shard, ...]:
    """Shards without a receipt, in order."""
    finished = self._list().receipts
    return tuple(shard for shard in self.shards if shard.number not in finished)

  def progress(self) -> tuple[int, int]:
    """Items done, items. Cheap: it lists the folder and opens no file."""
    done = sum(self.shards[number].last - self.shards[number].first for number in self._list().receipts)
    return done, self.shards[-1].last if self.shards else 0

  def verify(self, full: bool, refused: Callable[[Any], str | None] = lambda result: None) -> list[Shard]:
    """Sets aside what is not as it was written: the file gets the ending .damaged, its receipt goes.

    Args:
      full: compares every file's BLAKE3, which reads them; else its size.
      refused: says of the result in a receipt why the shard should be made again although nothing is damaged, or None.

    Returns:
      The shards that have to be made again; `notes` says why.

    Raises:
      WorkdirError: the folder can't be written.
    """
    finished = sorted(self._list().receipts)
    suspects = [self.shards[number] for number in finished if self._defect(number, full, refused)]
    with disk.explained(self.folder):
      return [shard for shard in suspects if self._set_aside(shard, full, refused)]

  def claims(self, wait: bool = True) -> Generator["Claim", None, None]:
    """Shards to work on, one at a time, each to be used as a context manager; until then its lease is not renewed.

    Args:
      wait: ends when every shard is finished, by whoever: while others work on the last ones it stands by, and takes
        over from those that die. Else it ends when nothing is left to claim.

    Raises:
      WorkdirError: the folder can't be written.
    """
    pause = _FIRST_WAIT
    while True:
      with disk.explained(self.folder):
        seen = self._list()
        self._clean(seen)
      missing = [shard for shard in self.shards if shard.number not in seen.receipts]
      claimed = False
      for shard in sorted(missing, key=lambda shard: shard.number in seen.claims):  # the free ones first
        with disk.explained(self.folder):
          claim = self._claim_unfinished(shard)
        if claim is not None:
          claimed = True
          yield claim
          claim.check_used()
      if not missing or not (claimed or wait):
        return
      if claimed:
        pause = _FIRST_WAIT
      else:
        time.sleep(min(pause, self.lease / 4))
        pause = min(2 * pause, _LONGEST_WAIT)

  def _claim_unfinished(self, shard: Shard) -> "Claim | None":
    if self._receipt_file(shard).exists():
      return None
    claim = self._claim(shard)
    if claim is not None and self._receipt_file(shard).exists():  # finished just before the claim was made
      claim.release()
      return None
    return claim

  def _claim(self, shard: Shard) -> "Claim | None":
    """The shard's claim, taken over where it is stale; None while a living worker has it."""
    path, token = self._claim_file(shard.number), leases.new_token()
    part = self.folder / f".{shard.number:05d}.{token}.part"
    lease = leases.take(path, token, self.lease, part)
    if lease is None:
      self._end_stale(shard.number, self._now())
      lease = leases.take(path, token, self.lease, part)
    return None if lease is None else Claim(self, shard, lease, part)

  def _end_stale(self, number: int, now: float) -> None:
    """Removes the claim of a dead worker with what it was writing."""
    path = self._claim_file(number)
    holder = leases.read_holder(path)
    if holder is not None and leases.stale(holder, now, self.lease) and leases.put_away(path, holder):
      (self.folder / f".{number:05d}.{holder.token}.part").unlink(missing_ok=True)
      (self.folder / f".{number:05d}.{holder.token}.json.part").unlink(missing_ok=True)

  def _set_aside(self, shard: Shard, full: bool, refused: Callable[[Any], str | None]) -> bool:
    claim = self._claim(shard)  # else the receipt of somebody who makes it again just now might be removed
    if claim is None:
      return False
    try:
      defect = self._defect(shard.number, full, refused)
      if defect is None:
        return False
      self._receipt_file(shard).unlink(missing_ok=True)
      file = self.file(shard.number)
      with contextlib.suppress(FileNotFoundError):
        file.replace(file.with_name(f"{file.name}.damaged"))
    finally:
      claim.release()
    self.notes += (f"Shard {shard.number} is set aside and will be made again: {defect}",)
    return True

  def _publish(self, claim: "Claim", result: Any) -> None:
    """Gives the written file its name, then its receipt; leaves them as they are if another worker has been here."""
    shard, file = claim.shard, self.file(claim.shard.number)
    disk.sync(claim.path)
    size, digest = claim.path.stat().st_size, hash_file(claim.path)
    receipt = Receipt(shard.number, (shard.first, shard.last), file.name, size, digest, self._name, result)
    content = receipts.encode(receipt)
    path = self._receipt_file(shard)
    if path.exists():
      if self._defect(shard.number, full=False) is None:
        return
      path.unlink(missing_ok=True)
    claim.path.replace(file)
    disk.sync(self.folder)  # the file's name is on the disk before the receipt is
    disk.create(path, content, claim.path.with_suffix(".json.part"))
    disk.sync(self.folder)

  def _defect(self, number: int, full: bool, refused: Callable[[Any], str | None] = lambda result: None) -> str | None:
    """What is wrong with a finished shard, as a sentence; None if nothing is, or if it is not finished any more."""
    try:
      receipt = self._receipt(number)
      return receipts.difference_from(receipt, self.file(number), full) or refused(receipt.result)
    except DataError as error:
      return str(error) if self._receipt_file(self.shards[number]).exists() else None

  def _receipt(self, number: int) -> Receipt:
    shard = self.shards[number]
    items = (shard.first, shard.last)
    return receipts.read(self._receipt_file(shard), number, items, self.file(number).name, self._name)

  def _receipt_file(self, shard: Shard) -> pathlib.Path:
    return self.folder / f"{shard.number:05d}.json"

  def _claim_file(self, number: int) -> pathlib.Path:
    return self.folder / f".{number:05d}.claim"

  def _list(self) -> "_Listing":
    """What the names in the folder tell."""
    seen = _Listing(set(), set(), [])
    try:
      with os.scandir(self.folder) as entries:
        for entry in entries:
          if (found := _RECEIPT.fullmatch(entry.name)) and int(found[1]) < len(self.shards):
            seen.receipts.add(int(found[1]))
          elif found := _CLAIM.fullmatch(entry.name):
            seen.claims.add(int(found[1]))
          elif entry.name.startswith(".") and entry.name.endswith(".part"):
            seen.parts.append(entry.name)
    except OSError as error:
      raise WorkdirError(f"{self.folder} can't be read: {error.strerror}.") from error
    return seen

  def _clean(self, seen: "_Listing") -> None:
    """Removes what dead workers have left: their claims on shards that are finished, and parts."""
    ended = seen.claims & seen.receipts
    now = self._now() if ended or seen.parts else 0.0
    for number in ended:
      self._end_stale(number, now)
    for name in seen.parts:  # the living renew theirs
      with contextlib.suppress(FileNotFoundError):
        if abs(now - (self.folder / name).stat().st_mtime) > self.lease:
          (self.folder / name).unlink()

  def _now(self) -> float:
    return leases.server_time(self.folder)


@dataclasses.dataclass(frozen=True)
class _Listing:
  receipts: set[int]
  claims: set[int]
  parts: list[str]


class Claim:
  """A shard that this worker works on. A context manager; leaving it without `finish` gives the shard back.

  Attributes:
    shard: what to work on.
    path: the file to write. It gets its final name by `finish`.
  """

  def __init__(self, work: Work, shard: Shard, lease: leases.Lease, path: pathlib.Path):
    self.shard, self.path = shard, path
    self._work, self._lease = work, lease
    self._left = self._finished = False

  def finish(self, result: Any = None) -> None:
    """Makes the file that was written, and is closed, the shard's; `result`, what JSON can hold, goes into the receipt.

    If another worker has finished the shard meanwhile, its file and its receipt stay.

    Raises:
      WorkdirError: the disk is full, the folder can't be written, or nothing was written to `path`.
    """
    with disk.explained(self._work.folder, self._room):
      try:
        self._work._publish(self, result)
      except FileNotFoundError as error:
        if self._lease.held():
          number = self.shard.number
          raise WorkdirError(f"{self.path} is absent: shard {number} was not written, or was removed.") from error
        # Taken for dead, and the part with it: another worker makes the shard, or has made it.
    self._finished = True

  def release(self) -> None:
    """Gives the shard back; what was written of it is removed."""
    self.path.unlink(missing_ok=True)
    self._lease.release()

  def check_used(self) -> None:
    """When the next claim is asked for.

    Raises:
      RuntimeError: this one was left without an exception and is not finished: it would come again for ever.
    """
    if self._left and not self._finished:
      raise RuntimeError(f"shard {self.shard.number} was left without finish()")

  def __enter__(self) -> "Claim":
    self._lease.__enter__()
    return self

  def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
    self._left = True
    self._lease.__exit__(kind, error, trace)
    room = self._room() if disk.is_full(error, self._work.folder) else None  # before the part is removed
    with disk.explained(self._work.folder):
      self.release()
    if room is not None:
      raise disk.no_space(self._work.folder, room) from error

  def _room(self) -> str:
    """What is known of the room that is there and needed, as sentences."""
    work = self._work
    written = self.path.stat().st_size if self.path.exists() else 0
    text = f"{disk.free(work.folder)} {written} bytes of shard {self.shard.number} were written."
    with contextlib.suppress(UserError):  # damaged receipts are another story
      if sizes := [receipt.bytes for receipt in work.receipts().values()]:
        missing = len(work.shards) - len(sizes)
        text += f" The {missing} missing shards need about {missing * sum(sizes) // len(sizes)} bytes."
    return text


def _check_same(path: pathlib.Path, work: Mapping[str, Any]) -> None:
  try:
    found = read_json(path)
  except DataError as error:
    raise WorkdirError(
      f"{error} Remove it and run the same command again: what was made for other work is found by its receipts."
    ) from error
  if lines := difference(found, work, "work"):
    raise WorkdirError(
      f"{path.parent} holds other work; {len(lines)} field(s) differ, there -> here: {'; '.join(lines)}. Restore these "
      "values to go on with it, or use another folder."
    )
