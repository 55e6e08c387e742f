"""Whole runs of the toy system: resumed, stopped and refused."""

import json
import os
import signal

import numpy as np
import pytest

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError, TrainingError, WorkdirError
from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.config import TrainConfig
from gasmcast.training.loop import fit
from gasmcast.training.state import fingerprint
from tests.training import toy_system
from tests.training.toy_system import IDENTITY, batch_of, train_batches, validation_batches


def saved(workdir, target, which="latest"):
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    return checkpoints.restore(target, IDENTITY, which)


def final_hash(workdir, target):
  return fingerprint(saved(workdir, target).state.replace(frozen={}))


def record(workdir):
  """metrics.jsonl without what a clock wrote."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [{k: v for k, v in line.items() if k not in ("time", "clips_per_second")} for line in lines]


def terminating(batches, at):
  """`batches`, with a SIGTERM when number `at` is asked for."""
  for number, batch in enumerate(batches, start=1):
    if number == at:
      os.kill(os.getpid(), signal.SIGTERM)
    yield batch


def test_a_run_from_the_first_to_the_last_step(run, tmp_path, new_state):
  result, printed = run()
  assert (result.status, result.steps) == ("finished", 12)
  lines = record(tmp_path / "run")
  assert [(line["step"], line["split"]) for line in lines] == [
    *[(2, "train"), (4, "train"), (4, "validation"), (6, "train"), (8, "train"), (8, "validation")],
    *[(10, "train"), (12, "train"), (12, "validation")],
  ]
  validations = {line["step"]: line["top1"] for line in lines if line["split"] == "validation"}
  assert result.best_value == max(validations.values()) == validations[result.best_step]
  assert all(line["examples"] == 20 for line in lines if line["split"] == "validation")
  best = saved(tmp_path / "run", new_state(), "best")
  assert int(best.state.step) == result.best_step
  assert printed.endswith(f"All 12 steps are done. Best top1: {result.best_value:.4g} at step {result.best_step}.\n")


def test_a_finished_run_says_so_and_does_nothing(run, tmp_path):
  first, _ = run()
  files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "checkpoints").rglob("*") if path.is_file()}
  before = (tmp_path / "run" / "metrics.jsonl").read_text()
  again, printed = run()
  assert again == first and printed == first.message + "\n"
  assert (tmp_path / "run" / "metrics.jsonl").read_text() == before
  assert {path: path.stat().st_mtime_ns for path in files} == files


@pytest.mark.parametrize("at", [2, 6, 10])
def test_sigterm_saves_the_current_step_and_the_resumed_run_is_bit_identical(run, tmp_path, new_state, at):
  handler = signal.getsignal(signal.SIGTERM)
  run("whole")
  result, printed = run("cut", lambda start: terminating(train_batches(start), at))
  # Batch `at` is loaded while step `at` - 1 runs, so that is the step it ends at.
  assert (result.status, result.steps) == ("terminated", at - 1)
  assert f"step {at - 1} of 12 is saved; the same command resumes there" in printed
  assert int(saved(tmp_path / "cut", new_state()).state.step) == at - 1
  assert signal.getsignal(signal.SIGTERM) is handler
  result, printed = run("cut")
  assert f"Resuming at step {at - 1} of 12." in printed
  assert result.status == "finished"
  assert final_hash(tmp_path / "cut", new_state()) == final_hash(tmp_path / "whole", new_state())
  assert record(tmp_path / "cut") == record(tmp_path / "whole")


def test_sigterm_during_a_validation_abandons_it_and_the_resumed_run_makes_up_for_it(run, tmp_path, new_state):
  whole, _ = run("whole")
  calls = []

  def interrupted_the_third_time():
    calls.append(len(calls))
    return terminating(validation_batches(), at=2 if len(calls) == 3 else 99)

  result, _ = run("cut", validation=interrupted_the_third_time)  # calls: the trial batch, step 4, step 8
  assert (result.status, result.steps) == ("terminated", 8)
  assert record(tmp_path / "cut")[-1] == record(tmp_path / "whole")[4]  # the train line of step 8
  result, _ = run("cut")
  assert result == whole
  assert final_hash(tmp_path / "cut", new_state()) == final_hash(tmp_path / "whole", new_state())
  assert record(tmp_path / "cut") == record(tmp_path / "whole")


def test_early_stopping_counts_across_a_resume(run):
  # Every validation counts the same 20 examples, so the first stays the best.
  options = {"steps": 40, "best_metric": "examples", "patience": 2}
  whole, printed = run("whole", **options)
  assert (whole.status, whole.steps, whole.best_step, whole.best_value) == ("patience", 12, 4, 20.0)
  assert "Stopped early at step 12: 2 validations without a gain. Best examples: 20 at step 4." in printed
  run("cut", lambda start: terminating(train_batches(start), 11), **options)
  resumed, _ = run("cut", **options)
  assert resumed == whole
  again, _ = run("cut", **options)
  assert again == whole


def poisoned(start, steps):
  for step, batch in enumerate(train_batches(start), start=start + 1):
    if step in steps:
      batch["vector"][0] = np.nan
    yield batch


def test_one_non_finite_batch_is_skipped_and_told(run, tmp_path, new_state):
  result, printed = run(batches=lambda start: poisoned(start, {6}))
  assert result.status == "finished"
  assert "Step 6: loss = nan, grad_norm = nan; not applied. Examples [40, 41, 42, 43, 44, 45, 46, 47]." in printed
  state = saved(tmp_path / "run", new_state()).state
  assert (int(state.step), int(state.skipped)) == (12, 1)
  (line,) = [line for line in record(tmp_path / "run") if line["split"] == "non_finite"]
  assert (line["step"], line["loss"], line["index"]) == (6, None, list(range(40, 48)))


def test_non_finite_batches_in_a_row_end_the_run_at_the_last_good_checkpoint(run, tmp_path, new_state):
  with pytest.raises(TrainingError, match=r"3 steps in a row, up to step 8, .*max_non_finite = 3"):
    run(batches=lambda start: poisoned(start, range(6, 99)), max_non_finite=3, checkpoint_every=2)
  restored = saved(tmp_path / "run", new_state())
  assert int(restored.state.step) == 6
  assert restored.meta["counts"]["non_finite"] == 1  # the row goes on if the run is resumed
  assert all(np.isfinite(leaf).all() for leaf in restored.state.trainable.values())


def unreadable(start):
  """Row 0 of every batch can't be read."""
  for batch in train_batches(start):
    batch["ok"][0] = False
    yield batch | {"error": np.array(["no such file"] + [""] * 7)}


