"""What is read of each step, one step late, and when it ends the run."""

import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from gasmcast.core.errors import TrainingError
from gasmcast.training.config import TrainConfig
from gasmcast.training.monitor import Counts, Monitor, lr_factors
from gasmcast.training.optim import OptimConfig
from gasmcast.training.tracking import Tracker

INDEX = np.array([3, 8, 1, 9], np.int32)


@pytest.fixture
def monitor(system, tmp_path):
  """(monitor, function that reads metrics.jsonl, what was printed)."""
  printed = io.StringIO()
  with Tracker(tmp_path, 0, 100, "top1", Console(file=printed)) as tracker:

    def create(counts=Counts(), names=(), optim=OptimConfig(), **fields):
      defaults = {"log_every": 10, "max_non_finite": 3, "max_error_share": 0.1}
      return Monitor(system, tracker, TrainConfig(steps=100, optim=optim, **(defaults | fields)), counts, names)

    create.lines = lambda: [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    create.printed = printed.getvalue
    yield create


def metrics(loss=0.5, rows=4, failed=0):
  scalars = {"loss": loss, "grad_norm": 2.0, "lr": 0.1, "not_ok": failed / rows, "rows": rows, "failed": failed}
  sums = {"examples": jnp.asarray(rows - failed), "top1": jnp.asarray(1)}
  return {**scalars, "finite": np.isfinite(loss), "parts": {"action": loss}, "sums": sums, "index": INDEX}


def test_a_step_is_read_when_the_next_one_started(monitor):
  watched = monitor(log_every=1)
  watched.push(1, metrics(loss=0.25))
  assert monitor.lines() == []
  watched.push(2, metrics())
  (line,) = monitor.lines()
  assert line["clips_per_second"] > 0 and 0 <= line["time/input_wait"] <= 1 and line["memory/rss_mb"] > 1
  measured = ("time", "clips_per_second", "speed", "memory")
  assert {name: value for name, value in line.items() if name.split("/")[0] not in measured} == {
    "step": 1,
    "split": "train",
    "examples": 4.0,
    "top1": 0.25,
    "loss": 0.25,
    "grad_norm": 2.0,
    "lr": 0.1,
    "not_ok": 0.0,
    "loss/action": 0.25,
    "failed_clips": 0,
    "recompilations": 0,
  }
  watched.flush()
  watched.flush()
  assert [line["step"] for line in monitor.lines()] == [1, 2]


def test_non_finite_steps_in_a_row_end_the_run(monitor):
  watched = monitor(counts=Counts(non_finite=1))  # one before the resume
  watched.push(1, metrics(loss=np.nan))
  watched.push(2, metrics())  # a finite step ends the row
  watched.push(3, metrics(loss=np.nan))
  watched.push(4, metrics(loss=np.inf))
  watched.push(5, metrics(loss=np.nan))
  with pytest.raises(
    TrainingError, match=r"3 steps in a row, up to step 5.*max_non_finite = 3.*examples \[3, 8, 1, 9\]"
  ):
    watched.flush()
  recorded = [(line["step"], line["split"], line["loss"], line["index"]) for line in monitor.lines()]
  assert recorded == [(step, "non_finite", None, [3, 8, 1, 9]) for step in (1, 3, 4, 5)]
  assert "Step 4: loss = inf; not applied. Examples [3, 8, 1, 9]." in monitor.printed()


def test_too_many_unreadable_clips_end_the_run_once_100_were_seen(monitor):
  watched = monitor(counts=Counts(seen=91, failed=9))
  watched.push(1, metrics(failed=2))
  watched.flush()  # 11 of 95: too few clips to judge
  assert watched.counts == Counts(seen=95, failed=11)
  watched.push(2, metrics(failed=0))
  watched.push(3, metrics(failed=0))
  with pytest.raises(TrainingError, match=r"11 of the 103 clips seen by step 3 .* share of 0.1 .*data_errors.jsonl"):
    watched.flush()


def test_the_allowed_share_itself_is_allowed(monitor):
  watched = monitor(counts=Counts(seen=96, failed=10))
  watched.push(1, metrics())
  watched.flush()
  assert watched.counts == Counts(seen=100, failed=10)


def test_a_batch_of_unreadable_clips_is_logged_without_scores(monitor):
  watched = monitor(log_every=1)
  watched.push(1, metrics(failed=4))
  watched.flush()
  (line,) = monitor.lines()
  assert line["not_ok"] == 1.0 and "top1" not in line


NAMES = ("head/kernel", "head/bias", "norm/scale")


def grouped(without=(), **fields):
  """The metrics of a step of the parameters `NAMES`, in the groups head and norm."""
  groups = {
    "grad_norm": np.array([3.0, 0.0]),
    "param_norm": np.array([4.0, 0.0]),
    "update_norm": np.array([0.004, 0.25]),
  }
  return metrics(**fields) | {"groups": groups, "no_gradient": np.array([name in without for name in sorted(NAMES)])}


def test_a_line_has_the_norms_of_each_group(monitor):
  watched = monitor(log_every=1, names=NAMES)
  watched.push(1, grouped())
  watched.flush()
  (line,) = monitor.lines()
  assert [line[f"{kind}/head"] for kind in ("grad_norm", "param_norm", "update_ratio")] == [3.0, 4.0, 0.001]
  assert (line["grad_norm/norm"], line["param_norm/norm"]) == (0.0, 0.0)
  assert "update_ratio/norm" not in line  # of parameters that are all zero there is no ratio


def test_parameters_that_never_had_a_gradient_are_named_when_they_become_fewer(monitor):
  watched = monitor(log_every=1, names=NAMES)
  for step, without in enumerate((NAMES, NAMES[:2], NAMES[:2], (*NAMES[1:],)), start=1):
    watched.push(step, grouped(without))
  watched.push(5, grouped(loss=np.nan))  # says nothing about gradients
  watched.push(6, grouped(failed=4))  # neither does this
  watched.flush()
  found = [(line["step"], line["parameters"], line["of"]) for line in monitor.lines() if line["split"] == "no_gradient"]
  assert found == [(1, sorted(NAMES), 3), (2, ["head/bias", "head/kernel"], 3), (4, ["head/bias"], 3)]
  assert watched.counts.no_gradient == ("head/bias",)


def test_a_resumed_run_goes_on_with_the_parameters_that_had_no_gradient(monitor):
  watched = monitor(counts=Counts(no_gradient=("head/bias",)), log_every=1, names=NAMES)
  watched.push(1, grouped(NAMES))
  watched.flush()
  assert watched.counts.no_gradient == ("head/bias",) and [line["split"] for line in monitor.lines()] == ["train"]


def test_learning_rates_are_logged_where_a_rule_changes_them(monitor):
  optim = OptimConfig(lr_rules=((r"^head/", 0.5), (r"^motion/", 0.1), (".*", 1.0)))
  watched = monitor(log_every=1, names=NAMES, optim=optim)
  watched.push(1, metrics())
  watched.flush()
  (line,) = monitor.lines()
  assert {name: value for name, value in line.items() if name.startswith("lr")} == {"lr": 0.1, "lr/head": 0.05}


def test_rules_are_named_by_their_patterns():
  config = OptimConfig(lr_rules=(("/(kernel)$", 0.5), ("kernel", 0.25), (r"/(bias|x)$", 0.3), (".*", 2.0)))
  names = ["a/kernel", "b/kernel_1", "c/bias", "d/scale"]
  assert lr_factors(config, names) == {"kernel_1": 0.5, "kernel_2": 0.25, "biasx": 0.3, "rest": 2.0}


class Step:
  """Doubles numbers; says that it was compiled as often as it met another shape."""

  def __init__(self):
    self.shapes = set()

  def __call__(self, state, batch):
    self.shapes.add(batch["x"].shape)
    return state, batch["x"] * 2

  def memory(self, state, batch):
    return 3_000_000 * len(batch["x"])

  @property
  def compilations(self):
    return len(self.shapes)


def test_a_second_compilation_is_told_and_counted(monitor):
  watched, step = monitor(log_every=1), Step()
  for number, rows in enumerate((4, 4, 3, 3), start=1):
    state, doubled = watched.run(number, step, "state", {"x": np.ones((rows, 2), np.float32), "a": np.ones(rows)})
    assert state == "state" and doubled.shape == (rows, 2)
    watched.push(number, metrics())
  watched.flush()
  lines = monitor.lines()
  assert [line["recompilations"] for line in lines] == [0, 1, 1, 1]  # step 2 is read when step 3 was compiled
  assert [line["memory/step_mb"] for line in lines] == [12, 9, 9, 9]
  assert ["time/compilation" in line for line in lines] == [True, True, False, False]
  expected = "Step 3: the step was compiled again, which costs time. Its batch: a float64[3], x float32[3, 2].\n"
  assert monitor.printed().count("compiled again") == 1 and expected in monitor.printed()
