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
from rich.console import Console

from gasmcast.core.config import parse, to_dict
from gasmcast.core.errors import ConfigError, TrainingError
from gasmcast.core.rng import stream_id
from gasmcast.core.types import Batch, PyTree, System
from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.config import TrainConfig
from gasmcast.training.data_errors import DataErrors
from gasmcast.training.evaluation import evaluate, summarize
from gasmcast.training.monitor import Counts, Monitor
from gasmcast.training.optim import make_optimizer
from gasmcast.training.selection import Selection
from gasmcast.training.sharding import make_mesh, shard_batch
from gasmcast.training.state import TrainState, create_state, fingerprint
from gasmcast.training.step import compile_eval_step, compile_train_step
from gasmcast.training.termination import Termination
from gasmcast.training.tracking import Tracker


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
    counts, selection: sums over its steps, and the outcome of its validations.
  """

  status: str = ""
  counts: Counts = dataclasses.field(default_factory=Counts)
  selection: Selection = dataclasses.field(default_factory=Selection)


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

  Raises:
    ConfigError: nothing is trainable, a batch is not divisible by the devices, the best metric does not exist.
    WorkdirError: the folder holds another run, or no restorable checkpoint.
    TrainingError: too many non-finite steps or unreadable clips, or the data ended.
  """
  workdir = pathlib.Path(workdir)
  with contextlib.ExitStack() as stack:
    # 1. Devices, optimiser, state, steps.
    termination = stack.enter_context(Termination())
    errors = stack.enter_context(DataErrors(workdir))
    mesh = make_mesh(config.sharding.model)
    tx, schedule = make_optimizer(config.optim, config.steps)
    rng = jax.random.fold_in(jax.random.key(config.seed), stream_id("init"))
    example = errors.strip(_first(train_batches), "train", 1)
    state = create_state(system, tx, rng, example, mesh, config.sharding, pretrained)
    train = compile_train_step(system, tx, schedule, config.seed, state)
    evaluation = compile_eval_step(system, state)
    identity = {**to_dict(identity), "train": config.identity(), "frozen": fingerprint(state.frozen)}

    # 2. Resume, or try one validation batch.
    checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints"))
    state, progress, notes = _resume(checkpoints, state, identity)
    accepted()
    selection, start = progress.selection, int(state.step)
    tracker = stack.enter_context(Tracker(workdir, start, config.steps, config.best_metric, console))
    for note in notes:
      tracker.note(note)
    if progress.status in ("finished", "patience"):
      return _end(progress, start, config, tracker)
    monitor = Monitor(system, tracker, config, progress.counts)

    def validate(state: TrainState, step: int, limit: int | None = None) -> dict[str, float] | None:
      with _closing(validation_batches()) as batches:
        stripped = (errors.strip(batch, "validation", step) for batch in itertools.islice(batches, limit))
        sums = evaluate(evaluation, state, stripped, mesh, lambda: termination.signalled)
      return None if sums is None else summarize(system, sums)

    if start == 0 and (numbers := validate(state, 0, limit=1)) and config.best_metric not in numbers:
      raise ConfigError(
        f"train.best_metric = {config.best_metric!r} is no number of the validation; use one of {', '.join(numbers)}."
      )

    # 3. Batches from the step reached; the next one is always on its way to the device.
    batches = stack.enter_context(_closing(train_batches(start)))

    def load(step: int) -> tuple[np.ndarray, dict[str, jax.Array]]:
      batch = next(batches, None)
      if batch is None:
        raise TrainingError(
          f"The training data ended before step {step} of {config.steps}; they must repeat without end."
        )
      return np.asarray(batch["index"]), shard_batch(errors.strip(batch, "train", step), mesh)

    # 4. The loop.
    step, saved = start, (start, selection)
    ahead = load(step + 1) if step < config.steps else None
    while True:
      if step > selection.validated_at and (step % config.validate_every == 0 or step == config.steps):
        monitor.flush()
        numbers = validate(state, step)
        if numbers is not None:  # None: told to stop; the resumed run validates this step
          selection = selection.after(step, numbers[config.best_metric], config.best_mode)
          tracker.log(step, "validation", numbers)
        monitor.restart_clock()

      status = _status(step, selection, config, told=termination.requested(step))
      due = status or step == selection.best_step or step % config.checkpoint_every == 0
      if due and (step, selection) != saved:
        monitor.flush()
        progress = Progress(status, monitor.counts, selection)
        checkpoints.save(state, {"identity": identity, "progress": to_dict(progress)}, selection.best_step)
        saved = (step, selection)
      if status:
        checkpoints.wait()
        return _end(Progress(status, monitor.counts, selection), step, config, tracker)

      index, batch = ahead
      state, metrics = train(state, batch)
      step += 1
      ahead = load(step + 1) if step < config.steps else None
      monitor.push(step, index, metrics)


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
