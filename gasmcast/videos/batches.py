"""From a source of examples to batches: shuffling and division among processes, by Grain.

A batch is a dict of numpy arrays as in `core.types`, and one array more:

    "error"  <U400 [B]   why the example could not be read, "" where ok is True and in rows that only fill up

Strings can't go to a device: whoever consumes the batch logs and removes "error" first. It is an array of fixed width
because that is what reaches the parent from a worker process like any other array.

The order of the examples and every random draw depend on the seed and on the position in the stream alone: global
batch k is the same, row by row, for any number of processes, workers and threads, so training resumes exactly from the
number of steps done.
"""

import dataclasses
from collections.abc import Generator, Mapping
from typing import Any, Protocol

import grain
import numpy as np
from absl import flags

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.core.types import Batch, Dataset, Example
from gasmcast.videos.sampling import ClassOrder

ERROR_LENGTH = 400
_WORKER_BUFFER = 2  # finished batches that each worker process holds ready

Element = dict[str, Any]


class Source(Protocol):
  """What gives the arrays of an example: clips of videos (`videos.pipeline`) or stored features (`store.source`).

  Everything is called in several threads at once, and the source is pickled where worker processes read.
  """

  dataset: Dataset

  def draw(self, index: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], Mapping[str, int]]:
    """The arrays of example `index` with random changes, and its labels after them; DataError if it can't be read."""

  def read(self, index: int) -> dict[str, np.ndarray]:
    """The arrays of example `index` without randomness; DataError if it can't be read."""

  def empty(self) -> dict[str, np.ndarray]:
    """Zeros of the same names, shapes and types."""


class Loading(Protocol):
  """How batches are loaded: the fields of `videos.pipeline.DataConfig` that are about it."""

  global_batch: int
  sampling: str
  workers: int
  threads: int
  prefetch: int


def train_batches(
  source: Source,
  loading: Loading,
  seed: int,
  *,
  label: str | None = None,
  process: int = 0,
  processes: int = 1,
  start_step: int = 0,
) -> Generator[Batch, None, None]:
  """Endless batches of shuffled, augmented examples: rows process * B to (process + 1) * B of each global batch.

  Each pass over the data set has another order, and a batch may hold the end of one pass and the beginning of the
  next. How often the classes come is `loading.sampling`. `close()` the generator to end its workers and threads.

  Args:
    seed: of the order and of all random choices.
    label: whose classes `loading.sampling` is about; None for the first of the data set.
    process: index of this process.
    processes: that share the global batch.
    start_step: the first batch that comes is this one; steps before it cost nothing.

  Raises:
    ConfigError: the global batch can't be divided among the processes.
    DataError: the data set is empty, or the sampling needs classes and an example has none. An example that can't be
      read raises nothing, it comes with ok=False.
  """
  _check_division(source.dataset, loading, process, processes)
  # The global batch is divided after the random transform: Grain derives its draws from the position in the stream.
  if loading.sampling == "uniform":
    positions = grain.MapDataset.range(len(source.dataset.examples)).seed(seed).shuffle().repeat()
  else:
    positions = grain.MapDataset.source(ClassOrder(source.dataset, label, loading.sampling, seed)).seed(seed)
  return _batches(positions.random_map(_TrainingElement(source)), loading, process, processes, start_step)


