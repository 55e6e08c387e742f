"""Every example counts once, however a split is cut and filled up."""

import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.training.evaluation import evaluate, summarize
from gasmcast.training.step import compile_eval_step
from tests.training.toy_system import batch_of, validation_batches


@pytest.fixture
def step_and_state(system, new_state):
  state = new_state()
  return compile_eval_step(system, state), state


def test_padded_batches_count_each_example_once(system, step_and_state, mesh):
  step, state = step_and_state
  one = evaluate(step, state, validation_batches(examples=20, rows=24), mesh)
  three = evaluate(step, state, validation_batches(examples=20, rows=8), mesh)
  assert one["rows"] == three["rows"] == one["metrics"]["examples"] == three["metrics"]["examples"] == 20
  assert one["metrics"]["top1"] == three["metrics"]["top1"] > 0
  assert summarize(system, one) == pytest.approx(summarize(system, three), rel=1e-6)
  assert summarize(system, three)["top1"] == three["metrics"]["top1"] / 20


def test_what_is_interrupted_has_no_result(step_and_state, mesh):
  asked = iter([False, True])
  assert evaluate(*step_and_state, validation_batches(), mesh, lambda: next(asked)) is None


def test_a_split_without_examples_is_refused(system, step_and_state, mesh):
  with pytest.raises(DataError, match="got no batch"):
    evaluate(*step_and_state, iter(()), mesh)
  unreadable = batch_of(np.arange(8)) | {"ok": np.zeros(8, bool)}
  with pytest.raises(DataError, match="no readable example"):
    summarize(system, evaluate(*step_and_state, iter([unreadable]), mesh))
