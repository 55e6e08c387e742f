"""A learning rate that validations lower, and averaged parameters, through whole runs."""

import json

import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.optim import OptimConfig
from gasmcast.training.plateau import PlateauConfig
from gasmcast.training.state import averaged
from tests.training import toy_system
from tests.training.test_loop import final_hash, record, terminating

# The first validation is a gain, no other one can be.
LOWERING = OptimConfig(
  lr=0.03, schedule="plateau", plateau=PlateauConfig(patience=0, factor=0.5, threshold=10.0, min_scale=0.1)
)


def rates(workdir):
  return {line["step"]: line["lr"] for line in record(workdir) if line["split"] == "train"}


def test_validations_without_a_gain_lower_the_learning_rate(run, tmp_path):
  """Validated after the steps 4, 8 and 12; the second one lowers."""
  _, printed = run(optim=LOWERING)
  found = rates(tmp_path / "run")
  np.testing.assert_allclose([found[step] for step in (2, 4, 6, 8, 10, 12)], [0.03] * 4 + [0.015] * 2, rtol=1e-6)
  assert "top1 has stopped getting better: the learning rate is now 0.5 of the schedule's." in printed


def test_a_lowered_learning_rate_is_resumed(run, tmp_path, new_state):
  run("whole", optim=LOWERING, steps=20)
  assert json.loads(json.dumps(rates(tmp_path / "whole")))["20"] == pytest.approx(0.03 / 8)
  for at in (10, 14):
    result, _ = run(
      "cut", lambda start, at=at: terminating(toy_system.train_batches(start), at - start), optim=LOWERING, steps=20
    )
    assert result.status == "terminated"
  resumed, _ = run("cut", optim=LOWERING, steps=20)
  assert resumed.status == "finished" and rates(tmp_path / "cut") == rates(tmp_path / "whole")
  assert final_hash(tmp_path / "cut", new_state()) == final_hash(tmp_path / "whole", new_state())


def test_the_average_is_validated_saved_and_resumed(run, tmp_path, new_state):
  run("plain")
  run("whole", average_decay=0.9)
  assert [one["loss"] for one in record(tmp_path / "plain") if one["split"] == "train"] == [
    one["loss"] for one in record(tmp_path / "whole") if one["split"] == "train"
  ]
  validations = [
    [one["loss"] for one in record(tmp_path / name) if one["split"] == "validation"] for name in ("plain", "whole")
  ]
  assert validations[0] != validations[1]

  result, _ = run("cut", lambda start: terminating(toy_system.train_batches(start), 7), average_decay=0.9)
  assert result.status == "terminated"
  run("cut", average_decay=0.9)
  assert record(tmp_path / "cut") == record(tmp_path / "whole")
  target = new_state(average=True)
  assert final_hash(tmp_path / "cut", target) == final_hash(tmp_path / "whole", target)

  with Checkpoints(tmp_path / "whole" / "checkpoints") as checkpoints:
    state = checkpoints.restore(target, toy_system.IDENTITY, "latest").state
  assert averaged(state).trainable is state.average
  assert not np.allclose(state.average["head/kernel"], state.trainable["head/kernel"])


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_is_no_share_is_refused(decay):
  with pytest.raises(ConfigError, match=f"train.average_decay = {decay}: it is the share of the old average"):
    toy_system.config(average_decay=decay)
