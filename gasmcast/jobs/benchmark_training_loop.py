"""Cases of the job benchmark: what the training loop adds to the bare step, and whether its memory grows.

A run begins with compiling, a validation and the opening of files, and it ends with others. What is to be timed lies
between. So `RunningLoop` runs `training.loop.fit` in a thread, with batches from memory, and stops it where it asks for
data: a call hands out so many batches, and returns when the loop asks for the next one and all devices are done. The
time of a call is the loop's everyday: transfer, step, reading the numbers of the step before, log line, checkpoint.
"""

import contextlib
import dataclasses
import gc
import io
import json
import pathlib
import queue
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from rich.console import Console

from gasmcast.core.config import require
from gasmcast.core.memory import Monitor
from gasmcast.core.timing import Side
from gasmcast.core.types import Batch
from gasmcast.jobs.benchmark import Prepared
from gasmcast.jobs.benchmark_peers import Peers
from gasmcast.jobs.benchmark_training_fusion import Fusion, endless
from gasmcast.jobs.benchmark_videos import scratch_folder
from gasmcast.reports.benchmark import Reading
from gasmcast.training.checkpoint import CHECKSUMS
from gasmcast.training.config import TrainConfig
from gasmcast.training.loop import fit
from gasmcast.training.optim import OptimConfig
from gasmcast.training.sharding import make_mesh, shard_batch
from gasmcast.training.start import begin
from gasmcast.training.step import compile_train_step

_NEVER = 10**9
_BATCHES = 4  # that come again and again
_TOLERANCE = 1e-4  # of the loss after so many steps, which are the same program on the same numbers
_SEAL_SECONDS = 60.0
_IDLE_THREADS = 2  # by which the native pools that write checkpoints vary; one left behind by each would be more


@dataclasses.dataclass(frozen=True)
class LoopCase:
  """The loop with its log lines and checkpoints beside the bare compiled step, whose batches are on the device already.

  Three sides of so many steps each: a loop that saves nothing, one that saves a checkpoint at the beginning of a call
  and has it on the disk with its checksums before the call ends, and the bare steps. The difference of the two loops is
  the time of a checkpoint, which a run pays once in `checkpoint_every` steps.

  Attributes:
    fusion: what is trained.
    optim: by which.
    steps: of a call, and between two log lines; every call has one.
    checkpoint_every: steps that share the time of a checkpoint.
    limit: percent of the bare steps' time that log lines, checkpoints and all the rest may take.
  """

  fusion: Fusion
  optim: OptimConfig
  steps: int = 50
  checkpoint_every: int = 1000
  limit: float = 3.0

  def __post_init__(self):
    for name in ("steps", "checkpoint_every"):
      require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)}: it counts steps; use 1 or more.")

  @property
  def dtype(self) -> str:
    """Of the arithmetic."""
    return self.fusion.dtype

  def prepare(self, where: str, peers: Peers | None, platform: str) -> Prepared:
    """The loop, the loop that saves, the bare steps."""
    batches = self.fusion.batches(_BATCHES)
    loops = [RunningLoop(self.fusion, self._config(every), batches) for every in (_NEVER, self.steps)]
    bare = BareSteps(self.fusion, self._config(_NEVER), batches)
    timed = [_Timed(step.run, self.steps) for step in (*loops, bare)]
    names = ("loop", "loop, a checkpoint in each call", "bare steps")
    sides = [
      Side(name, call, lambda _, step=step: {"loss": np.float32(step.loss)}, memory=lambda: None)
      for name, call, step in zip(names, timed, (*loops, bare), strict=True)
    ]
    operations, formula = self.fusion.cost
    return Prepared(
      sides,
      f"{self.steps} steps with a log line of {self.fusion.described}",
      self.steps * operations,
      f"{self.steps} x {formula}",
      _TOLERANCE,
      readings=lambda: self._readings(loops, timed),
    )

  def _config(self, checkpoint_every: int) -> TrainConfig:
    rhythm = {"log_every": self.steps, "validate_every": _NEVER, "checkpoint_every": checkpoint_every}
    return TrainConfig(_NEVER, **rhythm, optim=self.optim)

  def _readings(self, loops: Sequence["RunningLoop"], timed: Sequence["_Timed"]) -> Sequence[Reading]:
    for loop in loops:
      loop.end()
    seconds = [call.seconds[1:] for call in timed]
    require(
      len({len(of_side) for of_side in seconds}) == 1,
      f"the sides were called {[len(of_side) for of_side in seconds]} times and can't be compared turn by turn; give "
      "the case a schedule with max_calls = 1.",
    )
    percent = overhead(*seconds, self.checkpoint_every / self.steps)
    what = f"% more time than bare steps, a log line every {self.steps}, a checkpoint every {self.checkpoint_every:,}"
    return (Reading(what, percent, self.limit),)


