"""When the learning rate is lowered, by hand and beside PyTorch."""

import itertools
import json
import math

import numpy as np
import pytest

from gasmcast.core.config import parse, to_dict
from gasmcast.core.errors import ConfigError
from gasmcast.training.plateau import Plateau, PlateauConfig


def scales(values, mode="max", **fields):
  config, plateau, found = PlateauConfig(**fields), Plateau(), []
  for value in values:
    plateau = plateau.after(value, mode, config)
    found.append(plateau.scale)
  return found


def test_patience_is_let_pass_and_the_next_one_lowers():
  assert scales((0.5, 0.4, 0.4, 0.4, 0.4), factor=0.5, patience=2) == [1, 1, 1, 0.5, 0.5]
  assert scales((0.5, 0.4, 0.4), factor=0.5, patience=0) == [1, 0.5, 0.25]
  assert scales((0.5, 0.4, 0.6, 0.5, 0.5), factor=0.5, patience=1) == [1, 1, 1, 1, 0.5]


def test_less_is_better_where_the_mode_says_so():
  assert scales((0.5, 0.4, 0.3), "min", factor=0.5, patience=0) == [1, 1, 1]
  assert scales((0.5, 0.6, 0.4), "min", factor=0.5, patience=0) == [1, 0.5, 0.5]


def test_a_gain_below_the_threshold_is_none():
  values = (0.5, 0.54, 0.56)  # + 8 %, + 12 % of the best
  assert scales(values, factor=0.5, patience=0, threshold=0.1) == [1, 0.5, 0.5]
  assert scales((-1.0, -0.95, -0.85), factor=0.5, patience=0, threshold=0.1) == [1, 0.5, 0.5]  # a share of its size


def test_validations_after_a_lowering_do_not_count_while_it_cools_down():
  #            best bad  cool cool bad
  assert scales((0.5, 0.4, 0.4, 0.4, 0.4), factor=0.5, patience=0, cooldown=2) == [1, 0.5, 0.5, 0.5, 0.25]


def test_the_scale_has_a_floor():
  assert scales((0.5, 0.4, 0.4, 0.4), factor=0.5, patience=0, min_scale=0.3) == [1, 0.5, 0.3, 0.3]


def test_a_value_that_is_not_finite_is_no_gain():
  assert scales((math.nan, 0.5, math.inf, 0.6), factor=0.5, patience=0) == [0.5, 0.5, 0.25, 0.25]


def test_the_state_survives_json():
  config = PlateauConfig(patience=1, cooldown=3)
  plateau = Plateau()
  for value in (0.5, 0.4, 0.4, 0.4):
    plateau = plateau.after(value, "max", config)
  assert plateau == Plateau(scale=0.1, best=0.5, without_gain=0, cooldown_left=2)
  assert parse(Plateau, json.loads(json.dumps(to_dict(plateau)))) == plateau


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["min", "max"])
def test_decisions_are_those_of_pytorch(mode):
  torch = pytest.importorskip("torch", reason="compares with PyTorch")
  rng, lowered = np.random.default_rng(0), 0
  for _ in range(50):
    fields = {"factor": float(rng.choice([0.1, 0.5])), "patience": int(rng.integers(0, 4))}
    fields |= {"threshold": float(rng.choice([0.0, 1e-4, 0.05])), "cooldown": int(rng.integers(0, 4))}
    values = rng.choice([0.2, 0.3, 0.31, 0.5, 0.51, 0.9], size=40) + rng.choice([0, 1e-6], size=40)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, min_lr=1e-4, **fields)
    expected = []
    for value in values:
      peer.step(value)
      expected.append(optimizer.param_groups[0]["lr"])
    found = scales(values.tolist(), mode, min_scale=1e-4, **fields)
    assert found == pytest.approx(expected, rel=1e-9), fields
    lowered += sum(after < before for before, after in itertools.pairwise(found))
  assert lowered > 100  # the sequences decide something


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("factor", 1.0, "config.optim.plateau.factor = 1.0 does not lower; use a number between 0 and 1"),
    ("min_scale", 0.0, "config.optim.plateau.min_scale = 0.0 is no share"),
    ("patience", -1, "config.optim.plateau.patience = -1 is negative"),
    ("threshold", -0.1, "config.optim.plateau.threshold = -0.1 is negative"),
    ("cooldown", -1, "config.optim.plateau.cooldown = -1 is negative"),
  ],
)
def test_impossible_fields_are_refused(field, value, message):
  with pytest.raises(ConfigError, match=message):
    PlateauConfig(**{field: value})
