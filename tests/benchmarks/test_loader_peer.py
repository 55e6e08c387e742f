"""torch's DataLoader gives every clip of a pass once, from the source that it is given."""

import itertools

import numpy as np
import pytest

from benchmarks import loader_peer
from gasmcast.jobs import benchmark_videos
from gasmcast.jobs.benchmark_loading import FixedDraws
from gasmcast.jobs.benchmark_videos import Videos
from gasmcast.videos.pipeline import Clips, DataConfig


def test_batches_of_the_source_without_end():
  pytest.importorskip("torch")
  videos = Videos(count=2, frames=12, height=48, width=64, encoder="no_such_library:encode")
  source = Clips(benchmark_videos.dataset(videos, repeats=2), DataConfig(3, frames=2, size=32, short_side=0), True)
  source = FixedDraws(source, 2)
  batches = [*itertools.islice(loader_peer.batches(source, 3, workers=1), 8)]
  indices = np.concatenate([batch["index"] for batch in batches])
  passes = np.sort(indices.reshape(-1, 4), 1)
  np.testing.assert_array_equal(passes, np.tile(np.arange(4), (6, 1)))
  assert len({tuple(order) for order in indices.reshape(-1, 4).tolist()}) > 1  # shuffled anew
  frames = np.concatenate([batch["frames"] for batch in batches])
  expected, _ = source.draw(3, np.random.default_rng())
  np.testing.assert_array_equal(frames[np.flatnonzero(indices == 3)[0]], expected["frames"])
  assert batches[0]["action"].tolist() == [0, 0, 0]
