"""A trace of a few steps for the profiler of TensorBoard, on request. Whatever fails here never stops the training."""

import logging
import os
import pathlib
from collections.abc import Callable, Sequence

import jax

from gasmcast.core.config import require

_log = logging.getLogger(__name__)


def check_profile(profile: Sequence[int]) -> None:
  """Raises ConfigError unless `profile` is empty or names the first and the last step of a trace."""
  if profile:
    require(
      len(profile) == 2 and 1 <= profile[0] <= profile[1],
      f"config.train.profile = {tuple(profile)}: a trace has a first and a last step, counted from 1; "
      "use two whole numbers such as (20, 25), or () for no trace.",
    )


class Profiler:
  """Traces the steps `profile[0]` to `profile[1]` into a folder. A context manager; process 0 alone traces.

  The trace is about host and devices, in the format of TensorBoard's profiler (plugins/profile/<time>). A run that is
  resumed between the two steps traces what is left of them.

  Args:
    profile: (first step, last step), or empty for none.
    folder: gets the trace.
    say: is told where it is.
  """

  def __init__(self, profile: Sequence[int], folder: str | os.PathLike, say: Callable[[str], None]):
    self._wanted = tuple(profile) if profile and jax.process_index() == 0 else ()
    self._folder, self._say = pathlib.Path(folder), say
    self._first: int | None = None

  def before(self, step: int) -> None:
    """To be called before `step` is computed."""
    if self._wanted and self._first is None and self._wanted[0] <= step <= self._wanted[1]:
      self._guarded(lambda: jax.profiler.start_trace(self._folder))
      if self._wanted:
        self._first = step

  def after(self, step: int, result: jax.Array) -> None:
    """To be called after `step` was given to the devices; `result` is what it computes."""
    if self._first is not None and step >= self._wanted[1]:
      self._stop(step, result)

  def _stop(self, step: int, result: jax.Array | None) -> None:
    first, self._first = self._first, None

    def stop() -> None:
      jax.block_until_ready(result)
      jax.profiler.stop_trace()

    self._guarded(stop)
    if self._wanted:
      self._wanted = ()
      self._say(
        f"Steps {first} to {step} are traced in {self._folder}: pip install tensorboard xprof, then "
        f"tensorboard --logdir {self._folder} and the tab Profile; or open its *.trace.json.gz in ui.perfetto.dev."
      )

  def _guarded(self, action: Callable[[], None]) -> None:
    try:
      action()
    except Exception as error:
      _log.warning("The trace of config.train.profile failed and is given up; training goes on: %r", error)
      self._wanted = ()

  def __enter__(self) -> "Profiler":
    return self

  def __exit__(self, *_) -> None:
    if self._first is not None:  # the run ended before the last step
      self._guarded(jax.profiler.stop_trace)