def evaluation_batches(
  source: Source, loading: Loading, *, process: int = 0, processes: int = 1
) -> Generator[Batch, None, None]:
  """Every example once and in order, without randomness.

  The last global batch is filled up with rows of index -1 and ok=False, so all processes see ceil(N / global_batch)
  batches of equal shape.

  Raises:
    ConfigError: the global batch can't be divided among the processes.
    DataError: the data set is empty. An example that can't be read raises nothing, it comes with ok=False.
  """
  _check_division(source.dataset, loading, process, processes)
  padded = -(-len(source.dataset.examples) // loading.global_batch) * loading.global_batch
  return _batches(grain.MapDataset.range(padded).map(_EvaluationElement(source)), loading, process, processes, 0)


@dataclasses.dataclass(frozen=True, repr=False)
class _TrainingElement(grain.transforms.RandomMap):
  source: Source

  def random_map(self, index: int, rng: np.random.Generator) -> Element:
    example = self.source.dataset.examples[index]
    try:
      arrays, labels = self.source.draw(index, rng)
    except DataError as error:
      return _element(self.source, self.source.empty(), False, index, example, str(error))
    return _element(self.source, arrays, True, index, dataclasses.replace(example, labels=labels), "")


@dataclasses.dataclass(frozen=True, repr=False)
class _EvaluationElement(grain.transforms.Map):
  source: Source

  def map(self, index: int) -> Element:
    examples = self.source.dataset.examples
    if index >= len(examples):
      return _element(self.source, self.source.empty(), False, -1, examples[0], "")
    try:
      arrays = self.source.read(index)
    except DataError as error:
      return _element(self.source, self.source.empty(), False, index, examples[index], str(error))
    return _element(self.source, arrays, True, index, examples[index], "")


def _element(
  source: Source, arrays: dict[str, np.ndarray], ok: bool, index: int, example: Example, error: str
) -> Element:
  if len(error) > ERROR_LENGTH:  # keep the path's beginning and the reason at the end
    error = f"{error[: ERROR_LENGTH // 2 - 3]} ... {error[-(ERROR_LENGTH // 2 - 2) :]}"
  return {
    **arrays,
    "ok": np.bool_(ok),
    "index": np.int32(index),
    "error": np.array(error, f"<U{ERROR_LENGTH}"),
    **{name: np.int32(example.labels.get(name, -1)) for name in source.dataset.classes},
    **{name: np.float32(example.values.get(name, np.nan)) for name in source.dataset.values},
  }


def _check_division(dataset: Dataset, loading: Loading, process: int, processes: int) -> None:
  if not dataset.examples:
    raise DataError(f"the split {dataset.split!r} of {dataset.name} is empty; it needs at least one example.")
  if not 0 <= process < processes:
    raise ConfigError(f"process {process} of {processes}: the index must be 0 to {processes - 1}.")
  if loading.global_batch % processes:
    raise ConfigError(
      f"config.data.global_batch = {loading.global_batch} can't be divided among {processes} processes; use a multiple."
    )


@dataclasses.dataclass(frozen=True)
class _ProcessRows:
  """The rows of one process, batch after batch: a random-access source for Grain.

  Contiguous rows, not every n-th: the batches of all processes one after the other are then the global batch in the
  order of a single process, so row r has the same dropout mask whatever the number of processes.
  """

  elements: grain.MapDataset
  global_batch: int
  process: int
  processes: int

  def __len__(self) -> int:
    return len(self.elements) // self.global_batch * (self.global_batch // self.processes)

  def __getitem__(self, row: int) -> Element:
    rows = self.global_batch // self.processes
    return self.elements[row // rows * self.global_batch + self.process * rows + row % rows]


def _batches(
  elements: grain.MapDataset, loading: Loading, process: int, processes: int, start_step: int
) -> Generator[Batch, None, None]:
  rows = _ProcessRows(elements, loading.global_batch, process, processes)
  batches = grain.MapDataset.source(rows).batch(loading.global_batch // processes, drop_remainder=True)
  stream = batches[start_step:].to_iter_dataset(
    grain.ReadOptions(num_threads=loading.threads, prefetch_buffer_size=loading.prefetch)
  )
  if loading.workers:
    if not flags.FLAGS.is_parsed():  # Grain reads absl flags when it starts workers
      flags.FLAGS.mark_as_parsed()
    stream = stream.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=loading.workers, per_worker_buffer_size=_WORKER_BUFFER)
    )
  return _closing(iter(stream))


def _closing(batches: grain.DatasetIterator) -> Generator[Batch, None, None]:
  """Ends worker processes and threads after the last batch too, not only when the consumer closes."""
  try:
    yield from batches
  finally:
    batches.close()
