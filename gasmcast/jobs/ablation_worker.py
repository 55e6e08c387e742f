"""A worker of an ablation: takes trainings of the grid until all have a result, trains and evaluates each.

Every training has a working directory of its own like any other run, with log.txt of what it would print. Its result,
result.json, is written last: what has one is done, what has none is begun or gone on with by whoever takes its lease.
"""

import contextlib
import dataclasses
import gc
import pathlib
import statistics
import time
import traceback
from collections.abc import Generator, Mapping
from typing import Any

import jax
import numpy as np
from rich.console import Console

from gasmcast.core import disk, leases
from gasmcast.core.config import parse, to_dict
from gasmcast.core.errors import DataError, Stopped, TrainingError, WorkdirError
from gasmcast.core.manifest import atomic_file, read_json, write_json
from gasmcast.fusion.cost import fusion_macs
from gasmcast.jobs import evaluate, train
from gasmcast.jobs.ablation import Cell, Plan
from gasmcast.jobs.experiment import Experiment
from gasmcast.metrics.classification import pairs, pooled
from gasmcast.systems.fusion_classifier import AUXILIARY
from gasmcast.training.tracking import read_lines

RESULT = "result.json"
_LEASE, _LEASE_SECONDS = ".claim", 60.0
_WAIT = (0.05, 2.0)  # seconds between two looks for work, growing from the first to the second


@dataclasses.dataclass(frozen=True)
class Result:
  """What came of one training.

  Attributes:
    identity: of what was trained, see `Plan.identity`.
    value: the number that is compared, on the split that is reported; None where the training failed.
    validation: the same on validation.
    examples: of the split that is reported.
    pairs: kind -> share told apart of the clips predicted as one of a pair of classes, all pairs together.
    trained: parameters, auxiliary heads apart.
    macs: multiply-accumulates of a clip in everything behind the backbones.
    step_seconds: median of a training step, without validation, checkpoints and compiling.
    step_bytes: that a step needs, as the compiler planned it; None where it does not tell.
    seconds: from the beginning to the end of this training, its evaluation included.
    failed: why there is no value.
  """

  identity: str
  value: float | None = None
  validation: float | None = None
  examples: int = 0
  pairs: dict[str, float] = dataclasses.field(default_factory=dict)
  trained: int = 0
  macs: int = 0
  step_seconds: float = 0.0
  step_bytes: float | None = None
  seconds: float = 0.0
  failed: str = ""


def work(raw: Mapping[str, Any], workdir: str, command: str) -> None:
  """Works on the grid until every training has a result, by whoever.

  Args:
    raw, workdir, command: of the experiment of the whole ablation.

  Raises:
    Stopped: told to stop; the training is saved.
    WorkdirError, DataError: what no other training would do better.
  """
  plan = Plan(Experiment(raw, workdir, command, Console(quiet=True)))
  root = pathlib.Path(workdir)
  with contextlib.closing(_claims(plan, root)) as claims:  # an interruption gives back the lease
    for cell in claims:
      with disk.explained(root):
        write_json(root / cell.folder / RESULT, to_dict(_result(plan, cell, root / cell.folder)))
      gc.collect()  # the next training needs the memory
      jax.clear_caches()


def read_result(plan: Plan, workdir: pathlib.Path, cell: Cell) -> Result | None:
  """The result of a training, None if it has none, or one of another configuration.

  Raises:
    DataError: the file is damaged; the message names it.
  """
  file = workdir / cell.folder / RESULT
  if not file.exists():
    return None
  result = parse(Result, read_json(file), str(file))
  return result if result.identity == plan.identity(cell) else None


def _claims(plan: Plan, root: pathlib.Path) -> Generator[Cell, None, None]:
  """Trainings without a result, each under its lease while the caller works on it; stands by while others do."""
  pause, left = _WAIT[0], list(plan.cells)
  while left:
    left, claimed = [cell for cell in left if read_result(plan, root, cell) is None], False
    for cell in left:
      with disk.explained(root):
        (root / cell.folder).mkdir(parents=True, exist_ok=True)
        lease = leases.take_over(root / cell.folder / _LEASE, _LEASE_SECONDS)
      if lease is None:
        continue
      try:
        with lease:
          if read_result(plan, root, cell) is None:  # it may have got one between the look and the lease
            claimed = True
            yield cell
      finally:
        lease.release()
    pause = _WAIT[0] if claimed else min(2 * pause, _WAIT[1])
    if left and not claimed:
      time.sleep(pause)


def _result(plan: Plan, cell: Cell, folder: pathlib.Path) -> Result:
  """Trains and evaluates. A training that diverges, or that does not fit into memory, is a result too."""
  identity, began = plan.identity(cell), time.monotonic()
  with open(folder / "log.txt", "a", encoding="utf-8") as log:
    try:
      experiment = plan.experiment(cell, Console(file=log, width=160))
      outcome = train.train(experiment)
      if outcome.status == "terminated":
        raise Stopped(outcome.message)
      evaluate.run(experiment)
    except (Stopped, WorkdirError, DataError):
      raise
    except Exception as error:
      if not isinstance(error, TrainingError):
        with atomic_file(folder / "error.txt") as file:
          file.write("".join(traceback.format_exception(error)).encode("utf-8"))
      return Result(identity, seconds=time.monotonic() - began, failed=" ".join(f"{error}".split()) or repr(error))
  return _measured(plan, experiment, folder, identity, time.monotonic() - began)


def _measured(plan: Plan, experiment: Experiment, folder: pathlib.Path, identity: str, seconds: float) -> Result:
  config, splits = plan.config, read_json(folder / "metrics.json")["splits"]
  lines = [line for line in read_lines(folder / "metrics.jsonl") if line.get("split") == "train"]
  speeds = [line["clips_per_second"] for line in lines[1:] or lines]  # the first may hold what comes before training
  memory = [line["memory/step_mb"] for line in lines if line.get("memory/step_mb") is not None]
  parts = experiment.parameters()
  trained = sum(n["trainable"] for name, n in parts.items() if not name.startswith(f"fusion/{AUXILIARY}"))
  return Result(
    identity=identity,
    value=splits[config.split][config.metric],
    validation=splits["validation"][config.metric],
    examples=int(splits[config.split]["examples"]),
    pairs=_told_apart(folder, config.split),
    trained=trained,
    macs=sum(fusion_macs(experiment.model.fusion, experiment.fusion_shapes(), experiment.class_count).values()),
    step_seconds=experiment.data.global_batch / statistics.median(speeds),
    step_bytes=memory[-1] * 1e6 if memory else None,
    seconds=seconds,
  )


def _told_apart(folder: pathlib.Path, split: str) -> dict[str, float]:
  names = read_json(folder / "evaluation" / f"{split}.json")
  with np.load(folder / "evaluation" / f"{split}.npz", allow_pickle=False) as arrays:
    sums = {name.removeprefix("sums/"): arrays[name] for name in arrays.files if name.startswith("sums/")}
  shares = {}
  for kind, listed in names["pairs"].items():
    inside = pooled(pairs(sums, [tuple(pair) for pair in listed], names["classes"])).inside
    if inside is not None:
      shares[kind] = inside
  return shares
