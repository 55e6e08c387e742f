"""A whole search: of a function in place of the training, and of a real one by workers that are killed."""

import csv
import json
import math
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time
import types

import jax
import jax.extend.backend
import pytest

from gasmcast.core import leases
from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError, Stopped, TrainingError, WorkdirError
from gasmcast.jobs import generate, search, search_worker, training_workers
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.search_plan import SearchConfig
from gasmcast.reports.theme import raster
from gasmcast.training.loop import FitResult

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def quick(tiny, make, monkeypatch):
  """Makes a search of `fields` whose trainings take no time: the model isn't traced, and `toy` trains."""
  monkeypatch.setattr(os, "fsync", lambda descriptor: None)
  monkeypatch.setattr(training_workers, "_LOOK_SECONDS", 0.05)
  monkeypatch.setattr(search, "raster", lambda figure, theme, form, dpi: b"drawing takes longer than all the rest")
  if not (pathlib.Path(tiny.data.root) / "train.json").exists():
    generate.run(make(tiny))
  monkeypatch.setattr(Experiment, "_check_model", lambda self: None)
  monkeypatch.setattr(search_worker, "train", toy)
  monkeypatch.setattr(jax, "clear_caches", lambda: None)

  def search_of(**fields):
    tiny.search.update({"trials": 6, "startup": 3, "pruner": "none"} | fields)
    return make(tiny)

  return search_of


def accuracy(raw):
  """Best at a learning rate of 0.001."""
  return round(1 - abs(math.log10(raw["optim"]["lr"]) + 3) / 4 - raw["model"]["fusion"]["dropout"] / 10, 6)


def toy(experiment, validated):
  """Two validations, the second one the better."""
  value = accuracy(experiment.raw)
  for step in (4, 8):
    validated(step, {"top1": value * step / 8})
  (experiment.workdir / "command.txt").write_text(experiment.command)
  return FitResult("finished", 8, 8, value, "done")


def run(experiment):
  search.check(experiment)
  search.run(experiment)
  return experiment.console.export_text(clear=False)


def rows(experiment):
  with open(experiment.workdir / "search.csv", newline="") as file:
    return list(csv.DictReader(file))


def test_it_ends_with_a_table_figures_and_the_command_of_the_best(quick, monkeypatch):
  monkeypatch.setattr(search, "raster", raster)
  experiment = quick()
  said = run(experiment)
  found = rows(experiment)
  assert [row["trial"] for row in found] == list("012345") and found[0]["origin"] == "config"
  best = json.loads((experiment.workdir / "best.json").read_text())
  assert best["value"] == max(float(row["top1"]) for row in found) and best["config"]["trial"] == 0
  assert best["config"]["value"] == accuracy(experiment.raw)
  assert float(found[best["trial"]]["optim.lr"]) == best["parameters"]["optim.lr"]
  command = best["commands"]["Train the best again"]
  assert f"--workdir {experiment.workdir / 'best'} --job train,evaluate,report" in command
  assert f"--config.optim.lr={best['parameters']['optim.lr']!r}" in command and command in said
  for number, row in enumerate(found):
    own = (experiment.workdir / "trials" / str(number) / "command.txt").read_text()
    assert f"--workdir {experiment.workdir / 'trials' / str(number)} --job train" in own
    assert f"--config.optim.lr={float(row['optim.lr'])!r}" in own
  page = (experiment.workdir / "search.md").read_text()
  for name in ("history", "parameters", "validations"):
    assert (experiment.workdir / "figures" / f"{name}.png").stat().st_size > 5000 and f"figures/{name}.png" in page
  assert (
    "│ 0 (config) │" in said
    and said.count("\nTrial ") == 6
    and "Search for the most top1: 6 trials, 0 have ended, 1 workers here." in said
  )
  assert "optim.lr: 0.0001 to 0.01 (logarithmic)" in said


def test_the_same_command_again_trains_nothing_more_and_more_trials_go_on(quick, monkeypatch):
  run(quick())
  trained = []
  monkeypatch.setattr(search_worker, "train", lambda *given: trained.append(given) or toy(*given))
  experiment = quick()
  before = rows(experiment)
  run(experiment)
  assert trained == [] and rows(experiment) == before
  run(quick(trials=8))
  assert len(trained) == 2 and rows(experiment)[:6] == before and len(rows(experiment)) == 8


def test_known_points_come_after_the_configuration(quick):
  experiment = quick(known=({"optim.lr": 1e-3},), trials=3)
  run(experiment)
  assert [row["origin"] for row in rows(experiment)] == ["config", "known", "sampler"]
  assert rows(experiment)[1]["top1"] == "1.0"
  said = experiment.console.export_text()
  assert "Best top1: 1.0000 in trial 1, at step 8 of 8." in said and "The configuration as it was (trial 0): " in said


