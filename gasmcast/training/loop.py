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
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from gasmcast.core.config import parse, require, to_dict
from gasmcast.core.errors import ConfigError, TrainingError
from gasmcast.core.rng import stream_id
from gasmcast.core.types import Batch, PyTree, System
from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.config import TrainConfig
from gasmcast.training.data_errors import DataErrors
from gasmcast.training.evaluation import evaluate, summarize
from gasmcast.training.finite import NonFinite
from gasmcast.training.lock import WorkdirLock
from gasmcast.training.monitor import Counts, Monitor
from gasmcast.training.optim import make_optimizer
from gasmcast.training.plateau import Plateau
from gasmcast.training.profiling import Profiler
from gasmcast.training.recovery import Recovery, roll_back
from gasmcast.training.selection import Selection
from gasmcast.training.sharding import make_mesh, shard_batch
from gasmcast.training.state import TrainState, create_state, fingerprint, place_scale
from gasmcast.training.step import compile_eval_step, compile_train_step
from gasmcast.training.termination import Termination
from gasmcast.training.tracking import Tracker
from gasmcast.training.watchdog import Watchdog


@dataclasses.dataclass(frozen=True)
class FitResult:
  """How a run ended.

  Attributes:
    status: "finished" (all steps), "patience" (early stopping) or "terminated" (SIGTERM; the same command resumes).
    steps: updates tried so far.
    best_step, best_value: of the best validation; None before the first.
    message: the same in one sentence.
  """

  status: Literal["finished", "patience", "terminated"]
  steps: int
  best_step: int | None
  best_value: float | None
  message: str


@dataclasses.dataclass(frozen=True)
class Progress:
  """What the host knows of a run beside its state. Travels in every checkpoint.

  Attributes:
    status: as in `FitResult`, "" while the run goes on.
    counts, selection, plateau: sums over its steps, the outcome of its validations, and what the schedule "plateau" has
      made of them.
    recovery: where it goes back to when it has to.
  """

  status: str = ""
  counts: Counts = dataclasses.field(default_factory=Counts)
  selection: Selection = dataclasses.field(default_factory=Selection)
  plateau: Plateau = dataclasses.field(default_factory=Plateau)
  recovery: Recovery = dataclasses.field(default_factory=Recovery)


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
    # 1. Devices, optimiser, state, steps.
    lock = stack.enter_context(WorkdirLock(workdir))
    watchdog = stack.enter_context(Watchdog(config.watchdog, workdir))
    termination = stack.enter_context(Termination())
    errors = stack.enter_context(DataErrors(workdir))
    mesh = make_mesh(config.sharding.model)
    tx, schedule = make_optimizer(config.optim, config.steps)
    rng = jax.random.fold_in(jax.random.key(config.seed), stream_id("init"))
    example = errors.strip(_first(train_batches), "train", 1)
    _check_parts(example, mesh, config.accumulate)
    averaging = config.average_decay > 0
    state = create_state(system, tx, rng, example, mesh, config.sharding, pretrained, averaging, config.optim)
    options = {"accumulate": config.accumulate, "average_decay": config.average_decay}
    train = compile_train_step(system, tx, schedule, config.seed, state, **options)
    evaluation = compile_eval_step(system, state)
    identity = {**to_dict(identity), "train": config.identity(), "frozen": fingerprint(state.frozen)}

    # 2. Resume, or try one validation batch.
    checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints"))
    state, progress, notes = _resume(checkpoints, state, identity)
    accepted()
    selection, plateau, recovery = progress.selection, progress.plateau, progress.recovery
    step = start = int(state.step)
    shown = (config.steps, config.best_metric, console, config.trackers, identity)
    tracker = stack.enter_context(Tracker(workdir, start, *shown))
    for note in filter(None, (lock.note, *notes)):
      tracker.note(note)
    if progress.status in ("finished", "patience"):
      return _end(progress, start, config, tracker)
    monitor = Monitor(system, tracker, config, progress.counts, tuple(state.trainable))
    profiler = stack.enter_context(Profiler(config.profile, workdir / "profile", tracker.note))

    def interrupted() -> bool:
      watchdog.at("validating", step)
      return termination.requested()

    def validate(state: TrainState, step: int, limit: int | None = None) -> dict[str, float] | None:
      with _closing(validation_batches()) as batches:
        stripped = (errors.strip(batch, "validation", step) for batch in itertools.islice(batches, limit))
        sums = evaluate(evaluation, state, stripped, mesh, interrupted)
      return None if sums is None else summarize(system, sums)

    if start == 0 and (numbers := validate(state, 0, limit=1)) and config.best_metric not in numbers:
      raise ConfigError(
        f"train.best_metric = {config.best_metric!r} is no number of the validation; use one of {', '.join(numbers)}."
      )

    def save(state: TrainState, status: str, recovery: Recovery) -> None:
      watchdog.at("saving", step)
      lock.require_held()
      progress = Progress(status, monitor.counts, selection, plateau, recovery)
      meta = {"identity": identity, "progress": to_dict(progress)}
      with monitor.meter.apart("checkpoint"):
        checkpoints.save(state, meta, selection.best_step, recovery.good_step)

    # 3. Batches from the step reached; the next one is always on its way to the device.
    feed = stack.enter_context(contextlib.ExitStack())
    batches = feed.enter_context(_closing(train_batches(start)))

    def load(step: int, running: jax.Array | None = None) -> tuple[np.ndarray, dict[str, jax.Array]]:
      with monitor.meter.waiting(running), watchdog.loading(step):
        batch = next(batches, None)
      if batch is None:
        raise TrainingError(
          f"The training data ended before step {step} of {config.steps}; they must repeat without end."
        )
      return np.asarray(batch["index"]), shard_batch(errors.strip(batch, "train", step), mesh)

    # 4. The loop. What is not finite may lead back to an earlier state, but never to earlier data.
    saved = None if config.non_finite == "rollback" and recovery.good_step is None else (start, selection)
    ahead = load(step + 1) if step < config.steps else None
    monitor.begin(train, state, ahead[1] if ahead else None)
    while True:
      try:
        if step > selection.validated_at and (step % config.validate_every == 0 or step == config.steps):
          monitor.flush()
          with monitor.meter.apart("validation"):
            numbers = validate(state, step)
          if numbers is not None:  # None: told to stop; the resumed run validates this step
            selection = selection.after(step, numbers[config.best_metric], config.best_mode)
            if config.optim.schedule == "plateau":
              state, plateau = _lower(state, plateau, numbers[config.best_metric], config, tracker)
            tracker.log(step, "validation", numbers)
            validated(step, numbers)

        status = _status(step, selection, config, told=termination.requested())
        regular = step == selection.best_step or step % config.checkpoint_every == 0
        if (status or regular) and (step, selection) != saved:
          monitor.flush()
          good = regular and not monitor.counts.non_finite
          after = dataclasses.replace(recovery, good_step=step) if good else recovery
          save(state, status, after)
          recovery = after
          saved = (step, selection)
        if status:
          checkpoints.wait()
          return _end(Progress(status, selection=selection), step, config, tracker)

        watchdog.at("training", step + 1)
        index, batch = ahead
        profiler.before(step + 1)
        state, metrics = monitor.run(step + 1, train, state, batch)
        step += 1
        profiler.after(step, metrics["loss"])
        ahead = load(step + 1, metrics["loss"]) if step < config.steps else None
        monitor.push(step, index, metrics)
      except NonFinite as error:
        if config.non_finite != "rollback":
          raise
        step = step if monitor.last is None else monitor.last  # nothing is known yet of the step that runs
        state, recovery, note = roll_back(error, state, step, recovery, config.max_rollbacks, checkpoints, identity)
        tracker.record(step, "rollback", {"rollbacks": recovery.rollbacks})
        tracker.note(note)
        monitor.forget_row()
        save(state, "", recovery)
        saved = (step, selection)
        feed.close()
        batches = feed.enter_context(_closing(train_batches(step)))
        ahead = load(step + 1) if step < config.steps else None


