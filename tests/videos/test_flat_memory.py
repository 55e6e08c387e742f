"""Reading many clips takes no more memory, files or threads than reading a few."""

import contextlib
import dataclasses
import gc
import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from gasmcast.core import machine
from gasmcast.core.memory import Monitor
from gasmcast.core.types import Dataset, Example
from gasmcast.videos.batches import evaluation_batches, train_batches
from gasmcast.videos.pipeline import AugmentationConfig, Clips, DataConfig

# Clips, and MB of growth for each 1,000. Allocators give and take a megabyte, which few clips don't average out; a
# leaked clip is 25 KB, so one leaked in ten would be 2.5.
COUNTS = [(2000, 2.0), pytest.param(20_000, 1.0, marks=pytest.mark.long)]

BATCH, WARM_UP, EVERY = 20, 1000, 100  # clips
CONFIG = DataConfig(BATCH, frames=8, size=32, short_side=32, augmentation=AugmentationConfig(flip=0.0))


def repeated(dataset: Dataset, clips: int) -> Dataset:
  """Examples of the intact and broken files of `dataset` again and again."""
  examples = itertools.islice(itertools.cycle(dataset.examples), clips)
  numbered = tuple(Example(str(number), example.path, example.labels) for number, example in enumerate(examples))
  return dataclasses.replace(dataset, examples=numbered)


def watch(batches, clips):
  """After the warm-up: MB of growth for each 1,000 clips, and by how much the numbers of files and threads vary.

  Buffers and the arenas of the threads fill up during the first clips. What is free, but held back by Python or by the
  allocator until it is used again, is returned before each reading: how much that is depends on the order of threads.
  """
  monitor, counts = Monitor(), []
  for number, _ in enumerate(itertools.islice(batches, (WARM_UP + clips) // BATCH), 1):
    done = number * BATCH
    if done >= WARM_UP and done % EVERY == 0:
      gc.collect()
      machine._return_freed_memory()
      numbers = monitor.read(done)
      counts.append((numbers["memory/files"], numbers["memory/threads"]))
  assert done == WARM_UP + clips
  files, threads = zip(*counts, strict=True)
  return monitor.growth(), max(files) - min(files), max(threads) - min(threads)


def watch_evaluation(dataset, clips):
  batches = evaluation_batches(Clips(repeated(dataset, WARM_UP + clips), CONFIG, augmented=False), CONFIG)
  return watch(batches, clips)


def watch_training(dataset, clips):
  three_videos = 3 * 20 * 32 * 32 * 3
  config = dataclasses.replace(CONFIG, cache_bytes=three_videos)
  batches = train_batches(Clips(repeated(dataset, 700), config, augmented=True), config, 0)
  with contextlib.closing(batches):
    return watch(batches, clips)


def in_a_process_of_its_own(function, *arguments):
  """Threads and memory of other tests come and go in this one."""
  with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
    return pool.submit(function, *arguments).result()


@pytest.mark.reliability(21)
@pytest.mark.parametrize(("clips", "limit"), COUNTS)
def test_evaluation_takes_no_more_memory_for_more_clips(dataset, clips, limit, figure):
  growth, files, threads = in_a_process_of_its_own(watch_evaluation, dataset, clips)
  assert growth <= limit
  assert files <= 2 * CONFIG.threads  # the videos open at that moment
  assert threads <= 1
  figure(
    f"{clips:,} clips read for evaluation: {growth:.2f} MB for each 1,000, files vary by {files}, threads by {threads}"
  )


@pytest.mark.reliability(21)
@pytest.mark.parametrize(("clips", "limit"), COUNTS)
def test_training_with_a_cache_that_evicts_takes_no_more_memory_for_more_clips(dataset, clips, limit, figure):
  growth, files, threads = in_a_process_of_its_own(watch_training, dataset, clips)
  assert growth <= limit
  assert files <= 2 * CONFIG.threads
  assert threads <= 1
  figure(
    f"{clips:,} clips read for training: {growth:.2f} MB for each 1,000, files vary by {files}, threads by {threads}"
  )
