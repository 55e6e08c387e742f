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
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh
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


def fit(
  system: System,
  train_batches: Callable[[int], Iterator[Batch]],
  validation_batches: Callable[[], Iterator[Batch]],
  config: TrainConfig,
  workdir: str | os.PathLike,
  identity: Mapping[str, Any],
  *,
  mesh: Mesh | None = None,
  pretrained: Mapping[str, PyTree] | None = None,
  console: Console | None = None,
) -> FitResult:
  """Trains `system` in `workdir`, or goes on with the run that is there.

  Args:
    train_batches: start step -> endless batches from there on: the rows of this process, equally many on each.
    validation_batches: -> the batches of the whole split, the last filled up with rows of index -1.
    identity: what decides the run, as JSON: the configuration as a dict ("config"), the fingerprint of the data
      ("data"). A working directory that holds another identity is refused. The hash of the frozen parameters is added.
    mesh: by default all devices.
    pretrained: a part of the variables, see `create_state`.

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
    mesh = mesh or make_mesh(config.sharding.model)
    tx, schedule = make_optimizer(config.optim, config.steps)
    rng = jax.random.fold_in(jax.random.key(config.seed), stream_id("init"))
    example = errors.strip(_first(train_batches), "train", 1)
    state = create_state(system, tx, rng, example, mesh, config.sharding, pretrained)
    train = compile_train_step(system, tx, schedule, config.seed, state)
    evaluation = compile_eval_step(system, state)
    identity = {**to_dict(identity), "frozen": fingerprint(state.frozen)}

    # 2. Resume, or try one validation batch.
    checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints"))
    restored = checkpoints.restore(state, identity)
    state, meta = (
      (restored.state, restored.meta) if restored else (state, {"selection": {}, "counts": {}, "status": ""})
    )
    selection, start = parse(Selection, meta["selection"]), int(state.step)
    tracker = stack.enter_context(Tracker(workdir, start, config.steps, config.best_metric, console))
    for note in restored.notes if restored else [f"Step {step} was never finished." for step in checkpoints.steps()]:
      tracker.note(note)
    if meta["status"] in ("finished", "patience"):
      return _end(meta["status"], start, selection, config, tracker)
    monitor = Monitor(
      system,
      tracker,
      parse(Counts, meta["counts"]),
      log_every=config.log_every,
      max_non_finite=config.max_non_finite,
      max_error_share=config.max_error_share,
    )

    def validate(state: TrainState, step: int, limit: int | None = None) -> dict[str, float] | None:
      with _closing(validation_batches()) as batches:
        stripped = (errors.strip(batch, "validation", step) for batch in itertools.islice(batches, limit))
        sums = evaluate(evaluation, state, stripped, mesh, lambda: termination.signalled)
      return None if sums is None else summarize(system, sums)

    if start:
      tracker.note(f"Resuming at step {start} of {config.steps}.")
    elif (numbers := validate(state, 0, limit=1)) and config.best_metric not in numbers:
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

      status = ""
      if termination.requested(step):
        status = "terminated"
      if selection.exhausted(config.patience):
        status = "patience"
      if selection.validated_at == config.steps:
        status = "finished"

      best = selection.best_step == step
      if (step, selection) != saved and (status or best or step % config.checkpoint_every == 0):
        monitor.flush()
        counts, chosen = to_dict(monitor.counts), to_dict(selection)
        meta = {"identity": identity, "position": step, "status": status, "counts": counts, "selection": chosen}
        checkpoints.save(state, meta, selection.best_step)
        saved = (step, selection)
      if status:
        checkpoints.wait()
        return _end(status, step, selection, config, tracker)

      index, batch = ahead
      state, metrics = train(state, batch)
      step += 1
      ahead = load(step + 1) if step < config.steps else None
      monitor.push(step, index, metrics)


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


def _end(status: str, step: int, selection: Selection, config: TrainConfig, tracker: Tracker) -> FitResult:
  message = {
    "finished": f"All {config.steps} steps are done.",
    "patience": f"Stopped early at step {step}: {selection.without_gain} validations without a gain.",
    "terminated": f"Told to stop: step {step} of {config.steps} is saved; the same command resumes there.",
  }[status]
  if selection.best_step is not None:
    message += f" Best {config.best_metric}: {selection.best_value:.4g} at step {selection.best_step}."
  tracker.note(message)
  return FitResult(status, step, selection.best_step, selection.best_value, message)
