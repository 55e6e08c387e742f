"""Stored features as a source of batches (`videos.batches.Source`), in the place of clips of videos."""

from collections.abc import Mapping, Sequence

import numpy as np

from gasmcast.core.errors import DataError
from gasmcast.core.types import Dataset
from gasmcast.store.feature_store import Reader


def split_name(dataset: Dataset) -> str:
  """The folder of a split in a store: another data set under the same name has another."""
  return f"{dataset.split}-{dataset.fingerprint[:12]}"


class StoredFeatures:
  """The features of each example of a data set: "semantic" [T, N, D], "motion" [T, (M,) E], and scales of int8.

  Args:
    dataset: whose examples are read; they are found by their ids.
    readers: of the splits that hold them.

  Raises:
    DataError: an example is in none of the splits.
  """

  def __init__(self, dataset: Dataset, readers: Sequence[Reader]):
    self.dataset = dataset
    places = {
      id: (number, position) for number, reader in enumerate(readers) for id, position in reader.positions.items()
    }
    missing = [example.id for example in dataset.examples if example.id not in places]
    if missing:
      raise DataError(
        f"the store has no features of {len(missing)} of {len(dataset.examples)} examples of {dataset.split!r}, the "
        f"first being {missing[0]!r}; extract this split (--job extract)."
      )
    self._readers = tuple(readers)
    self._places = tuple(places[example.id] for example in dataset.examples)

  def draw(self, index: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], Mapping[str, int]]:
    """One of the views that were extracted, and the labels that it has."""
    number, position = self._places[index]
    reader = self._readers[number]
    return self._record(reader, position, int(rng.integers(reader.views)))

  def read(self, index: int) -> dict[str, np.ndarray]:
    """The view of evaluation, which is the first."""
    number, position = self._places[index]
    return self._record(self._readers[number], position, 0)[0]

  def empty(self) -> dict[str, np.ndarray]:
    """Zeros in the shapes of the first example that has features."""
    for number, position in self._places:
      if position not in self._readers[number].failed:
        arrays, _ = self._record(self._readers[number], position, 0)
        return {name: np.zeros_like(array) for name, array in arrays.items()}
    raise DataError(f"the store has features of none of the {len(self._places)} examples; see why extraction failed.")

  def _record(self, reader: Reader, position: int, view: int) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    if position in reader.failed:
      raise DataError(reader.failed[position])
    arrays = dict(reader.read(position, view))
    labels = zip(self.dataset.classes, arrays.pop("labels").tolist(), strict=True)
    return arrays, dict(labels)
