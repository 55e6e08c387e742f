"""What is said of stored features, in numbers that can be redone by hand."""

import numpy as np
import pytest

from gasmcast.core.receipts import Receipt
from gasmcast.jobs.extraction_statistics import STATISTICS, ShardStatistics, line, summarize
from gasmcast.store.feature_store import FAILED, create, encode_views
from gasmcast.store.records import write_records


def receipt(number, result):
  return Receipt(number, (2 * number, 2 * number + 2), f"{number:05d}.arrayrecord", 1, "", "", result)


@pytest.fixture
def stored(tmp_path):
  """Four clips of two shards: [2, 2] each, along one direction; the third can't be read. (receipts, reader)."""
  clips = [np.array(rows, np.float32) for rows in ([[0, 0], [2, 2]], [[4, 4], [2, 2]], [[0, 0], [0, 0]])]
  store, receipts = create(tmp_path, {"made": "by hand"}), []
  for claim in store.begin("train", ["a", "b", "c", "d"], 2).claims():
    with claim:
      own = ((clips[0], clips[1]), (None, clips[2]))[claim.shard.number]
      statistics = ShardStatistics()
      for clip in own:
        if clip is not None:
          statistics.add("motion", clip)
      write_records(claim.path, [encode_views([] if clip is None else [{"motion": clip}]) for clip in own])
      failed = {"2": "cut"} if claim.shard.number else {}
      result = {FAILED: failed, STATISTICS: statistics.result()}
      claim.finish(result)
      receipts.append(receipt(claim.shard.number, result))
  return receipts, store.reader("train")


def test_shards_are_put_together(stored):
  """The values 0 0 2 2 4 4 2 2 0 0 0 0: mean 16 / 12, mean square 48 / 12, half of them zeros, one direction."""
  numbers = summarize(*stored)["motion"]
  assert numbers["values"] == 12 and numbers["mean"] == pytest.approx(16 / 12)
  assert numbers["std"] == pytest.approx(np.sqrt(4 - (16 / 12) ** 2))
  assert (numbers["min"], numbers["max"], numbers["zero_share"]) == (0, 4, 0.5)
  assert numbers["effective_rank"] == pytest.approx(1) and numbers["width"] == 2
  assert line(numbers) == "mean 1.33, standard deviation 1.49, 50.0 % zeros, effective rank 1.0 of 2"


def test_a_store_without_sums_has_nothing_said_of_it(stored):
  assert summarize([receipt(0, {FAILED: {}})], stored[1]) == {}


def test_some_vectors_of_each_clip_are_enough():
  statistics = ShardStatistics()
  statistics.add("semantic", np.ones((8, 196, 4), np.float32))
  assert statistics.result()["semantic"]["rows"] == 16 * 4