def test_too_many_unreadable_clips_end_the_run(run, tmp_path):
  with pytest.raises(TrainingError, match=r"13 of the 104 clips seen by step 13 could not be read"):
    run(batches=unreadable, steps=20)
  lines = [json.loads(line) for line in (tmp_path / "run" / "data_errors.jsonl").read_text().splitlines()]
  assert [line["index"] for line in lines] == [0, 8, 16, 24, 32, 40, 48, 56]  # once each, in two passes
  assert {line["reason"] for line in lines} == {"no such file"}


def test_an_allowed_share_of_unreadable_clips_is_reported(run, tmp_path):
  result, _ = run(batches=unreadable, steps=14, max_error_share=0.125)
  assert result.status == "finished"
  assert {line["not_ok"] for line in record(tmp_path / "run") if line["split"] == "train"} == {0.125}


def test_another_configuration_is_refused_before_anything_is_written(run, tmp_path):
  run()
  before = (tmp_path / "run" / "metrics.jsonl").read_text()
  with pytest.raises(WorkdirError, match=r"config.model.width: 8 -> 9"):
    run(identity={"config": {"model": {"width": 9}}, "data": "toy-1"})
  assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_other_frozen_weights_are_another_run(run, tmp_path, system):
  run()
  weights = {"params": {"backbone": {"bias": np.ones(8)}}}
  with pytest.raises(WorkdirError, match="frozen: "):
    fit(system, train_batches, validation_batches, toy_system.config(), tmp_path / "run", IDENTITY, pretrained=weights)


def test_an_unknown_best_metric_is_refused_before_the_first_step(run):
  with pytest.raises(ConfigError, match=r"best_metric = 'top5' is no number .* use one of loss, examples, top1"):
    run(best_metric="top5")


def test_data_that_end_are_refused(run):
  with pytest.raises(TrainingError, match=r"ended before step 4 of 12; they must repeat"):
    run(batches=lambda start: (batch_of(np.arange(8)) for _ in range(3)))
  with pytest.raises(TrainingError, match=r"hold no batch"):
    run("empty", batches=lambda start: iter(()))


def test_a_batch_that_does_not_divide_is_refused(run):
  with pytest.raises(ConfigError, match=r"global batch of 6 rows"):
    run(batches=lambda start: train_batches(start, rows=6))


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("steps", 0, r"train.steps = 0: it counts steps; use 1 or more"),
    ("patience", -1, r"train.patience = -1 is negative"),
    ("max_error_share", 1.5, r"train.max_error_share = 1.5 is no share"),
    ("best_mode", "most", r"train.best_mode = 'most' is not one of 'max', 'min'"),
  ],
)
def test_impossible_fields_are_refused(field, value, message):
  with pytest.raises(ConfigError, match=message):
    parse(TrainConfig, {"steps": 10, field: value}, "train")


def test_a_configuration_is_parsed_with_its_tables():
  parsed = parse(TrainConfig, {"steps": 10, "optim": {"lr_rules": [["^slow/", 0.1], [".*", 1]]}}, "train")
  assert parsed.optim.lr_rules == (("^slow/", 0.1), (".*", 1.0))
