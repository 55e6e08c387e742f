"""Extraction whose workers are killed, or meet a clip that can't be read: every clip is there once, or is named."""

import os
import pathlib
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from gasmcast.core import leases
from gasmcast.core.errors import DataError
from gasmcast.datasets import something_something
from gasmcast.store.source import StoredFeatures, split_name
from gasmcast.videos.pipeline import Clips
from tests.jobs import extraction_workers, frozen_clips

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def start(*arguments):
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  return subprocess.Popen([sys.executable, extraction_workers.__file__, *map(str, arguments)], env=environment)


def shards(folder):
  """Files and receipts by name, without what says who worked when."""
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def kill_workers(data, folder, split, kills, seed):
  """Three workers, of which `kills` die at random instants while they hold a claim; each is replaced."""
  draw, seconds = random.Random(seed), 0.25
  workers = [start(data, folder, seconds) for _ in range(3)]
  for _ in range(kills):
    holding = []
    while not holding:
      holders = [leases.read_holder(path) for path in (folder / split).glob(".*.claim")]
      pids = {holder.pid for holder in holders if holder is not None}
      holding = [worker for worker in workers if worker.pid in pids and worker.poll() is None]
      assert any(worker.poll() is None for worker in workers), "all was done before all were killed"
      time.sleep(0.005)
    victim = draw.choice(holding)
    time.sleep(draw.uniform(0.0, 0.2))
    victim.kill()
    victim.wait()
    workers[workers.index(victim)] = start(data, folder, seconds)
  for worker in workers:
    assert worker.wait(timeout=300) == 0


def expected(dataset, position):
  clips = Clips(dataset, extraction_workers.DATA, augmented=False)
  frames = clips.read(position)["frames"]
  return {name: leaf[0] for name, leaf in extraction_workers.stand_in(frames[None]).items()}


@pytest.mark.reliability(8)
@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.long)])
def test_workers_killed_at_random_instants_extract_what_a_clean_run_does(tmp_path, kills, figure):
  frozen_clips.write_data(tmp_path / "data", {"train": 8 * kills})
  dataset = something_something.load(tmp_path / "data", "train")
  split = split_name(dataset)
  clean = extraction_workers.work(tmp_path / "data", tmp_path / "clean")
  kill_workers(tmp_path / "data", tmp_path / "killed", split, kills, seed=kills)
  made = shards(clean.folder / split)
  assert shards(tmp_path / "killed" / split) == made
  reader = extraction_workers.make_extractor(tmp_path / "killed").store.reader(split)
  assert reader.ids == tuple(example.id for example in dataset.examples) and not reader.failed
  for position in range(len(dataset.examples)):
    arrays, wanted = reader.read(position), expected(dataset, position)
    np.testing.assert_array_equal(arrays["motion"], wanted["motion"])
    np.testing.assert_allclose(arrays["semantic"].astype(np.float32), wanted["semantic"], rtol=2**-8)
  lost, doubled = len(dataset.examples) - len(reader), len(reader) - len(set(reader.ids))
  figure(
    f"{kills} kills among 3 workers: {len(dataset.examples)} clips in {len(made) // 2 - 1} shards, "
    f"{lost} lost, {doubled} twice, all files byte for byte those of a clean run"
  )


def test_a_clip_that_cannot_be_read_is_named_and_no_other_changes(tmp_path):
  frozen_clips.write_data(tmp_path / "data", {"train": 5})
  dataset = something_something.load(tmp_path / "data", "train")
  split, file = split_name(dataset), tmp_path / "data" / "videos" / "train2.webm"
  clean = extraction_workers.work(tmp_path / "data", tmp_path / "clean").reader(split)
  file.write_bytes(file.read_bytes()[:100])
  damaged = extraction_workers.work(tmp_path / "data", tmp_path / "damaged").reader(split)
  assert clean.failed == {} and list(damaged.failed) == [2] and str(file) in damaged.failed[2]
  for position in (0, 1, 3, 4):
    for name, array in clean.read(position).items():
      np.testing.assert_array_equal(damaged.read(position)[name], array)
  with pytest.raises(DataError, match="train2.webm"):
    StoredFeatures(dataset, (damaged,)).read(2)


def test_features_that_are_not_finite_end_the_work_with_the_name_of_the_clip(tmp_path):
  frozen_clips.write_data(tmp_path / "data", {"train": 4})
  dataset = something_something.load(tmp_path / "data", "train")

  def broken(frames):
    features = extraction_workers.stand_in(frames)
    features["motion"][1, 0, 0] = np.nan
    return features

  extractor = extraction_workers.make_extractor(tmp_path / "store", broken)
  work = extractor.begin(dataset)
  with pytest.raises(DataError, match=r"^train, train1: 1 of 12 values of the features are not finite; look for a dam"):
    extractor.extract(dataset, work, lambda clips: None)
  assert len(work.missing()) == 2 and not list(work.folder.glob(".*.claim"))
