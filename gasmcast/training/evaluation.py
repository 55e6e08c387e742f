"""Batches of a split -> sums -> numbers. Every example counts once, however the split is cut into batches.

Rows that only fill up a batch are not ok and add nothing; sums are merged on the host in float64 and divided once.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import jax
from jax.sharding import Mesh

from gasmcast.core.errors import DataError
from gasmcast.core.types import Batch, PyTree, System
from gasmcast.metrics.sums import merge
from gasmcast.training.data_errors import DataErrors
from gasmcast.training.feed import closing
from gasmcast.training.sharding import shard_batch
from gasmcast.training.state import TrainState
from gasmcast.training.termination import Termination
from gasmcast.training.watchdog import Watchdog


def evaluate(
  step: Callable[[TrainState, PyTree], PyTree],
  state: TrainState,
  batches: Iterator[Batch],
  mesh: Mesh,
  interrupted: Callable[[], bool] = lambda: False,
) -> PyTree | None:
  """The sums of `step` (a compiled `eval_step`) over all batches, as numpy float64 arrays.

  The sums of a batch are fetched while the next one is computed.

  Args:
    interrupted: asked before each batch; True abandons the evaluation.

  Returns:
    None if it was interrupted.

  Raises:
    DataError: there is no batch.
    ConfigError: a batch is not divisible by the devices.
  """
  total = outstanding = None
  for batch in batches:
    if interrupted():
      return None
    sums, outstanding = outstanding, step(state, shard_batch(batch, mesh))
    if sums is not None:
      total = merge(total, jax.device_get(sums))
  if outstanding is None:
    raise DataError("The evaluation got no batch: the split is empty; it needs at least one example.")
  return merge(total, jax.device_get(outstanding))


def summarize(system: System, sums: PyTree) -> dict[str, float]:
  """The numbers of a split from its merged sums: "loss", and what the system summarises."""
  if not sums["rows"]:
    raise DataError("The evaluation met no readable example; data_errors.jsonl gives the reasons.")
  scores = {name: float(value) for name, value in system.summarize(sums["metrics"]).items()}
  return {"loss": float(sums["loss"] / sums["rows"]), **scores}


@dataclasses.dataclass(frozen=True)
class Validation:
  """The validation of a run: of its states over the whole split, with errors listed, left when it is told to stop.

  Attributes:
    step: a compiled `eval_step`.
    batches: -> those of the split, the last filled up with rows of index -1.
  """

  system: System
  step: Callable[[TrainState, PyTree], PyTree]
  batches: Callable[[], Iterator[Batch]]
  mesh: Mesh
  errors: DataErrors
  watchdog: Watchdog
  termination: Termination

  def __call__(self, state: TrainState, step: int, limit: int | None = None) -> dict[str, float] | None:
    """Its numbers; None if the run was told to stop meanwhile.

    With `limit` they are those of the first batches alone, and None if none of their examples could be read.
    """

    def interrupted() -> bool:
      self.watchdog.at("validating", step)
      return self.termination.requested()

    with closing(self.batches()) as batches:
      stripped = (self.errors.strip(batch, "validation", step) for batch in itertools.islice(batches, limit))
      sums = evaluate(self.step, state, stripped, self.mesh, interrupted)
    if sums is None or (limit is not None and not sums["rows"]):
      return None
    return summarize(self.system, sums)