def overhead(loop: Sequence[float], saving: Sequence[float], bare: Sequence[float], calls: float) -> float:
  """Percent of the bare steps' time that a loop takes beyond it, where it saves once in so many `calls`.

  The sides' seconds of a call, one after the other in turns; ratios and differences are taken within a turn.
  """
  steady = statistics.median(a / b for a, b in zip(loop, bare, strict=True))
  checkpoint = statistics.median((a - b) / c for a, b, c in zip(saving, loop, bare, strict=True))
  return 100 * (steady - 1 + checkpoint / calls)


class _Timed:
  """A call that remembers how long it took each time; the first one takes twice as many steps, see `RunningLoop`."""

  def __init__(self, run: Callable[[int], None], steps: int):
    self.seconds: list[float] = []
    self._run, self._steps = run, steps

  def __call__(self) -> None:
    began = time.perf_counter()
    self._run(self._steps if self.seconds else 2 * self._steps)
    self.seconds.append(time.perf_counter() - began)


class _Ended(Exception):
  """Raised inside of a loop that is no longer needed."""


class RunningLoop:
  """A training that goes on by so many steps when it is told to. Errors of the training are raised by `run`.

  The numbers of a step are logged while a later one runs, so those of the first logged step are known when the loop has
  gone a few steps further.
  """

  def __init__(self, fusion: Fusion, config: TrainConfig, batches: Sequence[Batch]):
    self._fusion, self._config, self._batches = fusion, config, batches
    self.workdir = pathlib.Path(scratch_folder())
    self._orders: queue.SimpleQueue[int] = queue.SimpleQueue()
    self._answers: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    self._thread = threading.Thread(target=self._fit, name="training loop", daemon=True)

  @property
  def loss(self) -> float:
    """Of the first step that was logged."""
    lines = map(json.loads, (self.workdir / "metrics.jsonl").read_text("utf-8").splitlines())
    return next(line["loss"] for line in lines if line["split"] == "train")

  def run(self, steps: int) -> None:
    """So many steps more; what they compute and save is done when this returns."""
    if self._thread.ident is None:
      self._thread.start()
    self._orders.put(steps)
    error = self._answers.get()
    if error is not None:
      raise error

  def end(self) -> None:
    """Ends the training where it stands."""
    if self._thread.ident is not None:
      self._orders.put(0)
      self._thread.join()

  def _fit(self) -> None:
    # The loop looks at one batch before it asks for those that it trains on.
    streams = iter((lambda start: endless(self._batches, start), self._as_ordered))
    validation = lambda: iter(self._batches[:1])
    console = Console(file=io.StringIO())
    given = (self._fusion.system, lambda start: next(streams)(start), validation, self._config, self.workdir, {})
    try:
      with contextlib.suppress(_Ended):  # which `end` has asked for; nobody waits for an answer
        fit(*given, console=console)
    except BaseException as error:
      self._answers.put(error)

  def _as_ordered(self, start: int) -> Iterator[Batch]:
    batches, step = endless(self._batches, start), start
    while steps := self._orders.get():
      for _ in range(steps):
        yield next(batches)
      step += steps
      _wait_for_devices()
      wait_until_saved(self.workdir, self._config.checkpoint_every, step)
      self._answers.put(None)
    raise _Ended


def _wait_for_devices() -> None:
  """Returns when everything that was begun is computed; who holds its results is not known here."""
  for array in jax.live_arrays():
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # its memory was donated under the name of another array
      array.block_until_ready()


