"""Whole ablations: of a function in place of the training, and of real trainings by workers that are killed."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import pytest

from configs import feature_sets
from gasmcast.core import leases
from gasmcast.core.errors import ConfigError, DataError, Stopped, TrainingError, WorkdirError
from gasmcast.core.manifest import read_json, write_json
from gasmcast.jobs import ablate, ablation_worker, training_workers
from gasmcast.jobs.experiment import Experiment
from gasmcast.reports.theme import pdf, raster
from gasmcast.training.loop import FitResult

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
VARIANTS = (
  {"name": "ours"},
  {"name": "mean", "fields": {"model": {"fusion": {"pooling": "mean"}}}, "view": "means"},
)


@pytest.fixture
def quick(make, monkeypatch):
  """Makes an ablation of `fields` whose trainings take no time: nothing is traced, and `toy` trains."""
  monkeypatch.setattr(os, "fsync", lambda descriptor: None)
  monkeypatch.setattr(training_workers, "_LOOK_SECONDS", 0.05)
  monkeypatch.setattr(ablate, "raster", lambda figure, theme, form, dpi: b"drawing takes longer than all the rest")
  monkeypatch.setattr(ablate, "pdf", lambda figure: b"drawing takes longer than all the rest")
  monkeypatch.setattr(Experiment, "_check_model", lambda self: None)
  monkeypatch.setattr(ablation_worker.train, "train", toy)
  monkeypatch.setattr(ablation_worker.evaluate, "run", toy_evaluation)
  monkeypatch.setattr(ablation_worker, "_measured", toy_measured)
  monkeypatch.setattr(jax, "clear_caches", lambda: None)

  def ablation_of(workdir=None, **fields):
    config = feature_sets.get_config("conjunction_in_place,runlocal")
    with config.unlocked():
      config.ablate = {"variants": VARIANTS, "reference": "ours", "seeds": (0, 1)} | fields
    return make(config, workdir)

  return ablation_of


def value(raw):
  """Better with a learning rate near 0.003, worse with the mean, a little different from seed to seed."""
  loss = 0.4 if raw["model"]["fusion"]["pooling"] == "mean" else 0.0
  return round(0.95 - loss - 10 * abs(raw["optim"]["lr"] - 0.003) - raw["seed"] / 100, 6)


def toy(experiment):
  return FitResult("finished", 4, 4, value(experiment.raw), "done")


def toy_evaluation(experiment):
  splits = {"validation": {"top1": value(experiment.raw) - 0.01}, "test": {"top1": value(experiment.raw)}}
  experiment.workdir.mkdir(parents=True, exist_ok=True)
  write_json(experiment.workdir / "metrics.json", {"splits": splits})


def toy_measured(plan, experiment, folder, identity, seconds):
  splits = read_json(folder / "metrics.json")["splits"]
  numbers = {"value": splits["test"]["top1"], "validation": splits["validation"]["top1"], "examples": 1000}
  sizes = {"trained": 1234, "macs": 5_000_000, "step_seconds": 0.01, "step_bytes": 2e6}
  return ablation_worker.Result(identity, **numbers, **sizes, seconds=seconds)


def run(experiment):
  ablate.check(experiment)
  ablate.run(experiment)
  return experiment.console.export_text(clear=False)


def rows(workdir):
  with open(workdir / "ablation.csv", newline="") as file:
    return list(csv.DictReader(file))


def test_it_ends_with_tables_and_a_figure(quick, monkeypatch):
  monkeypatch.setattr(ablate, "raster", raster)
  monkeypatch.setattr(ablate, "pdf", pdf)
  experiment = quick()
  said = run(experiment)
  found = rows(experiment.workdir)
  assert [(row["variant"], row["seed"], float(row["value"])) for row in found] == [
    *(("ours", "0", 0.95), ("ours", "1", 0.94), ("mean", "0", 0.55), ("mean", "1", 0.54)),
  ]
  assert [row["ceiling"] for row in found] == ["1.0", "1.0", "0.5", "0.5"]
  page = (experiment.workdir / "ablation.md").read_text()
  assert "| mean | 54.5 ± 0.7 | **-40.0 [-40.0, -40.0]** | 50.0 | 1,234 | 5.00 | 10 | 2 |" in page
  assert "ABOVE THE CEILING, so the construction or the view is wrong: mean on config." in page
  assert "4 trainings, together" in page and "python launch/main.py" in page
  assert (experiment.workdir / "figures" / "ablation.png").stat().st_size > 5000
  assert (experiment.workdir / "figures" / "ablation.pdf").read_bytes().startswith(b"%PDF")
  assert "\\toprule" in (experiment.workdir / "ablation.tex").read_text()
  told = json.loads((experiment.workdir / "ablation.json").read_text())
  assert [row["variant"] for row in told["rows"]] == ["ours", "mean"] and told["header"]["reference"] == "ours"
  assert (
    "Ablation: 2 variants on 1 settings with 2 seeds and 1 points, 4 trainings, 0 have ended, 1 workers here." in said
  )
  assert "4/4  config, mean, seed 1: top1 0.5400" in said and "│ mean " in said


def test_the_point_that_validates_best_is_reported_for_each_variant_alike(quick):
  experiment = quick(search=({"optim": {"lr": 0.001}}, {"optim": {"lr": 0.003}}))
  said = run(experiment)
  found = rows(experiment.workdir)
  assert len(found) == 4 and {row["chosen"] for row in found} == {"optim.lr 0.003"}
  assert [float(row["value"]) for row in found] == [0.95, 0.94, 0.55, 0.54]
  assert said.count("point 0, seed") == 4 and "the same 2 points of a search" in said


def test_the_same_command_again_trains_nothing_and_what_is_new_is_added(quick, monkeypatch):
  workdir = run_in(quick)
  trained = []
  monkeypatch.setattr(ablation_worker.train, "train", lambda e: trained.append(e.workdir.parts[-2:]) or toy(e))
  run(quick(workdir))
  assert trained == []
  new = {"name": "new", "fields": {"optim": {"lr": 0.002}}}
  run(quick(workdir, variants=(*VARIANTS, new), seeds=(0, 1, 2)))
  assert trained == [("ours", "seed2"), ("mean", "seed2"), ("new", "seed0"), ("new", "seed1"), ("new", "seed2")]
  assert len(rows(workdir)) == 9


def run_in(quick, **fields):
  experiment = quick(**fields)
  run(experiment)
  return experiment.workdir


def test_a_result_of_other_fields_does_not_count(quick, monkeypatch):
  """What a training was of is part of its result; the training itself refuses to go on with another one."""
  workdir = run_in(quick)
  changed = {"name": "ours", "fields": {"optim": {"lr": 0.002}}}
  run(quick(workdir, variants=(changed, VARIANTS[1])))
  assert [float(row["value"]) for row in rows(workdir)] == [0.94, 0.93, 0.55, 0.54]


def test_a_training_that_fails_is_told_tried_again_and_ends_nothing(quick, monkeypatch):
  def failing(experiment):
    if (experiment.seed, experiment.raw["model"]["fusion"]["pooling"]) == (1, "mean"):
      raise TrainingError("the loss is nan.")
    if experiment.seed == 0 and experiment.raw["model"]["fusion"]["pooling"] == "mean":
      raise ZeroDivisionError("division by zero")
    return toy(experiment)

  monkeypatch.setattr(ablation_worker.train, "train", failing)
  experiment = quick()
  said = run(experiment)
  assert "mean on config, seed 1, failed: the loss is nan." in said and "│ mean    │ failed" in said
  folder = experiment.workdir / "runs" / "config" / "mean"
  assert "ZeroDivisionError" in (folder / "seed0" / "error.txt").read_text()
  assert not (folder / "seed1" / "error.txt").exists()  # its one line says it all
  monkeypatch.setattr(ablation_worker.train, "train", toy)
  run(quick(experiment.workdir))
  assert [float(row["value"]) for row in rows(experiment.workdir)] == [0.95, 0.94, 0.55, 0.54]


@pytest.mark.parametrize("error", [DataError("no such file"), WorkdirError("the disk is full"), Stopped("told to")])
def test_what_no_other_training_would_do_better_ends_the_job_and_leaves_no_lease(quick, monkeypatch, error):
  def failing(experiment):
    raise error

  monkeypatch.setattr(ablation_worker.train, "train", failing)
  experiment = quick()
  with pytest.raises(type(error), match=str(error)):
    run(experiment)
  assert not list(experiment.workdir.rglob(".claim")) and not list(experiment.workdir.rglob("result.json"))
  said = experiment.console.export_text().splitlines()[-1]
  assert (said == "told to") == isinstance(error, Stopped)  # of a run that stops in order the launcher says nothing


def test_what_a_living_worker_trains_is_waited_for(quick, monkeypatch):
  experiment = quick()
  folder = experiment.workdir / "runs" / "config" / "ours" / "seed0"
  folder.mkdir(parents=True)
  lease = leases.take(folder / ".claim", leases.new_token(), 60.0)
  plan = ablate.Plan(experiment)
  pauses = []

  def finish(seconds):  # the other worker ends while this one stands by
    pauses.append(seconds)
    numbers = {"value": 0.123, "validation": 0.1, "examples": 1000}
    write_json(folder / "result.json", {"identity": plan.identity(plan.cells[0]), **numbers})

  monkeypatch.setattr(ablation_worker.time, "sleep", finish)
  run(experiment)
  assert len(pauses) >= 1 and float(rows(experiment.workdir)[0]["value"]) == 0.123
  lease.release()


def test_workers_that_were_told_to_stop_leave_no_ablation_that_looks_finished(quick, monkeypatch):
  monkeypatch.setattr(training_workers, "run", lambda *given: None)
  experiment = quick(workers=2)
  with pytest.raises(Stopped, match=r"^Told to stop: 4 trainings have not ended; the same command goes on\.$"):
    run(experiment)
  assert experiment.console.export_text().endswith(
    "Told to stop: 4 trainings have not ended; the same command goes on.\n"
  )


def test_a_training_s_folder_and_several_processes_are_refused(quick, tmp_path, monkeypatch):
  (tmp_path / "run" / "checkpoints").mkdir(parents=True)
  with pytest.raises(WorkdirError, match="holds a training; choose another --workdir for an ablation"):
    ablate.check(quick())
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  with pytest.raises(ConfigError, match="--job ablate in 2 processes of one training"):
    ablate.check(quick())


def command(workdir, *arguments):
  flags = ["--config", "configs/ablations/streams.py:conjunction_in_time,runlocal", "--workdir", str(workdir)]
  return [sys.executable, "launch/main.py", *flags, *arguments]


def environment():
  return os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}


@pytest.mark.long
def test_real_trainings_by_two_workers_of_which_one_is_killed(tmp_path):
  """The table has all of them, each trained once; what the dead one was at is gone on with."""
  workdir = tmp_path / "run"
  process = subprocess.Popen(command(workdir, "--config.ablate.workers=2"), cwd=ROOT, env=environment())
  killed = None
  while process.poll() is None and killed is None:
    for claim in workdir.rglob(".claim"):
      holder = leases.read_holder(claim)
      if holder and holder.pid and (claim.parent / "checkpoints").exists():
        os.kill(holder.pid, signal.SIGKILL)
        killed = holder.pid
        break
    time.sleep(0.1)
  assert process.wait(timeout=900) == 0 and killed is not None
  found = rows(workdir)
  assert [row["variant"] for row in found] == ["GASM-CAST", "semantic alone", "motion alone"]
  assert all(row["value"] and int(row["parameters"]) > 1000 and float(row["step_bytes"]) > 1e5 for row in found)
  assert not list(workdir.rglob(".claim"))
