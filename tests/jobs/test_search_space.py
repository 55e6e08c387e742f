"""Ranges: what may stand in config.search.space, and what is refused before anything runs."""

import pytest

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError
from gasmcast.jobs.search_space import Range, parse_points, parse_space, require_comparable, value_of, with_values
from gasmcast.training.optim import OptimConfig

CONFIG = {
  "seed": 0,
  "data": {"root": "here", "frames": 8, "augmentation": {"scale": [0.5, 1.0]}},
  "model": {"dropout": None, "heads": None, "width": 64, "gated": False, "label_smoothing": 0.1},
  "optim": {"lr": 1e-3, "weight_decay": 0.05, "warmup_steps": "10 steps"},
  "search": {"trials": 3},
}


def accepts(config):
  """Some fields of a library."""
  parse(OptimConfig, {"lr": config["optim"]["lr"], "weight_decay": config["optim"]["weight_decay"]}, "config.optim")
  for name, kind in (("heads", int), ("width", int), ("dropout", (int, float))):
    value = config["model"][name]
    if value is not None and not isinstance(value, kind):
      raise ConfigError(f"config.model.{name} = {value!r} is of type {type(value).__name__}.")


def ranges(space, fixed=(), config=CONFIG):
  return parse_space(space, fixed, config, accepts)


def test_the_kind_of_a_range_is_that_of_the_field():
  space = {
    "optim": {"lr": {"low": 1e-4, "high": 1, "log": True}, "warmup_steps": {"values": ("5 steps", "10 steps")}},
    "model": {
      "width": {"low": 16, "high": 64, "step": 16},
      "heads": {"low": 1, "high": 8},  # not set: only the library knows that it is whole
      "dropout": {"low": 0, "high": 1},  # not set, and takes fractions
    },
    "data": {"augmentation": {"scale": {"values": ((0.5, 1.0), [0.8, 1.0])}}},
  }
  found = ranges(space)
  assert {name: one.kind for name, one in found.items()} == {
    "data.augmentation.scale": "choice",
    "model.dropout": "float",
    "model.heads": "int",
    "model.width": "int",
    "optim.lr": "float",
    "optim.warmup_steps": "choice",
  }
  assert list(found) == sorted(found) and found["data.augmentation.scale"].values == ((0.5, 1.0), (0.8, 1.0))
  assert str(found["optim.lr"]) == "0.0001 to 1 (logarithmic)"
  assert str(found["model.width"]) == "16 to 64 in steps of 16"
  assert str(found["optim.warmup_steps"]) == "one of '5 steps', '10 steps'"
  assert "model.heads" not in ranges(space, fixed=("model.heads",))


def test_what_lies_in_a_range():
  width, rate = Range("w", "int", 16, 64, step=16), Range("r", "float", 0.0, 0.5, step=0.1)
  assert [value in width for value in (16, 32, 64, 40, 80, 16.0, True)] == [True] * 3 + [False] * 4
  assert all(value in rate for value in (0, 0.1, 0.1 + 0.2, 0.5)) and 0.25 not in rate and None not in rate
  choice = Range("c", "choice", values=(0, "a", None))
  assert [value in choice for value in (0, 0.0, "a", None, False, "b")] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
  ("space", "message"),
  [
    (
      {"optim": {"lrr": {"low": 1e-4, "high": 1e-2}}},
      r"^config\.search\.space\.optim\.lrr: config\.optim\.lrr is not a field; did you mean 'optim\.lr'\?$",
    ),
    ({"optm": {"lr": {}}}, r"^config\.search\.space\.optm: config\.optm is not a field; "),
    ({"model": {"optim": {"lr": {}}}}, r"space\.model\.optim: config\.model\.optim is not a field; "),
    ({"optim": 3}, r"^config\.search\.space\.optim = 3: config\.optim is a section; give ranges for its fields\.$"),
    ({"optim": {"lr": 3}}, r"^config\.search\.space\.optim\.lr = 3 is of type int; a mapping"),
    ({"optim": {"lr": {"lo": 1}}}, r"^config\.search\.space\.optim\.lr\.lo is not a field; did you mean 'low'\?$"),
    ({"optim": {"lr": {"low": 1.0}}}, r"an interval needs `low` and `high`, a choice `values`\.$"),
    ({"optim": {"lr": {"low": 1.0, "high": 1.0}}}, r"low = 1\.0, high = 1\.0: low must be below high, and both fin"),
    ({"optim": {"lr": {"low": 0.0, "high": 1.0, "log": True}}}, r"log = True with low = 0\.0: a logarithm needs low"),
    (
      {"optim": {"lr": {"low": 0.1, "high": 1.0, "log": True, "step": 0.1}}},
      r"log = True with step = 0\.1: steps are of equal length; leave one out\.$",
    ),
    ({"optim": {"lr": {"low": 0.0, "high": 1.0, "step": -1.0}}}, r"step = -1\.0: it must be above 0\.$"),
    (
      {"optim": {"lr": {"low": 0.0, "high": 1.0, "step": 0.3}}},
      r"step = 0\.3 does not lead from low = 0\.0 to high = 1\.0; choose a high that is reached\.$",
    ),
    (
      {"optim": {"lr": {"values": ()}}},
      r"^config\.search\.space\.optim\.lr: values = \(\): give one or more, each onc",
    ),
    (
      {"optim": {"lr": {"values": (0.1,), "low": 1.0, "log": True}}},
      r"`values` stand beside low, log; give the values, or an interval\.$",
    ),
    (
      {"optim": {"lr": {"values": (None, 0.1)}}},
      r"^config\.search\.space\.optim\.lr allows None, which can't be written in a command, and config\.optim\.lr is 0",
    ),
    (
      {"optim": {"lr": {"values": ("fast",)}}},
      r"^config\.search\.space\.optim\.lr allows 'fast': config\.optim\.lr = 'fast' is of type str; float is needed\.$",
    ),
    (
      {"optim": {"weight_decay": {"low": -1.0, "high": 1.0}}},
      r"^config\.search\.space\.optim\.weight_decay allows -1\.0: config\.optim",
    ),
    (
      {"model": {"width": {"low": 1.5, "high": 2.5}}},
      r"model\.width allows 1\.5: config\.model\.width = 1\.5 is of ty",
    ),
    (
      {"data": {"root": {"values": ("a", "b")}}},
      r"^config\.search\.space\.data\.root: config\.data\.root is no setting of a training whose outcome could be",
    ),
    ({"search": {"trials": {"values": (1, 2)}}}, r"config\.search is no setting of a training"),
    ({}, r"^config\.search\.space holds no range to search; name at least one field\.$"),
  ],
)
def test_a_range_that_cannot_be_is_refused(space, message):
  with pytest.raises(ConfigError, match=message):
    ranges(space)