@pytest.mark.parametrize(
  ("error", "reason"),
  [
    (ConfigError("config.model.heads = 3 does not divide 64."), r"^config\.model\.heads = 3 does not divide 64\.$"),
    (TrainingError("5 steps in a row had a loss that is not finite."), r"^5 steps in a row"),
    (RuntimeError("RESOURCE_EXHAUSTED: Out of\nmemory while"), r"^out of memory: RESOURCE_EXHAUSTED: Out of memory wh"),
    (MemoryError(), r"^out of memory: $"),
    (KeyError("lost"), r"^KeyError: 'lost'$"),
    (FitResult("finished", 8, None, None, ""), r"^no validation had a finite top1\.$"),
  ],
  ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_trial_that_fails_is_told_why_and_the_search_goes_on(quick, monkeypatch, error, reason):
  def fail_once(experiment, validated):
    if experiment.workdir.name != "1":
      return toy(experiment, validated)
    if isinstance(error, FitResult):
      return error
    raise error

  monkeypatch.setattr(search_worker, "train", fail_once)
  experiment = quick(trials=3)
  said = run(experiment)
  found = rows(experiment)
  assert [row["state"] for row in found] == ["complete", "failed", "complete"]
  assert re.search(reason, found[1]["reason"]) and "Trial 1 failed: " in said
  expected = isinstance(error, RuntimeError | MemoryError | KeyError)
  assert (experiment.workdir / "trials" / "1" / "error.txt").exists() == expected


def test_too_many_failures_in_a_row_end_it_and_the_next_command_goes_on(quick, monkeypatch):
  def fail(experiment, validated):
    raise TrainingError("the loss is not finite.")

  monkeypatch.setattr(search_worker, "train", fail)
  with pytest.raises(
    TrainingError,
    match=r"^The last 3 trials failed \(config\.search\.max_failures = 3\), trial 2 because: the loss is not",
  ):
    run(quick())
  monkeypatch.setattr(search_worker, "train", toy)
  experiment = quick()
  run(experiment)
  assert [row["state"] for row in rows(experiment)] == ["failed"] * 3 + ["complete"] * 3


def test_a_full_disk_ends_it_at_once_and_is_not_held_against_the_trial(quick, monkeypatch):
  def fail(experiment, validated):
    raise WorkdirError("no space is left.")

  monkeypatch.setattr(search_worker, "train", fail)
  for _ in range(5):
    with pytest.raises(WorkdirError, match=r"^no space is left\.$"):
      run(quick(trials=2))
  monkeypatch.setattr(search_worker, "train", toy)
  experiment = quick(trials=2)
  run(experiment)
  assert [row["state"] for row in rows(experiment)] == ["complete"] * 2


def test_told_to_stop_it_stops_and_the_trial_is_taken_up_again(quick, monkeypatch):
  def stop(experiment, validated):
    validated(4, {"top1": 0.25})
    return FitResult("terminated", 5, 4, 0.25, "Told to stop: step 5 of 8 is saved; the same command resumes there.")

  monkeypatch.setattr(search_worker, "train", stop)
  experiment = quick(trials=2)
  with pytest.raises(Stopped, match=r"^Told to stop: step 5 of 8 is saved"):
    run(experiment)
  assert [row["state"] for row in rows(experiment)] == ["running"]
  assert experiment.console.export_text().splitlines()[-1].startswith("Told to stop: step 5 of 8 is saved")
  monkeypatch.setattr(search_worker, "train", toy)
  run(quick(trials=2))
  assert [(row["state"], row["trial"]) for row in rows(experiment)] == [("complete", "0"), ("complete", "1")]


def test_the_median_ends_trials_early_but_never_after_the_last_step(quick, monkeypatch):
  experiment = quick(pruner="median", pruner_startup=1, trials=12)
  run(experiment)
  pruned = [row for row in rows(experiment) if row["state"] == "pruned"]
  assert pruned and {row["steps"] for row in pruned} == {"4"}
  assert "ended early at step 4" in experiment.console.export_text()


@pytest.mark.parametrize(
  ("change", "difference"),
  [
    (
      lambda config: config.search.space.optim.lr.update({"high": 0.1}),
      r"search\.space\.optim\.lr: '0\.0001 to 0\.01 \(logarithmic\)' -> '0\.0001 to 0\.1 \(logarithmic\)'",
    ),
    (
      lambda config: config.search.update({"fixed": ("model.fusion.dropout",)}),
      r"search\.space\.model\.fusion\.dropout",
    ),
    (lambda config: config.train.update({"steps": "16 steps"}), r"search\.train\.steps: 8 -> 16"),
    (lambda config: config.data.update({"frames": 8}), r"search\.config\.data\.frames: 16 -> 8"),
    (lambda config: config.search.update({"pruner": "median"}), r"search\.pruner: 'none' -> 'median'"),
  ],
  ids=["range", "fixed", "steps", "data", "pruner"],
)
def test_another_search_is_refused_by_name(quick, tiny, make, change, difference):
  run(quick(trials=1))
  change(tiny)
  with pytest.raises(WorkdirError, match=rf"holds another search; .*{difference}.*Restore these values to go on"):
    search.run(make(tiny))


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"trials": 0}, r"^config\.search\.trials = 0: it must be at least 1\.$"),
    ({"workers": 0}, r"^config\.search\.workers = 0: it must be at least 1\.$"),
    ({"gpus": -1}, r"^config\.search\.gpus = -1: it must be at least 0\.$"),
    ({"pruner": "best"}, r"^config\.search\.pruner = 'best' is not one of 'median', 'hyperband', 'none'\.$"),
    (
      {"trials": 1, "known": ({},)},
      r"^config\.search\.trials = 1: 2 points are tried first \(baseline, known\); use 2",
    ),
  ],
)
def test_wrong_fields_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    parse(SearchConfig, {"space": {}} | fields, "config.search")


