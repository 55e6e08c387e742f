"""A search of a function in place of a training: trials of four steps, each with a validation."""

import math
import os
import pathlib
import signal
import sys
import time

from gasmcast.jobs.search_space import Range
from gasmcast.jobs.search_study import Method, Study

RANGES = {
  "model.width": Range("model.width", "int", 1, 9),
  "optim.lr": Range("optim.lr", "float", 1e-4, 1e-1, log=True),
  "optim.name": Range("optim.name", "choice", values=("adam", "sgd", (1, 2))),
}
STEPS = 4


def method(**fields):
  defaults = {"mode": "max", "seed": 0, "startup": 4, "pruner": "none", "pruner_startup": 2, "first": 1, "last": STEPS}
  return Method(**(defaults | fields))


def value(values, step):
  """Best, 1, at a learning rate of 0.01, a width of 5 and "sgd"; grows with the steps."""
  off = abs(math.log10(values["optim.lr"]) + 2) + abs(values["model.width"] - 5) / 4 + (values["optim.name"] != "sgd")
  return step / STEPS * (1 - off / 5)


def run_trial(claim, folder, seconds=0.0):
  """Four steps; `folder`/<number> holds the step reached, as checkpoints would."""
  saved = folder / str(claim.trial.number)
  reached = int(saved.read_text()) if saved.exists() else 0
  if reason := claim.begin(reached):
    claim.fail(reason, reached)
    return
  with open(folder / f"{claim.trial.number}.starts", "a") as file:
    file.write(f"{os.getpid()} {reached}\n")
  best = (value(claim.trial.values, reached), reached) if reached else (-math.inf, 0)
  for step in range(reached + 1, STEPS + 1):
    time.sleep(seconds)
    now = value(claim.trial.values, step)
    best = max(best, (now, step))
    if claim.report(step, now) and step < STEPS:
      claim.prune(step)
      return
    saved.write_text(str(step))
  claim.complete(best[0], best[1], STEPS)


def search(workdir, total, seconds=0.0, **fields):
  """Works until `total` trials have ended, by whoever."""
  study = Study(workdir, RANGES, method(**fields))
  for claim in study.claims(total):
    with claim:
      run_trial(claim, pathlib.Path(workdir), seconds)
  return study


def die_at(workdir, total, number, step):
  """As `search`, but is killed in trial `number` after `step`."""
  study = Study(workdir, RANGES, method())
  for claim in study.claims(total):
    with claim:
      if claim.trial.number == number:
        claim.begin(0)
        for done in range(1, step + 1):
          claim.report(done, value(claim.trial.values, done))
          (pathlib.Path(workdir) / str(number)).write_text(str(done))
        os.kill(os.getpid(), signal.SIGKILL)
      run_trial(claim, pathlib.Path(workdir))


if __name__ == "__main__":
  os.fsync = lambda descriptor: None  # no power cut is tested, and a busy disk takes its time
  if sys.argv[1] == "die":
    die_at(sys.argv[2], *map(int, sys.argv[3:6]))
  else:
    search(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
