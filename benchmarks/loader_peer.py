"""torch's DataLoader over the clips of our own source: the same decoder and transforms, other machinery around them."""

from collections.abc import Iterator

import numpy as np

from gasmcast.core.types import Batch
from gasmcast.videos.batches import Source


class _Clips:
  """Training clips by index."""

  def __init__(self, source: Source):
    self._source = source

  def __len__(self) -> int:
    return len(self._source.dataset.examples)

  def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
    arrays, labels = self._source.draw(index, np.random.default_rng(index))
    return {**arrays, "index": index, **labels}


class _Shuffled:
  """Batches of indices without end, pass after pass in a new order."""

  def __init__(self, examples: int, batch: int):
    self._examples, self._batch = examples, batch

  def __iter__(self) -> Iterator[list[int]]:
    rng, indices = np.random.default_rng(0), []
    while True:
      while len(indices) < self._batch:
        indices.extend(rng.permutation(self._examples).tolist())
      yield indices[: self._batch]
      del indices[: self._batch]


def batches(source: Source, batch: int, workers: int) -> Iterator[Batch]:
  """Batches as numpy arrays without end. The workers are processes, as decoding in one keeps torch's own from it.

  Each keeps two batches ready, as torch does by default.

  Raises:
    ImportError: torch is not installed.
  """
  from torch.utils.data import DataLoader

  loader = DataLoader(
    _Clips(source),
    batch_sampler=_Shuffled(len(source.dataset.examples), batch),
    num_workers=workers,
    multiprocessing_context="spawn",  # this process may hold threads of jax, which a fork would copy half
    persistent_workers=True,
  )
  return ({name: tensor.numpy() for name, tensor in tensors.items()} for tensors in loader)
