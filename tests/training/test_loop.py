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
  measured = ("time", "clips_per_second", "speed", "memory")
  return [{k: v for k, v in line.items() if k.split("/")[0] not in measured} for line in lines]


def terminating(batches, at):
  """`batches`, with a SIGTERM when number `at` is asked for."""
  for number, batch in enumerate(batches, start=1):
    if number == at:
      os.kill(os.getpid(), signal.SIGTERM)
    yield batch


def test_a_run_from_the_first_to_the_last_step(whole, new_state):
  folder, result, printed = whole
  assert (result.status, result.steps) == ("finished", 12)
  lines = record(folder)
  assert [(line["step"], line["split"]) for line in lines] == [
    *[(2, "train"), (4, "train"), (4, "validation"), (6, "train"), (8, "train"), (8, "validation")],
    *[(10, "train"), (12, "train"), (12, "validation")],
  ]
  validations = {line["step"]: line["top1"] for line in lines if line["split"] == "validation"}
  assert result.best_value == max(validations.values()) == validations[result.best_step]
  assert all(line["examples"] == 20 for line in lines if line["split"] == "validation")
  assert int(saved(folder, new_state(), "best").state.step) == result.best_step
  assert printed.endswith(f"All 12 steps are done. Best top1: {result.best_value:.4g} at step {result.best_step}.\n")


def test_a_finished_run_says_so_and_does_nothing(whole):
  folder, first, _ = whole
  before = {
    path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.parent.name != "tensorboard"
  }
  again, printed = toy_system.train(folder)
  assert again == first and printed == first.message + "\n"
  assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("at", [2, 8])
def test_sigterm_saves_the_current_step_and_the_resumed_run_is_bit_identical(run, whole, tmp_path, new_state, at):
  handler = signal.getsignal(signal.SIGTERM)
  result, printed = run("cut", lambda start: terminating(train_batches(start), at))
  # Batch `at` is loaded while step `at` - 1 runs, so that is the step it ends at.
  assert (result.status, result.steps) == ("terminated", at - 1)
  assert f"step {at - 1} of 12 is saved; the same command resumes there" in printed
  assert int(saved(tmp_path / "cut", new_state()).state.step) == at - 1
  assert signal.getsignal(signal.SIGTERM) is handler
  resumed, printed = run("cut")
  assert f"Resuming at step {at - 1}." in printed
  assert resumed == whole[1]
  assert final_hash(tmp_path / "cut", new_state()) == final_hash(whole[0], new_state())
  assert record(tmp_path / "cut") == record(whole[0])


@pytest.mark.parametrize(("call", "step"), [(3, 8), (4, 12)])  # the first call is the trial batch
def test_sigterm_during_a_validation_abandons_it_and_the_resumed_run_makes_up_for_it(
  run, whole, tmp_path, new_state, call, step
):
  calls = []

  def interrupted_once():
    calls.append(len(calls))
    return terminating(validation_batches(), at=2 if len(calls) == call else 99)

  result, _ = run("cut", validation=interrupted_once)
  assert (result.status, result.steps) == ("terminated", step)
  assert record(tmp_path / "cut") == record(whole[0])[: {8: 5, 12: 8}[step]]  # up to the train line of this step
  resumed, _ = run("cut")
  assert resumed == whole[1]
  assert run("cut") == (whole[1], whole[1].message + "\n")  # and that is recorded, too
  assert final_hash(tmp_path / "cut", new_state()) == final_hash(whole[0], new_state())
  assert record(tmp_path / "cut") == record(whole[0])


def test_early_stopping_counts_across_a_resume(run):
  # Every validation counts the same 20 examples, so the first stays the best.
  options = {"validate_every": 2, "best_metric": "examples", "patience": 2}
  run(batches=lambda start: terminating(train_batches(start), 6), **options)  # after one validation without a gain
  for _ in range(2):  # the second time there is nothing left to do
    result, printed = run(**options)
    assert (result.status, result.steps, result.best_step, result.best_value) == ("patience", 6, 2, 20.0)
    assert "Stopped early at step 6: 2 validations without a gain. Best examples: 20 at step 2." in printed


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
  assert restored.meta["progress"]["counts"]["non_finite"] == 1  # the row goes on if the run is resumed
  assert all(np.isfinite(leaf).all() for leaf in restored.state.trainable.values())


def unreadable(start):
  """Row 0 of every batch can't be read."""
  for batch in train_batches(start):
    batch["ok"][0] = False
    yield batch | {"error": np.array(["no such file"] + [""] * 7)}


def test_too_many_unreadable_clips_end_the_run_and_are_listed_once(run, tmp_path):
  with pytest.raises(TrainingError, match=r"13 of the 104 clips seen by step 13 could not be read"):
    run(batches=unreadable, steps=20)
  lines = [json.loads(line) for line in (tmp_path / "run" / "data_errors.jsonl").read_text().splitlines()]
  assert [line["index"] for line in lines] == [0, 8, 16, 24, 32, 40, 48, 56]  # in two passes over the data
  assert {line["reason"] for line in lines} == {"no such file"}
  assert {line["not_ok"] for line in record(tmp_path / "run") if line["split"] == "train"} == {0.125}


def test_another_configuration_is_refused_before_anything_is_written(whole):
  before = (whole[0] / "metrics.jsonl").read_bytes()
  with pytest.raises(WorkdirError, match=r"config.model.width: 8 -> 9"):
    toy_system.train(whole[0], identity={"config": {"model": {"width": 9}}, "data": "toy-1"})
  assert (whole[0] / "metrics.jsonl").read_bytes() == before


def test_what_changes_no_number_may_change_and_all_else_is_refused(whole):
  result, _ = toy_system.train(whole[0], log_every=7, checkpoint_every=5, max_non_finite=9, max_error_share=1.0)
  assert result == whole[1]
  with pytest.raises(WorkdirError, match=r"1 field\(s\) differ, saved -> now: train.patience: 0 -> 5"):
    toy_system.train(whole[0], patience=5)


def test_other_frozen_weights_are_another_run(whole):
  weights = {"params": {"backbone": {"bias": np.ones(8)}}}
  with pytest.raises(WorkdirError, match=r"1 field\(s\) differ, saved -> now: frozen: "):
    toy_system.train(whole[0], pretrained=weights)


def test_a_first_validation_batch_that_can_not_be_read_ends_no_run(run):
  def validation():
    first, *others = toy_system.validation_batches()
    yield {**first, "ok": np.zeros(8, bool)}
    yield from others

  result, printed = run(validation=validation)
  assert result.status == "finished" and "validation: loss" in printed


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
