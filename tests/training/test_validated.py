"""What is called after each validation, and may end the run there."""

import io

import pytest
from rich.console import Console

from gasmcast.training.loop import fit
from tests.training.toy_system import IDENTITY, ToySystem, config, train_batches, validation_batches


class Enough(Exception):
  pass


def run(workdir, validated):
  console = Console(file=io.StringIO())
  return fit(
    ToySystem(), train_batches, validation_batches, config(), workdir, IDENTITY, console=console, validated=validated
  )


def test_it_is_told_the_numbers_of_each_validation_and_can_end_a_run_that_resumes(tmp_path):
  whole, ended = [], []
  expected = run(tmp_path / "whole", lambda step, numbers: whole.append((step, numbers["top1"])))
  assert [step for step, _ in whole] == [4, 8, 12] and max(value for _, value in whole) == expected.best_value

  def stop(step, numbers):
    ended.append((step, numbers["top1"]))
    if step == 8:
      raise Enough

  with pytest.raises(Enough):
    run(tmp_path / "ended", stop)
  assert ended == whole[:2]
  again = []
  assert run(tmp_path / "ended", lambda step, numbers: again.append((step, numbers["top1"]))) == expected
  assert again == whole[1:]  # that of step 8, which had no checkpoint yet, once more
