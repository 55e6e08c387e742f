"""SIGTERM as a question that the loop asks at every step, so that the run ends with a checkpoint of the current one."""

import signal
import threading

import jax
from jax.experimental import multihost_utils


class Termination:
  """While the context is open, SIGTERM sets a flag. Several processes agree on the step at which they stop.

  With several processes JAX itself catches the signal of each and finds a question that none has asked yet, so that all
  are told at the same place. Outside the main thread no handler can be installed and the signal keeps its usual effect.
  """

  def __init__(self):
    self._told = False
    self._asked = 0
    self._previous = None

  def __enter__(self) -> "Termination":
    if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
      self._previous = signal.signal(signal.SIGTERM, self._set)
    return self

  def __exit__(self, *_) -> None:
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)

  def _set(self, *_) -> None:
    self._told = True

  def requested(self) -> bool:
    """Whether to save and stop now. With several processes, every one asks equally often, at the same places."""
    if jax.process_count() > 1 and not self._told:
      self._asked += 1
      self._told = multihost_utils.reached_preemption_sync_point(self._asked)
    return self._told
