"""Shards as batches: in order, read ahead over the end of a shard, given back when the consumer fails."""

import contextlib
import threading
import time

import pytest

from gasmcast.core.errors import DataError
from gasmcast.core.shards import Work
from gasmcast.jobs.shard_batches import batches_of_shards


def open_work(folder, items=10, size=4):
  return Work.open(folder, items, size, {"seed": 1}, suffix=".txt", lease=5.0)


def consume(work, read, batch=3, threads=2):
  """Writes what was read; (number of the shard, sizes of its batches) in the order in which they came."""
  seen = []
  with contextlib.closing(batches_of_shards(work, read, batch, threads)) as stream:
    for claim, batches in stream:
      lists = list(batches)
      claim.path.write_text("\n".join(str(item) for one in lists for item in one))
      seen.append((claim.shard.number, [len(one) for one in lists]))
      claim.finish()
  return seen


def lines(work):
  return [line for shard in work.shards for line in work.file(shard.number).read_text().splitlines()]


def test_every_item_comes_once_and_in_order_whatever_is_read_first(tmp_path):
  def read(item):
    time.sleep(0.02 if item % 3 == 0 else 0.0)
    return item

  work = open_work(tmp_path)
  assert consume(work, read) == [(0, [3, 1]), (1, [3, 1]), (2, [2])]
  assert lines(work) == [str(item) for item in range(10)]
  assert work.verify(full=True) == [] and work.missing() == ()


@pytest.mark.parametrize(("items", "batch", "threads"), [(1, 8, 1), (4, 4, 1), (9, 1, 3), (10, 64, 4)])
def test_sizes_of_all_kinds(tmp_path, items, batch, threads):
  work = open_work(tmp_path, items)
  consume(work, lambda item: item, batch, threads)
  assert lines(work) == [str(item) for item in range(items)]


def test_the_next_shard_is_read_while_the_last_batch_of_this_one_is_computed(tmp_path):
  """With shard 0 at its last batch, items of shard 1 are read without anybody asking."""
  read, begun = [], threading.Event()

  def note(item):
    read.append(item)
    if item >= 4:
      begun.set()
    return item

  stream = batches_of_shards(open_work(tmp_path), note, 2, 2)
  claim, batches = next(stream)
  assert claim.shard.number == 0 and next(batches) == [0, 1] and next(batches) == [2, 3]
  assert begun.wait(10)
  stream.close()
  assert max(read) < 8  # two batches ahead and no more


def test_an_item_that_cannot_be_read_is_its_error(tmp_path):
  def read(item):
    if item == 5:
      raise DataError("clip 5 is cut.")
    return item

  work = open_work(tmp_path)
  consume(work, read)
  assert lines(work)[4:7] == ["4", "clip 5 is cut.", "6"]


def test_any_other_error_of_reading_ends_the_work(tmp_path):
  def read(item):
    if item == 1:
      raise KeyError("a mistake of ours")
    return item

  work = open_work(tmp_path)
  with pytest.raises(KeyError, match="a mistake of ours"):
    consume(work, read)
  assert len(work.missing()) == 3 and not list(tmp_path.glob(".*.claim"))


def test_an_error_of_the_consumer_gives_both_shards_back(tmp_path):
  """The one that it worked on and the one that was begun to be read; finished ones stay."""
  work, held = open_work(tmp_path), []

  def compute():
    with contextlib.closing(batches_of_shards(work, lambda item: item, 4, 2)) as stream:
      for claim, batches in stream:
        taken = [item for batch in batches for item in batch]
        held.append(len(list(tmp_path.glob(".*.claim"))))
        if claim.shard.number == 1:
          raise RuntimeError("computing")
        claim.path.write_text("\n".join(map(str, taken)))
        claim.finish()

  with pytest.raises(RuntimeError, match="computing"):
    compute()
  assert held == [2, 2] and not list(tmp_path.glob(".*.claim")) and not list(tmp_path.glob(".*.part"))
  assert [shard.number for shard in work.missing()] == [1, 2]
  consume(open_work(tmp_path), lambda item: item)
  assert lines(work) == [str(item) for item in range(10)]


def test_a_shard_left_unfinished_is_a_mistake_that_is_told(tmp_path):
  with contextlib.closing(batches_of_shards(open_work(tmp_path), lambda item: item, 4, 1)) as stream:
    list(next(stream)[1])
    with pytest.raises(RuntimeError, match=r"^shard 0 was left without finish\(\)$"):
      next(stream)
  assert not list(tmp_path.glob(".*.claim"))


def test_two_workers_share_the_shards(tmp_path):
  seen, barrier = [[], []], threading.Barrier(2)

  def read(item):
    time.sleep(0.01)
    return item

  def worker(number):
    barrier.wait()
    seen[number] = consume(open_work(tmp_path, 40), read)

  threads = [threading.Thread(target=worker, args=(number,)) for number in range(2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  numbers = [[number for number, _ in one] for one in seen]
  assert sorted(numbers[0] + numbers[1]) == list(range(10)) and all(numbers)
  assert lines(open_work(tmp_path, 40)) == [str(item) for item in range(40)]
