"""What is read of each step, one step late, and when it ends the run."""

import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from gasmcast.core.errors import TrainingError
from gasmcast.training.config import TrainConfig
from gasmcast.training.monitor import Counts, Monitor
from gasmcast.training.tracking import Tracker

INDEX = np.array([3, 8, 1, 9], np.int32)


@pytest.fixture
def monitor(system, tmp_path):
  """(monitor, function that reads metrics.jsonl, what was printed)."""
  printed = io.StringIO()
  with Tracker(tmp_path, 0, 100, "top1", Console(file=printed)) as tracker:

    def create(counts=Counts(), log_every=10, max_non_finite=3, max_error_share=0.1):
      limits = {"log_every": log_every, "max_non_finite": max_non_finite, "max_error_share": max_error_share}
      return Monitor(system, tracker, TrainConfig(steps=100, **limits), counts)

    create.lines = lambda: [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    create.printed = printed.getvalue
    yield create


def metrics(loss=0.5, rows=4, failed=0):
  scalars = {"loss": loss, "grad_norm": 2.0, "lr": 0.1, "not_ok": failed / rows, "rows": rows, "failed": failed}
  sums = {"examples": jnp.asarray(rows - failed), "top1": jnp.asarray(1)}
  return {**scalars, "finite": np.isfinite(loss), "parts": {"action": loss}, "sums": sums}


def test_a_step_is_read_when_the_next_one_started(monitor):
  watched = monitor(log_every=1)
  watched.push(1, INDEX, metrics(loss=0.25))
  assert monitor.lines() == []
  watched.push(2, INDEX, metrics())
  (line,) = monitor.lines()
  assert {**line, "time": 0, "clips_per_second": 0} == {
    "step": 1,
    "time": 0,
    "split": "train",
    "examples": 4.0,
    "top1": 0.25,
    "loss": 0.25,
    "grad_norm": 2.0,
    "lr": 0.1,
    "not_ok": 0.0,
    "loss/action": 0.25,
    "clips_per_second": 0,
  }
  watched.flush()
  watched.flush()
  assert [line["step"] for line in monitor.lines()] == [1, 2]


def test_non_finite_steps_in_a_row_end_the_run(monitor):
  watched = monitor(counts=Counts(non_finite=1))  # one before the resume
  watched.push(1, INDEX, metrics(loss=np.nan))
  watched.push(2, INDEX, metrics())  # a finite step ends the row
  watched.push(3, INDEX, metrics(loss=np.nan))
  watched.push(4, INDEX, metrics(loss=np.inf))
  watched.push(5, INDEX, metrics(loss=np.nan))
  with pytest.raises(
    TrainingError, match=r"3 steps in a row, up to step 5.*max_non_finite = 3.*examples \[3, 8, 1, 9\]"
  ):
    watched.flush()
  recorded = [(line["step"], line["split"], line["loss"], line["index"]) for line in monitor.lines()]
  assert recorded == [(step, "non_finite", None, [3, 8, 1, 9]) for step in (1, 3, 4, 5)]
  assert "Step 4: loss = inf; not applied. Examples [3, 8, 1, 9]." in monitor.printed()


def test_too_many_unreadable_clips_end_the_run_once_100_were_seen(monitor):
  watched = monitor(counts=Counts(seen=91, failed=9))
  watched.push(1, INDEX, metrics(failed=2))
  watched.flush()  # 11 of 95: too few clips to judge
  assert watched.counts == Counts(seen=95, failed=11)
  watched.push(2, INDEX, metrics(failed=0))
  watched.push(3, INDEX, metrics(failed=0))
  with pytest.raises(TrainingError, match=r"11 of the 103 clips seen by step 3 .* share of 0.1 .*data_errors.jsonl"):
    watched.flush()


def test_the_allowed_share_itself_is_allowed(monitor):
  watched = monitor(counts=Counts(seen=96, failed=10))
  watched.push(1, INDEX, metrics())
  watched.flush()
  assert watched.counts == Counts(seen=100, failed=10)


def test_a_batch_of_unreadable_clips_is_logged_without_scores(monitor):
  watched = monitor(log_every=1)
  watched.push(1, INDEX, metrics(failed=4))
  watched.flush()
  (line,) = monitor.lines()
  assert line["not_ok"] == 1.0 and "top1" not in line
