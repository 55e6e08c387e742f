"""The contracts between the folders.

Host side, in the order in which data flows:

- `Example`: one labelled piece of one video, as the annotations name it.
- `Dataset`: the examples of one split and the names of their classes.
- `Batch`: a dict of numpy arrays with the leading axis B:
    "frames"  uint8 [B, T, H, W, 3]   RGB; zeros where ok is False
              or, from a store, "semantic" [B, T, N, D] and "motion" [B, T, (M,) E]: what frozen backbones make of them
    "ok"      bool  [B]               False: the clip could not be read, or the row only fills up the batch
    "index"   int32 [B]               position in `Dataset.examples`; -1 for a row that only fills up the batch
    one int32 [B] array per label name, for example "action"; -1 where the answers are not published
    one float32 [B] array per name of `Dataset.values`, for example "openness"; NaN where it is not published
  A clip that can't be read keeps its place with ok=False: its loss is masked, its count and path are reported.
  It is never replaced by another clip.

Device side, `System` is the only thing that training/ and jobs/ know of a model.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Batch = Mapping[str, np.ndarray]
PyTree = Any


@dataclasses.dataclass(frozen=True)
class Example:
  """One labelled piece of a video.

  Attributes:
    id: unique inside its split.
    path: the video file, or a folder of extracted frames.
    labels: label name -> class index, for example {"action": 17}; empty where the answers are not published.
    start: first moment in seconds, None for the beginning of the file.
    stop: end in seconds (exclusive), None for the end of the file.
    group: examples of one group (source video, person) never stand in two splits.
    values: name -> number to be predicted, for example {"openness": 0.6}.
    rate: frames a second where `path` is a folder of extracted frames; None for a video file, which says so itself.
  """

  id: str
  path: str
  labels: Mapping[str, int]
  start: float | None = None
  stop: float | None = None
  group: str = ""
  values: Mapping[str, float] = dataclasses.field(default_factory=dict)
  rate: float | None = None


@dataclasses.dataclass(frozen=True)
class Dataset:
  """The examples of one split.

  Attributes:
    name: of the data set.
    split: "train", "validation" or "test".
    examples: in the order of the annotation file.
    classes: label name -> class names, the position of a name being its index.
    fingerprint: hash that changes with any example, label or class name.
    pairs: kind ("mirrored", "reversed in time") -> pairs of classes of the first label that differ in that alone;
      reported on their own.
    values: names of the numbers to be predicted, in the order of the columns.
  """

  name: str
  split: str
  examples: tuple[Example, ...]
  classes: Mapping[str, tuple[str, ...]]
  fingerprint: str
  pairs: Mapping[str, tuple[tuple[int, int], ...]] = dataclasses.field(default_factory=dict)
  values: tuple[str, ...] = ()


class System(Protocol):
  """A model, its loss and its metrics: all that training and jobs see of it.

  `variables` is a dict of collections of plain nested dicts: "params", and possibly "batch_stats".
  `outputs` is a dict of arrays with the leading axis B (at least the predictions), with further entries
  under "intermediates" when `capture` is set.
  """

  @property
  def trainable(self) -> tuple[tuple[str, bool], ...]:
    """Rules (regex over parameter names such as "motion/stem/kernel", trained or frozen), first match wins."""

  def init(self, rng: PyTree, batch: Batch) -> PyTree:
    """Fresh variables for batches of this shape (`eval_shape` gives the shapes without the bytes)."""

  def apply(
    self,
    variables: PyTree,
    batch: Batch,
    *,
    train: bool,
    rngs: Mapping[str, PyTree] | None = None,
    capture: bool = False,
  ) -> tuple[Mapping[str, PyTree], Mapping[str, PyTree]]:
    """(outputs, updated collections other than "params")."""

  def mix(self, batch: Batch, rng: PyTree) -> Batch:
    """What a training step works on: the batch as it is, or one whose rows are mixed with each other.

    Inside jit, on the global batch. "ok", "index" and the labels stay; `loss` and `metrics` understand what is added.
    """

  def loss(self, outputs: Mapping[str, PyTree], batch: Batch) -> tuple[PyTree, Mapping[str, PyTree]]:
    """(scalar: mean over the rows with ok, its named parts as scalars)."""

  def metrics(self, outputs: Mapping[str, PyTree], batch: Batch) -> PyTree:
    """Sums over the rows with ok; a tree of arrays. Sums of several batches are merged by adding leaf by leaf."""

  def summarize(self, sums: PyTree) -> Mapping[str, float]:
    """The numbers of metrics.json ("examples", "top1", ...) from merged sums (numpy arrays)."""
