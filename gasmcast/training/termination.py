"""SIGTERM as a question that the loop asks once a step, so that the run ends with a checkpoint of the current step."""

import signal
import threading

import jax
from jax.experimental import multihost_utils


class Termination:
  """While the context is open, SIGTERM sets a flag. Several processes agree on the step at which they stop.

  With several processes JAX itself catches the signal of each and finds a step that none has passed, so that all save
  the same step. Outside the main thread no handler can be installed and the signal keeps its usual effect.

  Attributes:
    signalled: whether this process was told to stop (only ever True with a single process).
  """

  def __init__(self):
    self.signalled = False
    self._previous = None

  def __enter__(self) -> "Termination":
    if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
      self._previous = signal.signal(signal.SIGTERM, self._set)
    return self

  def __exit__(self, *_) -> None:
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)

  def _set(self, *_) -> None:
    self.signalled = True

  def requested(self, step: int) -> bool:
    """Whether to save and stop at `step`. With several processes, every one asks at every step."""
    if jax.process_count() == 1:
      return self.signalled
    return multihost_utils.reached_preemption_sync_point(step)
