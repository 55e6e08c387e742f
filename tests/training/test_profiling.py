"""Which steps are traced, and that nothing about it stops a training."""

import logging

import jax
import jax.numpy as jnp
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.training.config import TrainConfig
from gasmcast.training.profiling import Profiler


@pytest.fixture
def calls(monkeypatch):
  """What is asked of jax.profiler."""
  calls = []
  monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append(("start", folder)))
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
  return calls


def train(profiler, first, last):
  said = []
  for step in range(first, last + 1):
    profiler.before(step)
    said.append(step)
    profiler.after(step, jnp.zeros(()))


def test_the_wanted_steps_are_traced_and_the_place_is_said(tmp_path, calls):
  said = []
  with Profiler((3, 5), tmp_path, said.append) as profiler:
    for step in range(1, 9):
      profiler.before(step)
      calls.append(step)
      profiler.after(step, jnp.zeros(()))
  assert calls == [1, 2, ("start", tmp_path), 3, 4, 5, "stop", 6, 7, 8]
  assert said == [
    f"Steps 3 to 5 are traced in {tmp_path}: pip install tensorboard xprof, then tensorboard --logdir {tmp_path} and "
    "the tab Profile; or open its *.trace.json.gz in ui.perfetto.dev."
  ]


@pytest.mark.parametrize(("first", "last"), [(1, 2), (6, 9)])
def test_a_run_that_does_not_meet_the_steps_traces_nothing(tmp_path, calls, first, last):
  with Profiler((3, 5), tmp_path, pytest.fail) as profiler:
    train(profiler, first, last)
  assert calls == []


def test_a_run_resumed_between_the_steps_traces_the_rest_of_them(tmp_path, calls):
  said = []
  with Profiler((3, 5), tmp_path, said.append) as profiler:
    train(profiler, 4, 8)
  assert calls == [("start", tmp_path), "stop"] and said[0].startswith("Steps 4 to 5 are traced")


def test_a_run_that_ends_between_the_steps_ends_the_trace(tmp_path, calls):
  with Profiler((3, 5), tmp_path, pytest.fail) as profiler:
    train(profiler, 1, 4)
  assert calls == [("start", tmp_path), "stop"]


@pytest.mark.parametrize("part", ["start_trace", "stop_trace"])
def test_a_failing_profiler_is_told_once_and_stops_nothing(tmp_path, calls, monkeypatch, caplog, part):
  def fail(*_):
    raise RuntimeError("another session is active")

  monkeypatch.setattr(jax.profiler, part, fail)
  with caplog.at_level(logging.WARNING), Profiler((2, 3), tmp_path, pytest.fail) as profiler:
    train(profiler, 1, 6)
  warnings = [record.getMessage() for record in caplog.records if record.name.startswith("gasmcast")]
  assert len(warnings) == 1
  assert "The trace of config.train.profile failed and is given up; training goes on" in warnings[0]
  assert "another session is active" in warnings[0]


def test_only_process_0_traces(tmp_path, calls, monkeypatch):
  monkeypatch.setattr("jax.process_index", lambda: 1)
  with Profiler((1, 2), tmp_path, pytest.fail) as profiler:
    train(profiler, 1, 3)
  assert calls == []


@pytest.mark.parametrize("profile", [(5,), (0, 2), (4, 3), (1, 2, 3)])
def test_impossible_steps_are_refused(profile):
  with pytest.raises(ConfigError, match=r"config.train.profile = \(.*\): a trace has a first and a last step"):
    TrainConfig(steps=9, profile=profile)


def test_a_whole_run_leaves_a_trace(run, tmp_path):
  result, printed = run(profile=(2, 3))
  assert result.status == "finished" and "Steps 2 to 3 are traced in" in printed
  assert len(list((tmp_path / "run" / "profile").glob("plugins/profile/*/*.xplane.pb"))) == 1