def test_a_range_that_is_not_there_cannot_be_left_out():
  space = {"optim": {"lr": {"low": 1e-4, "high": 1e-2}}}
  with pytest.raises(ConfigError, match=r"^config\.search\.fixed: 'optim\.l' is no range of .*mean 'optim\.lr'\?$"):
    ranges(space, fixed=("optim.l",))
  with pytest.raises(ConfigError, match=r"holds no range to search"):
    ranges(space, fixed=("optim.lr",))


def test_the_loss_is_no_judge_of_its_own_terms():
  found = ranges({"model": {"label_smoothing": {"values": (0.0, 0.1)}}})
  require_comparable(found, "top1")
  with pytest.raises(
    ConfigError,
    match=r"^config\.train\.best_metric = 'loss' with config\.search\.space\.model\.label_smoothing: the loss itself",
  ):
    require_comparable(found, "loss")


SPACE = {
  "optim": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}},
  "model": {"dropout": {"low": 0.0, "high": 0.5}, "width": {"low": 16, "high": 64}},
  "data": {"augmentation": {"scale": {"values": ((0.5, 1.0), (0.8, 1.0))}}},
}


def test_points_are_completed_from_the_configuration():
  config = with_values(CONFIG, {"model.dropout": 0})
  points = parse_points(({"optim.lr": 5e-3, "data.augmentation.scale": [0.8, 1]},), True, ranges(SPACE), config)
  own = {"optim.lr": 1e-3, "model.dropout": 0.0, "model.width": 64, "data.augmentation.scale": (0.5, 1.0)}
  assert points == [own, own | {"optim.lr": 5e-3, "data.augmentation.scale": (0.8, 1.0)}]
  assert isinstance(points[0]["model.dropout"], float) and isinstance(points[0]["model.width"], int)
  assert parse_points((), False, ranges(SPACE), config) == []


@pytest.mark.parametrize(
  ("known", "baseline", "message"),
  [
    (
      (),
      True,
      r"^config\.model\.dropout = None lies outside config\.search\.space\.model\.dropout \(0 to 0\.5\); trial 0 has .*"
      r" set config\.search\.baseline=False\.$",
    ),
    (
      ({"optim.lrr": 1},),
      False,
      r"^config\.search\.known\[0\]: 'optim\.lrr' is not searched; did you mean 'optim\.lr'",
    ),
    (
      ({"model.dropout": 0.1}, {"optim.lr": 1.0, "model.dropout": 0.1}),
      False,
      r"^config\.search\.known\[1\]\.optim\.lr = 1\.0 lies outside config\.search\.space\.optim\.lr \(0\.0001 to",
    ),
    (
      ({"optim.lr": 1e-3},),
      False,
      r"^config\.search\.known\[0\] gives no model\.dropout, and config\.model\.dropout = None lies outside",
    ),
  ],
)
def test_points_outside_the_space_are_refused(known, baseline, message):
  with pytest.raises(ConfigError, match=message):
    parse_points(known, baseline, ranges(SPACE), CONFIG)


def test_values_are_set_in_a_copy():
  changed = with_values(CONFIG, {"optim.lr": 0.5, "data.augmentation.scale": (0.8, 1.0)})
  assert value_of(changed, "optim.lr") == 0.5 and value_of(CONFIG, "optim.lr") == 1e-3
  assert value_of(CONFIG, "data.augmentation.scale") == (0.5, 1.0)
