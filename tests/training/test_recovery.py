"""What a run does about steps that are not finite: it leaves them out, goes back, or stops."""

import json

import numpy as np
import pytest

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError, TrainingError
from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.config import TrainConfig
from gasmcast.training.state import fingerprint
from tests.training import toy_system
from tests.training.test_loop import final_hash, record, saved, terminating
from tests.training.toy_system import train_batches


def poisoned(start, steps):
  """The batches of the toy data, with a nan in those of these steps."""
  for step, batch in enumerate(train_batches(start), start=start + 1):
    if step in steps:
      batch["vector"][0] = np.nan
    yield batch


def unreadable(start, steps):
  """The batches of the toy data; of those of these steps no row can be read."""
  for step, batch in enumerate(train_batches(start), start=start + 1):
    if step in steps:
      batch = {**batch, "vector": batch["vector"] * 0, "ok": np.zeros(8, bool)}
    yield batch


def kept_steps(workdir, target):
  """Step -> its state, of all checkpoints."""
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    return {step: checkpoints.restore(target, {}, step).state for step in checkpoints.steps()}


def all_finite(state):
  return all(np.isfinite(leaf).all() for leaf in state.trainable.values())


def learned(state):
  return fingerprint((state.trainable, state.collections, state.opt_state))


@pytest.mark.reliability(9)
def test_a_run_with_a_nan_is_the_run_without_that_update(run, tmp_path, new_state, figure):
  result, printed = run("nan", batches=lambda start: poisoned(start, {6}))
  without, _ = run("without", batches=lambda start: unreadable(start, {6}), max_error_share=1.0)
  assert (result.status, result.steps) == (without.status, without.steps) == ("finished", 12)
  states = [saved(tmp_path / name, new_state()).state for name in ("nan", "without")]
  assert fingerprint(states[0].replace(frozen={})) == fingerprint(states[1].replace(frozen={}))
  assert int(states[0].skipped) == 1
  assert "Step 6: loss = nan, grad_norm = nan; not applied. Examples [40, 41, 42, 43, 44, 45, 46, 47]." in printed
  (line,) = [line for line in record(tmp_path / "nan") if line["split"] == "non_finite"]
  assert (line["step"], line["index"]) == (6, list(range(40, 48)))
  figure("nan in 1 of 12 batches: 1 update left out and logged with its 8 examples, final state bit for bit the same")


ROLLBACK = {"non_finite": "rollback", "max_non_finite": 3}


def test_a_row_leads_back_to_the_checkpoint_before_it_and_on_behind_it(run, tmp_path, new_state):
  result, printed = run(batches=lambda start: poisoned(start, {6, 7, 8}), **ROLLBACK)
  assert (result.status, result.steps) == ("finished", 12)
  assert "Step 8: back to the parameters of step 4, and on behind the 4 batches since then. Rollback 1 of" in printed
  # Steps 5 to 8 have left nothing: the run is one in which none of their rows could be read.
  run("without", batches=lambda start: unreadable(start, {5, 6, 7, 8}), max_error_share=1.0)
  states = [saved(tmp_path / name, new_state()).state for name in ("run", "without")]
  assert learned(states[0]) == learned(states[1])
  assert [(int(state.step), int(state.skipped)) for state in states] == [(12, 4), (12, 4)]
  lines = [(line["step"], line["split"]) for line in record(tmp_path / "run")]
  assert (8, "rollback") in lines and lines == sorted(lines, key=lambda line: line[0])


@pytest.mark.parametrize("at", [6, 8, 9, 11])
def test_a_run_that_is_stopped_around_a_rollback_goes_back_to_where_the_uninterrupted_one_does(
  run, tmp_path, new_state, at
):
  bad = lambda start: poisoned(start, {6, 7, 8})
  whole, _ = run("whole", batches=bad, **ROLLBACK)
  cut, _ = run("cut", batches=lambda start: terminating(bad(start), at - start), **ROLLBACK)
  assert cut.status == "terminated"
  resumed, _ = run("cut", batches=bad, **ROLLBACK)
  assert resumed == whole
  assert final_hash(tmp_path / "cut", new_state()) == final_hash(tmp_path / "whole", new_state())
  assert record(tmp_path / "cut") == record(tmp_path / "whole")


def test_a_row_from_the_first_step_on_leads_back_to_the_beginning(run, tmp_path, new_state):
  result, printed = run(batches=lambda start: poisoned(start, {1, 2, 3}), **ROLLBACK)
  assert result.status == "finished" and "Step 3: back to the parameters of step 0, and on" in printed


def test_a_run_resumed_with_the_policy_rollback_goes_back_to_where_it_was_resumed(run):
  seldom = {"checkpoint_every": 1000, "validate_every": 12}
  cut, _ = run(batches=lambda start: terminating(train_batches(start), 4 - start), **seldom)
  assert cut.status == "terminated"
  result, printed = run(batches=lambda start: poisoned(start, {8, 9, 10}), **seldom, **ROLLBACK)
  assert result.status == "finished" and f"Step 10: back to the parameters of step {cut.steps}, and on" in printed


