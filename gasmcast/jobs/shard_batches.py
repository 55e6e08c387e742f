"""Shards of work as batches of what was read, the next ones being read while the present one is computed."""

import collections
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gasmcast.core.errors import DataError
from gasmcast.core.shards import Claim, Work

Read = Callable[[int], Any]
_AHEAD = 2  # batches that are read or being read


def batches_of_shards(
  work: Work, read: Read, batch: int, threads: int
) -> Generator[tuple[Claim, Iterator[list[Any]]], None, None]:
  """(claim, lists of up to `batch` results of `read`) until every shard is finished, by whoever.

  Each shard begins a new batch, so what is in a file depends on the file alone. While its last batches are computed
  the first clips of the next shard are read already. The claim has to be finished before the next one is asked for.

  Args:
    read: called in several threads with the number of an item; a DataError that it raises is the item's result.

  Raises:
    RuntimeError: a claim was not finished; its shard would come again for ever.
    WorkdirError: the folder can't be written.
  """
  with ThreadPoolExecutor(threads, "read") as pool:
    for claim in work.claims(wait=True):
      present = _Shard(claim, pool, read)
      while present is not None:
        following = _Following(work, pool, read)
        with following:
          with present:
            yield present.claim, present.batches(batch, max(_AHEAD * batch, 2 * threads), following)
          present.claim.check_used()
          present = following.take()


class _Shard:
  """A claim that is held, and its items as far as they are being read."""

  def __init__(self, claim: Claim, pool: ThreadPoolExecutor, read: Read):
    self.claim = claim.__enter__()
    self._pool, self._read = pool, read
    self._next = claim.shard.first
    self._futures: collections.deque[Future] = collections.deque()

  def start(self, count: int) -> int:
    """Begins to read until so many results are waited for; returns how many are lacking because the shard ends."""
    while len(self._futures) < count and self._next < self.claim.shard.last:
      self._futures.append(self._pool.submit(outcome, self._read, self._next))
      self._next += 1
    return count - len(self._futures)

  def batches(self, size: int, ahead: int, following: "_Following") -> Iterator[list[Any]]:
    following.start(self.start(ahead))
    while self._futures:
      yield [self._futures.popleft().result() for _ in range(min(size, len(self._futures)))]
      following.start(self.start(ahead))

  def __enter__(self) -> "_Shard":
    return self

  def __exit__(self, *error: Any) -> None:
    """Gives the shard back unless it is finished."""
    for future in self._futures:
      future.cancel()
    self.claim.__exit__(*error)


class _Following:
  """The shard after the present one, claimed when the present one has nothing left to read."""

  def __init__(self, work: Work, pool: ThreadPoolExecutor, read: Read):
    self._work, self._pool, self._read = work, pool, read
    self._shard: _Shard | None = None
    self._asked = False

  def start(self, count: int) -> None:
    if count <= 0:
      return
    if not self._asked:
      self._asked = True
      claim = next(self._work.claims(wait=False), None)
      self._shard = None if claim is None else _Shard(claim, self._pool, self._read)
    if self._shard is not None:
      self._shard.start(count)

  def take(self) -> _Shard | None:
    shard, self._shard = self._shard, None
    return shard

  def __enter__(self) -> "_Following":
    return self

  def __exit__(self, *error: Any) -> None:
    if self._shard is not None:
      self._shard.__exit__(*error)


def outcome(read: Read, item: int) -> Any:
  """What `read` returns, or the DataError that it raises."""
  try:
    return read(item)
  except DataError as error:
    return error
