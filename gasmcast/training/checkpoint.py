"""Checkpoints of a run: written beside the training, verified before they are used, kept while they are latest or best.

A step is a folder of Orbax (array data, "meta" as JSON) and, written last, checksums.json with the BLAKE3 of every file
in it. The checksums are the commit mark: a step without them was never finished. They are needed because array data
with a flipped bit would otherwise be restored without an error. Frozen parameters are not stored.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from gasmcast.core import disk
from gasmcast.core.config import difference
from gasmcast.core.errors import WorkdirError
from gasmcast.core.manifest import hash_file, read_json, write_json
from gasmcast.training.finite import require_finite
from gasmcast.training.state import TrainState

CHECKSUMS = "checksums.json"
KEPT_LATEST = 2  # the newest, and the one to fall back to


@dataclasses.dataclass(frozen=True)
class Restored:
  """A state as it was saved.

  Attributes:
    state: with the frozen parameters of the state that was given as target.
    meta: the JSON saved beside it.
    notes: what had to be left aside on the way, as sentences.
  """

  state: TrainState
  meta: dict[str, Any]
  notes: tuple[str, ...]


class _Unfinished(Exception):
  """A step whose saving was interrupted."""


@dataclasses.dataclass
class _Kept:
  """An Orbax preservation policy. Which step is best is told, not ranked: the loop has already decided it.

  Attributes:
    named: kept besides the newest.
    aside: can't be restored: kept until the next save, and never counted as one to fall back to.
  """

  named: tuple[int | None, ...] = ()
  aside: frozenset[int] = frozenset()

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    usable = [checkpoint.step for checkpoint in checkpoints if checkpoint.step not in self.aside]
    kept = {*usable[-KEPT_LATEST:], *self.named}
    return [checkpoint.step in kept for checkpoint in checkpoints]


class _Manager(ocp.CheckpointManager):
  """Orbax's, which leaves SIGTERM to `termination.Termination`.

  All processes agree on the question at which they are told of the signal by its number. Orbax asks too, with the step
  as the number, and the loop would then wait for a number that it never asks with, or has passed.
  """

  def reached_preemption(self, step: int) -> bool:
    """Never asks."""
    return False


class Checkpoints:
  """The checkpoints in one folder. A context manager: leaving it waits until everything is on the disk.

  Kept are the two newest, the best and one to go back to, and until the next save what these were before. With several
  processes every method is called on each of them, and the folder is on a file system that all share.
  """

  def __init__(self, folder: str | os.PathLike):
    self.folder = pathlib.Path(folder).absolute()  # Orbax reports a relative path only after the save
    self._kept = _Kept()
    self._manager = _Manager(self.folder, options=ocp.CheckpointManagerOptions(preservation_policy=self._kept))
    self._sealer = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
    self._sealed: concurrent.futures.Future | None = None
    self._needed = 0
    self._named: tuple[int | None, ...] = ()  # of the newest step

  def steps(self) -> list[int]:
    """All steps in the folder, in order."""
    return sorted(self._manager.all_steps())

  def save(
    self, state: TrainState, meta: Mapping[str, Any], best_step: int | None = None, good_step: int | None = None
  ) -> None:
    """Starts saving; returns as soon as the arrays are copied, so that they may be donated.

    Steps at or beyond this one are left from a run that fell back to an earlier step, and are removed.

    Args:
      meta: what JSON can hold, with "identity", see `restore`.
      best_step: the best step so far, which is kept; this one, an earlier one, or None.
      good_step: one more to keep, see `recovery.Recovery`.

    Raises:
      NonFinite: the state holds nan or infinity; nothing is written.
      WorkdirError: the disk was full in the save before this one, or Orbax declined the step.
      Exception: whatever else failed in the save before this one.
    """
    self.wait()
    require_finite(state)
    step = int(state.step)
    for abandoned in [other for other in self.steps() if other >= step]:
      self._manager.delete(abandoned)
    # Orbax deletes when the arrays are written, and a step counts when its checksums are, which is later: until then
    # what the step before named is what a killed run comes back to.
    self._kept.named = (best_step, good_step, *self._named)
    self._named = (best_step, good_step)
    self._kept.aside -= {step}
    self._needed = max(sum(leaf.nbytes for leaf in jax.tree.leaves(_learned(state))), self._size_before())
    stored = ocp.args.JsonSave({**meta, "best_step": best_step, "good_step": good_step})
    arguments = ocp.args.Composite(state=ocp.args.StandardSave(_learned(state)), meta=stored)
    with self._explained():
      saved = self._manager.save(step, args=arguments)
    if not saved:
      raise WorkdirError(
        f"Step {step} was not saved in {self.folder}, which holds {self.steps()}; use another workdir."
      )
    self._sealed = self._sealer.submit(self._seal, step)

  def _seal(self, step: int) -> None:
    self._manager.wait_until_finished()
    if jax.process_index() == 0:
      write_json(self.folder / str(step) / CHECKSUMS, checksums(self.folder / str(step)))

  def wait(self) -> None:
    """Returns when the last save is on the disk, or raises what went wrong with it: see `save`."""
    sealed, self._sealed = self._sealed, None
    if sealed is not None:
      with self._explained():
        sealed.result()

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # Orbax tells of a full disk in many types
      if disk.is_full(error, self.folder):
        room = f"{disk.free(self.folder)} A checkpoint needs about {self._needed} bytes."
        raise disk.no_space(self.folder, room) from error
      raise

  def _size_before(self) -> int:
    """Bytes of the files of the newest step, 0 if there is none."""
    folder = self.folder / str(max(self.steps(), default="none"))
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

  def restore(
    self, target: TrainState, identity: Mapping[str, Any], which: Literal["latest", "best"] | int = "latest"
  ) -> Restored | None:
    """The state of a step, placed as `target` is, whatever devices saved it.

    "latest" falls back to the step before when the newest is damaged, and says so in the notes; nothing is deleted.

    Args:
      identity: what must not have changed since the save ("config", "data", ...), compared with meta["identity"]; the
        entries that are absent here are not compared.

    Returns:
      None if the folder holds no finished step.

    Raises:
      WorkdirError: the identity differs (all differing fields are named), the step asked for does not exist, or no step
        can be restored.
    """
    self.wait()
    if jax.process_count() > 1:  # process 0 alone writes checksums.json; the others must not look before it is there
      multihost_utils.sync_global_devices("saved")
    if which == "latest":
      candidates = self.steps()[::-1]
    else:
      candidates = [self._best_step() if which == "best" else which]
      if candidates[0] not in self.steps():
        raise WorkdirError(
          f"{self.folder} has no checkpoint {which!r}; it holds the steps {self.steps()}. Train on (--job train with "
          "the same --workdir) until the first validation."
        )
    problems, unfinished = [], 0
    for step in candidates:
      try:
        meta = self._verified_meta(step)
        self._check_identity(step, meta["identity"], identity)
        restored = self._manager.restore(
          step, args=ocp.args.Composite(state=ocp.args.StandardRestore(_abstract(_learned(target))))
        )
      except WorkdirError:
        raise
      except _Unfinished:
        unfinished += 1
        problems.append(f"Step {step} was never finished and is left aside.")
      except Exception as error:  # Orbax raises KeyError, ValueError, OSError and more for damaged steps
        problems.append(f"Step {step} can't be restored and is left aside: {error}")
      else:
        if which == "latest":
          self._kept.aside = frozenset(other for other in candidates if other > step)
          self._named = (meta["best_step"], meta["good_step"])
        return Restored(target.replace(**restored.state), meta, tuple(problems))
    if unfinished < len(problems) or which != "latest":
      raise WorkdirError(
        f"No checkpoint in {self.folder} can be restored. {' '.join(problems)} "
        "Bring back a copy of the folder, or use another workdir to start afresh."
      )
    return None

  def _best_step(self) -> int | None:
    for step in self.steps()[::-1]:
      with contextlib.suppress(Exception):  # a damaged newest step is no reason not to find the best
        return self._verified_meta(step)["best_step"]
    return None

  def _verified_meta(self, step: int) -> dict[str, Any]:
    folder = self.folder / str(step)
    if not (folder / CHECKSUMS).exists():
      raise _Unfinished
    expected, found = read_json(folder / CHECKSUMS), checksums(folder)
    if damaged := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
      raise OSError(f"{len(damaged)} of {len(expected)} files are not as they were written, the first is {damaged[0]}")
    return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta

  def _check_identity(self, step: int, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    lines = [line for key in sorted(now) for line in difference(saved.get(key), now[key], key)]
    if lines:
      raise WorkdirError(
        f"{self.folder} holds another run (step {step}); {len(lines)} field(s) differ, saved -> now: "
        f"{'; '.join(lines)}. Restore these values to resume it, or use another workdir for a new run."
      )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_) -> None:
    with self._explained(), contextlib.ExitStack() as stack:
      stack.callback(self._manager.close)  # raises again what failed in the background
      stack.callback(self._sealer.shutdown)
      self.wait()


def _learned(state: TrainState) -> dict[str, Any]:
  return {field.name: getattr(state, field.name) for field in dataclasses.fields(state) if field.name != "frozen"}


def _abstract(tree: Any) -> Any:
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree)


def checksums(folder: pathlib.Path) -> dict[str, str]:
  """BLAKE3 of every file of a step but the checksums themselves, by path."""
  files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
  return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}
