"""A process that trains the toy system, and what can be done to it.

python -m tests.training.worker WORKDIR OPTIONS, with `Options` as JSON

It writes to WORKDIR/said_<process>.txt, unbuffered: "from K" when it asks for the batches behind step K, and "batch K"
when it takes batch K.
"""

import dataclasses
import json
import os
import pathlib
import signal
import sys
import time
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console

from gasmcast.core.errors import EXIT_DEFECT, EXIT_USER, UserError
from gasmcast.core.types import Dataset, Example
from gasmcast.training import checkpoint, distributed
from gasmcast.training.loop import fit
from gasmcast.training.sharding import ShardingConfig
from gasmcast.videos import batches as loaded
from tests.training import toy_system


@dataclasses.dataclass(frozen=True)
class Options:
  """What the process is, and what happens to it.

  Attributes:
    process, processes, port, heartbeat: its place among several, and after how many seconds of silence one is dead.
    sent, at: it sends itself this signal when it takes batch `at`; "HANG" makes it wait for ever,
      "FILL" fills the disk.
    room: bytes that FILL leaves free.
    pause: seconds that it takes for each batch from batch `slow_from` on.
    poisoned: steps whose batch holds a nan in the first row of this process.
    placement: of the parameters.
    loaders: of Grain, through which the batches come; -1 makes them here.
    synchronous: every save is on the disk before the next step.
    config: fields of `TrainConfig`.
  """

  process: int = 0
  processes: int = 1
  port: int = 0
  heartbeat: int = 100
  sent: str = ""
  at: int = -1
  room: int = 0
  pause: float = 0.0
  slow_from: int = 0
  poisoned: tuple[int, ...] = ()
  placement: str = "replicated"
  loaders: int = -1
  synchronous: bool = False
  config: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Loading:
  """How Grain loads."""

  global_batch: int
  workers: int
  threads: int = 1
  prefetch: int = 2
  sampling: str = "uniform"


class ToySource:
  """The toy vectors as a source of examples, shifted at random in training."""

  def __init__(self):
    examples = tuple(Example(str(i), "", labels={"action": int(n)}) for i, n in enumerate(toy_system.LABELS))
    self.dataset = Dataset("toy", "train", examples, {"action": ("a", "b", "c")}, "toy-1")

  def draw(self, index, rng):
    shifted = toy_system.VECTORS[index] + rng.normal(scale=0.01, size=toy_system.WIDTH).astype(np.float32)
    return {"vector": shifted}, self.dataset.examples[index].labels

  def read(self, index):
    return {"vector": toy_system.VECTORS[index]}

  def empty(self):
    return {"vector": np.zeros(toy_system.WIDTH, np.float32)}


def main(workdir: pathlib.Path, options: Options) -> None:
  if options.processes > 1:
    address = f"127.0.0.1:{options.port}"
    distributed.join(distributed.Place(address, options.processes, options.process), 120, options.heartbeat)
  if options.synchronous:
    save = checkpoint.Checkpoints.save
    checkpoint.Checkpoints.save = lambda self, *arguments: (save(self, *arguments), self.wait())
  workdir.mkdir(parents=True, exist_ok=True)
  said = os.open(workdir / f"said_{options.process}.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

  def own_rows(batches):
    for batch in batches:
      rows = len(batch["ok"]) // options.processes
      yield {name: leaf[options.process * rows : (options.process + 1) * rows] for name, leaf in batch.items()}

  def made(start):
    if options.loaders < 0:
      return own_rows(toy_system.train_batches(start))
    place = {"process": options.process, "processes": options.processes}
    return loaded.train_batches(ToySource(), Loading(8, options.loaders), 0, start_step=start, **place)

  def train_batches(start):
    os.write(said, f"from {start}\n".encode())
    for step, batch in enumerate(made(start), start=start + 1):
      os.write(said, f"batch {step}\n".encode())
      if step == options.at:
        if options.sent == "HANG":
          time.sleep(1e6)
        elif options.sent == "FILL":
          free = os.statvfs(workdir)
          (workdir / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize - options.room))
        else:
          os.kill(os.getpid(), getattr(signal, options.sent))
      if step >= options.slow_from:
        time.sleep(options.pause)
      if step in options.poisoned:
        batch["vector"][0] = np.nan
      yield batch

  fit(
    toy_system.ToySystem(),
    train_batches,
    lambda: own_rows(toy_system.validation_batches()),
    toy_system.config(sharding=ShardingConfig(parameters=((".*", options.placement),), min_size=1), **options.config),
    workdir,
    toy_system.IDENTITY,
    console=Console(width=1000),
  )
  if options.processes > 1:
    distributed.leave()


if __name__ == "__main__":
  flags.FLAGS.mark_as_parsed()
  given = json.loads(sys.argv[2])
  try:
    main(pathlib.Path(sys.argv[1]), Options(**given))
  except Exception as error:
    code = EXIT_USER if isinstance(error, UserError) else EXIT_DEFECT
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    distributed.give_up(code)
    sys.exit(code)
