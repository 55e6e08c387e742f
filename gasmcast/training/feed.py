"""Train batches on their way to the devices: the next one is asked for while a step runs."""

import contextlib
from collections.abc import Callable, Iterator

import jax
from jax.sharding import Mesh

from gasmcast.core.errors import TrainingError
from gasmcast.core.types import Batch
from gasmcast.training.data_errors import DataErrors
from gasmcast.training.sharding import shard_batch
from gasmcast.training.throughput import Meter
from gasmcast.training.watchdog import Watchdog


class Feed:
  """A context manager around training: the batches of one run, and what loads them.

  Args:
    train_batches: start step -> endless batches from there on.
    steps: of the whole run.
    meter: is told how long the devices wait for data.
  """

  def __init__(
    self,
    train_batches: Callable[[int], Iterator[Batch]],
    steps: int,
    mesh: Mesh,
    errors: DataErrors,
    watchdog: Watchdog,
    meter: Meter,
  ):
    self._train_batches, self._steps, self._mesh = train_batches, steps, mesh
    self._errors, self._watchdog, self._meter = errors, watchdog, meter
    self._opened = contextlib.ExitStack()

  def open(self, step: int) -> dict[str, jax.Array] | None:
    """The batch behind `step`; what was open before is closed. None behind the last step."""
    self._opened.close()
    self._batches = self._opened.enter_context(closing(self._train_batches(step)))
    return self.load(step + 1)

  def load(self, step: int, running: jax.Array | None = None) -> dict[str, jax.Array] | None:
    """The batch of `step`, the one behind that before. None behind the last step.

    Args:
      running: a result of the step that runs meanwhile.

    Raises:
      TrainingError: there is none.
      ConfigError: it can't be divided by the devices.
    """
    if step > self._steps:
      return None
    with self._meter.waiting(running), self._watchdog.loading(step):
      batch = next(self._batches, None)
    if batch is None:
      raise TrainingError(f"The training data ended before step {step} of {self._steps}; they must repeat without end.")
    return shard_batch(self._errors.strip(batch, "train", step), self._mesh)

  def __enter__(self) -> "Feed":
    return self

  def __exit__(self, *_) -> None:
    self._opened.close()


def first_batch(train_batches: Callable[[int], Iterator[Batch]]) -> Batch:
  """The first, for its shapes."""
  with closing(train_batches(0)) as batches:
    batch = next(batches, None)
  if batch is None:
    raise TrainingError("The training data hold no batch; they need at least one, and must repeat without end.")
  return batch


@contextlib.contextmanager
def closing(batches: Iterator[Batch]) -> Iterator[Iterator[Batch]]:
  """Closes them afterwards, where they can be: generators and data workers can, plain iterators can't."""
  try:
    yield batches
  finally:
    if hasattr(batches, "close"):
      batches.close()
