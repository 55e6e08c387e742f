"""A process that trains the toy system.

python -m tests.training.worker WORKDIR PROCESS PROCESSES PORT SIGNAL AT PLACEMENT

When it is asked for batch AT it sends SIGNAL to itself and from then on takes half a second for each batch.
"""

import os
import signal
import sys
import time

import jax
from rich.console import Console

from gasmcast.training.loop import fit
from gasmcast.training.sharding import ShardingConfig
from tests.training import toy_system


def main(workdir, process, processes, port, sent, at, placement):
  if processes > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)

  def own_rows(batches):
    for batch in batches:
      rows = len(batch["ok"]) // processes
      yield {name: leaf[process * rows : (process + 1) * rows] for name, leaf in batch.items()}

  def train_batches(start):
    for step, batch in enumerate(own_rows(toy_system.train_batches(start)), start=start + 1):
      if step == at:
        os.kill(os.getpid(), sent)
      if step >= at or (processes > 1 and step > 3):
        time.sleep(0.5)
      yield batch

  fit(
    toy_system.ToySystem(),
    train_batches,
    lambda: own_rows(toy_system.validation_batches()),
    toy_system.config(sharding=ShardingConfig(parameters=((".*", placement),), min_size=1)),
    workdir,
    toy_system.IDENTITY,
    console=Console(width=200),
  )
  if processes > 1:
    jax.distributed.shutdown()


if __name__ == "__main__":
  folder, process, processes, port, name, at, placement = sys.argv[1:]
  main(folder, int(process), int(processes), int(port), getattr(signal, name), int(at), placement)
