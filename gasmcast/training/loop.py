"""The training loop. One call trains, resumes or recognises a finished run.

Order of operations:
  1. devices, optimiser, state (created where it will live) and compiled steps;
  2. resume from the newest restorable checkpoint, or try one validation batch before the first step;
  3. batches from the step reached;
  4. then, until the end, for the state after `step` updates:
       validate (whole split), early stopping, checkpoint, stop if told to, train one step, log.
The validation and the checkpoint of a step come before the next update, so what a resumed run does after step k is
what the uninterrupted run did.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh
from rich.console import Console

from gasmcast.core.config import parse, require, to_dict
from gasmcast.core.types import Batch, PyTree, System
from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.config import TrainConfig
from gasmcast.training.data_errors import DataErrors
from gasmcast.training.evaluation import Validation
from gasmcast.training.feed import Feed, first_batch
from gasmcast.training.finite import NonFinite, require_finite
from gasmcast.training.lock import WorkdirLock
from gasmcast.training.monitor import Monitor
from gasmcast.training.profiling import Profiler
from gasmcast.training.progress import OVER, FitResult, Progress, result_of, status_of
from gasmcast.training.recovery import Recovery, roll_back
from gasmcast.training.selection import Selection
from gasmcast.training.sharding import make_mesh
from gasmcast.training.start import begin
from gasmcast.training.state import TrainState, fingerprint, place_scale
from gasmcast.training.step import CompiledStep, compile_eval_step, compile_train_step
from gasmcast.training.termination import Termination
from gasmcast.training.tracking import Tracker
from gasmcast.training.watchdog import Watchdog


def fit(
  system: System,
  train_batches: Callable[[int], Iterator[Batch]],
  validation_batches: Callable[[], Iterator[Batch]],
  config: TrainConfig,
  workdir: str | os.PathLike,
  identity: Mapping[str, Any],
  *,
  pretrained: Mapping[str, PyTree] | None = None,
  console: Console | None = None,
  accepted: Callable[[], None] = lambda: None,
  validated: Callable[[int, Mapping[str, float]], None] = lambda step, numbers: None,
) -> FitResult:
  """Trains `system` in `workdir`, or goes on with the run that is there.

  Args:
    train_batches: start step -> endless batches from there on: the rows of this process, equally many on each.
    validation_batches: -> the batches of the whole split, the last filled up with rows of index -1.
    identity: what else decides the run, as JSON: the configuration of model and data ("config"), the fingerprint of
      the data ("data"). `config.identity()` ("train") and the hash of the frozen parameters ("frozen") are added. A
      working directory that holds another identity is refused.
    pretrained: a part of the variables, see `create_state`.
    accepted: called once, when it is clear that the working directory is this run's.
    validated: called with the step and the numbers after each validation, before its checkpoint; an exception ends the
      run, which can be resumed like one that was killed.

  Raises:
    ConfigError: nothing is trainable, a batch is not divisible by the devices, the best metric does not exist.
    WorkdirError: the folder holds another run, or no restorable checkpoint; it is in use, or full.
    TrainingError: too many non-finite steps or unreadable clips, or the data ended.
  """
  workdir = pathlib.Path(workdir)
  with contextlib.ExitStack() as stack:
    lock = stack.enter_context(WorkdirLock(workdir))
    watchdog = stack.enter_context(Watchdog(config.watchdog, workdir))
    termination = stack.enter_context(Termination())
    errors = stack.enter_context(DataErrors(workdir))

    # 1. Devices, optimiser, state, steps.
    mesh = make_mesh(config.sharding.model)
    example = errors.strip(first_batch(train_batches), "train", 1)
    state, train = _compile(system, config, mesh, example, pretrained)
    evaluation = compile_eval_step(system, state)
    identity = {**to_dict(identity), "train": config.identity(), "frozen": fingerprint(state.frozen)}

    # 2. Resume.
    checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints"))
    state, progress, notes = _resume(checkpoints, state, identity)
    accepted()
    start = int(state.step)
    shown = (config.steps, config.best_metric, console, config.trackers, identity)
    tracker = stack.enter_context(Tracker(workdir, start, *shown))
    for note in filter(None, (lock.note, *notes)):
      tracker.note(note)
    if progress.status in OVER:
      return _end(progress, start, config, tracker)

    # 3. Batches from the step reached.
    monitor = Monitor(system, tracker, config, progress.counts, tuple(state.trainable))
    feed = stack.enter_context(Feed(train_batches, config.steps, mesh, errors, watchdog, monitor.meter))
    profiler = stack.enter_context(Profiler(config.profile, workdir / "profile", tracker.note))

    # 4. The loop.
    validation = Validation(system, evaluation, validation_batches, mesh, errors, watchdog, termination)
    saving = _Saving(checkpoints, identity, lock, watchdog, monitor)
    services = (validation, saving, feed, monitor, tracker, profiler, termination, watchdog)
    return _Run(config, train, *services, validated, state, progress).to_the_end()


def _compile(
  system: System, config: TrainConfig, mesh: Mesh, example: Batch, pretrained: Mapping[str, PyTree] | None
) -> tuple[TrainState, CompiledStep]:
  """The state before the first step, and the step, which is compiled when it is first called."""
  _check_parts(example, mesh, config.accumulate)
  state, tx, schedule = begin(system, config, example, mesh, pretrained)
  options = {"accumulate": config.accumulate, "average_decay": config.average_decay}
  return state, compile_train_step(system, tx, schedule, config.seed, state, **options)


def _check_parts(example: Batch, mesh: Mesh, parts: int) -> None:
  rows = next(iter(example.values())).shape[0] * jax.process_count()
  devices = mesh.shape["data"]
  require(
    rows % (parts * devices) == 0,
    f"config.train.accumulate = {parts}: a global batch of {rows} rows can't be taken in {parts} equal parts on "
    f"{devices} devices; use a batch that is a multiple of {parts * devices}.",
  )


def _resume(
  checkpoints: Checkpoints, fresh: TrainState, identity: Mapping[str, Any]
) -> tuple[TrainState, Progress, Sequence[str]]:
  """(state, progress, what to tell about it), of the newest restorable checkpoint or of a run that begins."""
  restored = checkpoints.restore(fresh, identity)
  if restored is None:
    return fresh, Progress(), [f"Step {step} was never finished and is left aside." for step in checkpoints.steps()]
  progress = parse(Progress, restored.meta["progress"])
  resuming = [] if progress.status in OVER else [f"Resuming at step {int(restored.state.step)}."]
  return restored.state, progress, [*restored.notes, *resuming]


@dataclasses.dataclass(frozen=True)
class _Saving:
  """Checkpoints of a run: its state with its progress."""

  checkpoints: Checkpoints
  identity: Mapping[str, Any]
  lock: WorkdirLock
  watchdog: Watchdog
  monitor: Monitor

  def __call__(self, state: TrainState, step: int, progress: Progress) -> None:
    self.watchdog.at("saving", step)
    self.lock.require_held()
    meta = {"identity": self.identity, "progress": to_dict(progress)}
    with self.monitor.meter.apart("checkpoint"):
      self.checkpoints.save(state, meta, progress.selection.best_step, progress.recovery.good_step)


@dataclasses.dataclass
class _Run:
  """A run from where it stands to its end: what it uses, and behind that where it stands.

  Attributes:
    state, progress: after `step` updates tried; the counts of the progress are those of the monitor.
    ahead: the batch of the next step, on its way to the devices; None behind the last.
    saved: (step, selection) of the last checkpoint.
  """

  config: TrainConfig
  train: CompiledStep
  validation: Validation
  saving: _Saving
  feed: Feed
  monitor: Monitor
  tracker: Tracker
  profiler: Profiler
  termination: Termination
  watchdog: Watchdog
  validated: Callable[[int, Mapping[str, float]], None]
  state: TrainState
  progress: Progress
  step: int = 0
  ahead: dict[str, jax.Array] | None = None
  saved: tuple[int, Selection] | None = None

  def to_the_end(self) -> FitResult:
    """What is not finite may lead back to an earlier state, but never to earlier data."""
    self._start()
    while True:
      try:
        self._validate_if_due()
        status = status_of(self.progress.selection, self.config, self.termination.requested())
        self._save_if_due(status)
        if status:
          self.saving.checkpoints.wait()
          return _end(dataclasses.replace(self.progress, status=status), self.step, self.config, self.tracker)
        self._train()
      except NonFinite as error:
        if self.config.non_finite != "rollback":
          raise
        self._go_back(error)

  def _start(self) -> None:
    self.step = int(self.state.step)
    if self.step == 0:
      self._try_validation()
    begins_anew = self.config.non_finite == "rollback" and self.progress.recovery.good_step is None
    self.saved = None if begins_anew else (self.step, self.progress.selection)  # to go back to, step 0 is saved too
    self.ahead = self.feed.open(self.step)
    self.monitor.begin(self.train, self.state, self.ahead)

  def _try_validation(self) -> None:
    """What would end the run after its first thousand steps ends it now."""
    numbers = self.validation(self.state, 0, limit=1)
    require(
      not numbers or self.config.best_metric in numbers,
      f"config.train.best_metric = {self.config.best_metric!r} is no number of the validation; use one of "
      f"{', '.join(numbers or ())}.",
    )

  def _validate_if_due(self) -> None:
    config, step, selection = self.config, self.step, self.progress.selection
    if step <= selection.validated_at or (step % config.validate_every and step != config.steps):
      return
    self.monitor.flush()
    require_finite(self.state)  # or its numbers might make it the best
    with self.monitor.meter.apart("validation"):
      numbers = self.validation(self.state, step)
    if numbers is None:  # told to stop; the resumed run validates this step
      return
    value = numbers[config.best_metric]
    self.progress = dataclasses.replace(self.progress, selection=selection.after(step, value, config.best_mode))
    if config.optim.schedule == "plateau":
      self._lower_if_flat(value)
    self.tracker.log(step, "validation", numbers)
    self.validated(step, numbers)

  def _lower_if_flat(self, value: float) -> None:
    """One more validation of the schedule "plateau"."""
    config, before = self.config, self.progress.plateau
    after = before.after(value, config.best_mode, config.optim.plateau)
    self.progress = dataclasses.replace(self.progress, plateau=after)
    if after.scale != before.scale:
      self.state = self.state.replace(lr_scale=place_scale(after.scale, self.state.step.sharding.mesh))
      self.tracker.note(
        f"{config.best_metric} has stopped getting better: the learning rate is now {after.scale:g} of the schedule's."
      )

  def _save_if_due(self, status: str) -> None:
    due = self.step == self.progress.selection.best_step or self.step % self.config.checkpoint_every == 0
    regular = due or self.saved is None
    if not (status or regular) or self.saved == (self.step, self.progress.selection):
      return
    self.monitor.flush()
    good = regular and not self.monitor.counts.non_finite
    recovery = self.progress.recovery
    self._save(status, dataclasses.replace(recovery, good_step=self.step) if good else recovery)

  def _save(self, status: str, recovery: Recovery) -> None:
    after = dataclasses.replace(self.progress, counts=self.monitor.counts, recovery=recovery)
    self.saving(self.state, self.step, dataclasses.replace(after, status=status))
    self.progress, self.saved = after, (self.step, after.selection)

  def _train(self) -> None:
    step = self.step + 1
    self.watchdog.at("training", step)
    self.profiler.before(step)
    self.state, metrics = self.monitor.run(step, self.train, self.state, self.ahead)
    self.step = step
    self.profiler.after(step, metrics["loss"])
    self.ahead = self.feed.load(step + 1, metrics["loss"])
    self.monitor.push(step, metrics)

  def _go_back(self, error: NonFinite) -> None:
    saving = self.saving
    self.step = self.step if self.monitor.last is None else self.monitor.last  # nothing is known yet of what runs
    allowed = (self.config.max_rollbacks, saving.checkpoints, saving.identity)
    self.state, recovery, note = roll_back(error, self.state, self.step, self.progress.recovery, *allowed)
    self.tracker.record(self.step, "rollback", {"rollbacks": recovery.rollbacks})
    self.tracker.note(note)
    self.monitor.forget_row()
    self._save("", recovery)
    self.ahead = self.feed.open(self.step)


def _end(progress: Progress, step: int, config: TrainConfig, tracker: Tracker) -> FitResult:
  result = result_of(progress, step, config)
  tracker.note(result.message)
  return result