@pytest.mark.reliability(10)
def test_nan_for_ten_steps_leads_back_and_then_ends_the_run(run, tmp_path, new_state, figure):
  bad = lambda start: poisoned(start, range(6, 16))
  fields = {**ROLLBACK, "max_non_finite": 5, "steps": 24, "checkpoint_every": 1}
  with pytest.raises(TrainingError, match=r"5 steps in a row, up to step 15, .* gone back 1 time\(s\), as often as"):
    run(batches=bad, max_rollbacks=1, **fields)
  states = kept_steps(tmp_path / "run", new_state())
  assert all(map(all_finite, states.values()))
  assert learned(states[10]) == learned(states[max(states)])  # all are that of step 5
  note = "Step 10: back to the parameters of step 5"
  kept = f"{len(states)} checkpoints kept, all finite"
  # With one more rollback allowed it goes on behind the last nan.
  result, printed = run("again", batches=bad, max_rollbacks=2, **fields)
  assert result.status == "finished" and note in printed and "Step 15: back to the parameters of step 10" in printed
  assert int(saved(tmp_path / "again", new_state()).state.skipped) == 10
  figure(f"nan in steps 6 to 15: back to step 5 after step 10, stopped with an error after step 15; {kept}")


def test_without_rollbacks_the_state_before_the_row_is_what_is_kept(run, tmp_path, new_state):
  with pytest.raises(TrainingError, match="10 steps in a row, up to step 15, .* config.train.max_non_finite = 10"):
    run(batches=lambda start: poisoned(start, range(6, 99)), max_non_finite=10, steps=24)
  assert all(map(all_finite, kept_steps(tmp_path / "run", new_state()).values()))


def test_the_policy_stop_stops_at_the_first_and_another_one_goes_on(run, tmp_path):
  bad = lambda start: poisoned(start, {6})
  with pytest.raises(TrainingError, match=r"Step 6: loss = nan, .*train.non_finite = 'stop'. The update was not app"):
    run(batches=bad, non_finite="stop")
  result, printed = run(batches=bad, non_finite="skip")
  assert result.status == "finished" and "Resuming at step 4." in printed


def test_statistics_that_are_not_finite_are_no_checkpoint_and_lead_back(run, tmp_path, new_state, monkeypatch):
  """Whatever the step does not look at is looked at before it is saved."""
  real, spoiled = Checkpoints.save, []

  def save(self, state, *arguments):
    if int(state.step) == 8 and not spoiled:
      spoiled.append(8)
      statistics = {"norm": {name: leaf * np.nan for name, leaf in state.collections["batch_stats"]["norm"].items()}}
      state = state.replace(collections={"batch_stats": statistics})
    return real(self, state, *arguments)

  monkeypatch.setattr(Checkpoints, "save", save)
  result, printed = run(**ROLLBACK)
  assert result.status == "finished" and "Step 8: back to the parameters of step 4" in printed
  spoiled.clear()
  with pytest.raises(TrainingError, match=r"2 of the \d+ arrays of the state after step 8 are not finite: batch_st"):
    run("skip")
  assert sorted(kept_steps(tmp_path / "skip", new_state())) == [4]


def test_if_the_checkpoint_to_go_back_to_is_gone_the_run_ends_and_says_so(run, tmp_path):
  bad = lambda start: poisoned(start, {6, 7, 8})
  run(batches=lambda start: terminating(bad(start), 7), **ROLLBACK)
  meta = [path for path in (tmp_path / "run" / "checkpoints" / "4").iterdir() if path.name == "checksums.json"]
  meta[0].unlink()
  with pytest.raises(TrainingError, match=r"There is no checkpoint to go back to\. No checkpoint .* Step 4 was never"):
    run(batches=bad, **ROLLBACK)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("non_finite", "ignore", r"train.non_finite = 'ignore' is not one of 'skip', 'rollback', 'stop'"),
    ("max_rollbacks", -1, r"train.max_rollbacks = -1 is negative; use 0 for none"),
    ("watchdog", -1.0, r"train.watchdog = -1 is negative; use 0 to switch it off"),
  ],
)
def test_impossible_fields_are_refused(field, value, message):
  with pytest.raises(ConfigError, match=message):
    parse(TrainConfig, {"steps": 10, field: value}, "train")


def test_the_policy_may_change_when_a_run_is_resumed(whole):
  result, _ = toy_system.train(whole[0], non_finite="rollback", max_rollbacks=9, watchdog=0.0)
  assert result == whole[1]
  progress = json.loads(next((whole[0] / "checkpoints" / "12").glob("meta/metadata")).read_text())["progress"]
  assert progress["recovery"] == {"good_step": 12, "rollbacks": 0}