def _lower(
  state: TrainState, plateau: Plateau, value: float, config: TrainConfig, tracker: Tracker
) -> tuple[TrainState, Plateau]:
  """Both after one more validation of the schedule "plateau"."""
  after = plateau.after(value, config.best_mode, config.optim.plateau)
  if after.scale == plateau.scale:
    return state, after
  tracker.note(
    f"{config.best_metric} has stopped getting better: the learning rate is now {after.scale:g} of the schedule's."
  )
  return state.replace(lr_scale=place_scale(after.scale, state.step.sharding.mesh)), after


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
  resuming = [] if progress.status in ("finished", "patience") else [f"Resuming at step {int(restored.state.step)}."]
  return restored.state, progress, [*restored.notes, *resuming]


def _status(step: int, selection: Selection, config: TrainConfig, told: bool) -> str:
  if selection.validated_at == config.steps:
    return "finished"
  if selection.exhausted(config.patience):
    return "patience"
  return "terminated" if told else ""


def _first(train_batches: Callable[[int], Iterator[Batch]]) -> Batch:
  with _closing(train_batches(0)) as batches:
    batch = next(batches, None)
  if batch is None:
    raise TrainingError("The training data hold no batch; they need at least one, and must repeat without end.")
  return batch


@contextlib.contextmanager
def _closing(batches: Iterator[Batch]) -> Iterator[Iterator[Batch]]:
  try:
    yield batches
  finally:
    if hasattr(batches, "close"):  # generators and data workers have it, plain iterators don't
      batches.close()


def _end(progress: Progress, step: int, config: TrainConfig, tracker: Tracker) -> FitResult:
  selection = progress.selection
  message = {
    "finished": f"All {config.steps} steps are done.",
    "patience": f"Stopped early at step {step}: {selection.without_gain} validations without a gain.",
    "terminated": f"Told to stop: step {step} of {config.steps} is saved; the same command resumes there.",
  }[progress.status]
  if selection.best_step is not None:
    message += f" Best {config.best_metric}: {selection.best_value:.4g} at step {selection.best_step}."
  tracker.note(message)
  return FitResult(progress.status, step, selection.best_step, selection.best_value, message)