def test_what_cannot_be_searched_is_refused_before_anything_runs(quick, tiny, make, monkeypatch):
  quick()
  tiny.search.space.optim.lr.low = -1.0
  with pytest.raises(ConfigError, match=r"^config\.search\.space\.optim\.lr: log = True with low = -1\.0"):
    search.check(make(tiny))
  tiny.search.space.optim.lr.low = 1e-4
  tiny.optim.lr = 0.5
  with pytest.raises(ConfigError, match=r"^config\.optim\.lr = 0\.5 lies outside config\.search\.space\.optim\.lr"):
    search.check(make(tiny))
  tiny.optim.lr = 1e-3
  del tiny.search
  with pytest.raises(ConfigError, match=r"^config\.search is missing: job search needs ranges, see common\.search in"):
    search.check(make(tiny))


def test_machines_that_cannot_be_shared_are_refused(quick, monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  with pytest.raises(ConfigError, match=r"^--job search in 2 processes of one training: a trial has one process\."):
    search.check(quick())
  monkeypatch.setattr(jax, "process_count", lambda: 1)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  search.check(quick(workers=2, gpus=4))
  with pytest.raises(
    ConfigError,
    match=r"^config\.search\.workers = 2 with config\.search\.gpus = 0 on a machine with 8 GPUs: .* up to 8 workers",
  ):
    search.check(quick(workers=2, gpus=0))


def test_workers_that_were_told_to_stop_leave_no_search_that_looks_finished(quick, monkeypatch):
  calls = []
  stand_in = types.SimpleNamespace(EngineConfig=lambda *given, **fields: fields, run=lambda *given: calls.append(given))
  monkeypatch.setattr(training_workers, "engines", stand_in)
  monkeypatch.setattr(jax.extend.backend, "clear_backends", lambda: None)
  with pytest.raises(Stopped, match=r"^Told to stop: 1 trials have not ended; the same command goes on\.$"):
    run(quick(workers=2))
  assert calls[0][0] == {"workers": 2, "gpus": 0} and calls[0][2][0] is search_worker.work


def test_a_signal_ends_the_workers_in_order():
  with pytest.raises(Stopped), training_workers.stopping():
    signal.raise_signal(signal.SIGTERM)
  assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def command(workdir, data, *arguments):
  flags = ["--config", "configs/quickstart.py:runlocal", "--workdir", str(workdir), f"--config.data.root={data}"]
  return [sys.executable, "launch/main.py", *flags, *arguments]


def environment():
  return {**{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}, "COLUMNS": "200"}


@pytest.mark.long
@pytest.mark.reliability
def test_two_workers_of_real_trainings_of_which_one_is_killed(tmp_path, rendered):
  """Six trials by two processes; the best one, trained again by the command that is printed, gives the same value."""
  workdir = tmp_path / "search"
  arguments = ("--job", "generate,search", "--config.search.trials=6", "--config.search.workers=2")
  with open(tmp_path / "said.txt", "w") as said:
    running = subprocess.Popen(command(workdir, rendered, *arguments), cwd=ROOT, env=environment(), stdout=said)
    killed = None
    while killed is None:
      assert running.poll() is None, "it ended before a worker was killed"
      if list(workdir.glob("trials/*/checkpoints/2/checksums.json")):
        holders = [leases.read_holder(path) for path in (workdir / "trials").glob(".[0-9]*.claim")]
        killed = next((holder.pid for holder in holders if holder is not None), None)
      time.sleep(0.01)
    os.kill(killed, signal.SIGKILL)
    assert running.wait(timeout=900) == 0
  text = (tmp_path / "said.txt").read_text()
  assert "was ended by signal 9 (SIGKILL). Another one takes its place." in text
  with open(workdir / "search.csv", newline="") as file:
    found = list(csv.DictReader(file))
  assert [row["trial"] for row in found] == list("012345") and {row["state"] for row in found} <= {"complete", "pruned"}
  best = json.loads((workdir / "best.json").read_text())
  again = shlex.split(best["commands"]["Train the best again"])
  assert again[0] == "python"
  done = subprocess.run([sys.executable, *again[1:]], cwd=ROOT, env=environment(), capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  lines = [json.loads(line) for line in (workdir / "best" / "metrics.jsonl").read_text().splitlines()]
  values = [line["top1"] for line in lines if line["split"] == "validation"]
  assert max(values) == best["value"]
