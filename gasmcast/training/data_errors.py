"""The examples that could not be read: listed once each in data_errors.jsonl, never sent to the device.

A batch may carry "error", a unicode array [B] with the reason where a clip could not be read and "" elsewhere. Rows
that only fill up a batch (index -1) are no failures.
"""

import os
import pathlib

import jax
import numpy as np

from gasmcast.core.types import Batch
from gasmcast.training.tracking import JsonLines


class DataErrors:
  """data_errors.jsonl of a working directory; each process lists the rows that it loaded, in a file of its own.

  Lines: {"split", "index" (position in `Dataset.examples`), "reason", "step" (when it was first met)}.
  """

  def __init__(self, workdir: str | os.PathLike):
    process = jax.process_index()
    name = "data_errors.jsonl" if process == 0 else f"data_errors.process_{process}.jsonl"
    self._lines = JsonLines(pathlib.Path(workdir) / name)
    self._known = {(line["split"], line["index"]) for line in self._lines.kept}

  def strip(self, batch: Batch, split: str, step: int) -> dict[str, np.ndarray]:
    """The batch without "error", after listing the failures that it shows for the first time."""
    index = np.asarray(batch["index"])
    for row in np.flatnonzero(~np.asarray(batch["ok"]) & (index >= 0)):
      key = (split, int(index[row]))
      if key not in self._known:
        self._known.add(key)
        reason = str(batch["error"][row]) if "error" in batch else "no reason given"
        self._lines.append({"split": split, "index": key[1], "reason": reason, "step": step})
    return {name: leaf for name, leaf in batch.items() if name != "error"}

  def __enter__(self) -> "DataErrors":
    return self

  def __exit__(self, *_) -> None:
    self._lines.close()