class BareSteps:
  """The compiled step in a loop with nothing around it, from the state that `fit` begins with."""

  def __init__(self, fusion: Fusion, config: TrainConfig, batches: Sequence[Batch]):
    mesh = make_mesh()
    self._state, tx, schedule = begin(fusion.system, config, batches[0], mesh)
    self._compiled = compile_train_step(fusion.system, tx, schedule, config.seed, self._state)
    self._batches = endless([shard_batch(batch, mesh) for batch in batches], 0)
    self._log_every, self._step = config.log_every, 0
    self._logged: jax.Array | None = None

  @property
  def loss(self) -> float:
    """Of the first step that a loop would log."""
    return float(self._logged)

  def run(self, steps: int) -> None:
    """So many steps more."""
    for _ in range(steps):
      self._state, metrics = self._compiled(self._state, next(self._batches))
      self._step += 1
      if self._step == self._log_every:
        self._logged = metrics["loss"]
    jax.block_until_ready((self._state, metrics))


@dataclasses.dataclass(frozen=True)
class MemoryCase:
  """How much memory grows, and whether files and threads stay as many, over many steps of the loop.

  Read when a log line is due and no checkpoint is being written.

  Attributes:
    fusion: what is trained; a step of a small one takes little time.
    optim: by which.
    steps: of the run; the first tenth isn't looked at.
    log_every, save_every: steps between log lines, and between validations, each with a checkpoint.
    growth: MB for each 1,000 steps at most.
  """

  fusion: Fusion
  optim: OptimConfig
  steps: int = 5000
  log_every: int = 50
  save_every: int = 500
  growth: float = 1.0

  def __post_init__(self):
    for name in ("log_every", "save_every"):
      require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)}: it counts steps; use 1 or more.")
    least = 20 * self.log_every
    require(self.steps >= least, f"steps = {self.steps}: 20 log lines are needed, {least} steps.")

  @property
  def dtype(self) -> str:
    """Of the arithmetic."""
    return self.fusion.dtype

  def prepare(self, where: str, peers: Peers | None, platform: str) -> Prepared:
    """Nothing to be timed; the numbers are read when they are asked for."""
    rhythm = f"a log line every {self.log_every}, a validation and a checkpoint every {self.save_every}"
    what = f"{self.steps:,} steps with {rhythm}, of {self.fusion.described}; the first tenth is not looked at"
    return Prepared([], what, 0.0, "", 0.0, readings=self._readings)

  def _readings(self) -> Sequence[Reading]:
    batches, workdir = self.fusion.batches(_BATCHES), pathlib.Path(scratch_folder())
    rhythm = {"validate_every": self.save_every, "checkpoint_every": self.save_every, "log_every": self.log_every}
    config = TrainConfig(self.steps, **rhythm, optim=self.optim)
    monitor, kept = Monitor(), []

    def watched(start: int) -> Iterator[Batch]:
      for step, batch in enumerate(endless(batches, start), start):  # the steps done or under way
        if step % self.log_every == 0 and step > self.steps // 10:
          wait_until_saved(workdir, self.save_every, step)
          gc.collect()  # what is merely waiting to be collected is no growth
          kept.append(monitor.read(step))
        yield batch

    fit(
      self.fusion.system, watched, lambda: iter(batches[:1]), config, workdir, {}, console=Console(file=io.StringIO())
    )
    return (
      Reading("MB more for each 1,000 steps", monitor.growth(), self.growth),
      Reading("open files, most less first count", gained(kept, "memory/files"), 0),
      Reading("threads, most less first count", gained(kept, "memory/threads"), _IDLE_THREADS),
    )


def gained(kept: Sequence[Mapping[str, float]], name: str) -> float | None:
  """Largest less first; None where the system doesn't tell."""
  values = [numbers[name] for numbers in kept if name in numbers]
  return max(values) - values[0] if values else None


def wait_until_saved(workdir: pathlib.Path, every: int, steps: int) -> None:
  """Returns when the last checkpoint that a loop has begun is on the disk, if it has begun one.

  Args:
    every: steps between checkpoints.
    steps: done or under way; a loop that asks for the batch after them has saved none of the last of them.

  Raises:
    RuntimeError: it does not get there.
  """
  last, deadline = (steps - 1) // every * every, time.monotonic() + _SEAL_SECONDS
  while last > 0 and not (workdir / "checkpoints" / str(last) / CHECKSUMS).exists():
    if time.monotonic() > deadline:
      raise RuntimeError(f"the checkpoint of step {last} in {workdir} is not finished after {_SEAL_SECONDS:.0f} s.")
    time.sleep(0.001)
