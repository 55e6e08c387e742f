"""Untyped trees become frozen dataclasses, or an error that names the field."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

import ml_collections
import pytest
from ml_collections import config_dict

from gasmcast.core.config import difference, parse, require, to_dict
from gasmcast.core.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Optim:
  rate: float = 1e-3
  betas: tuple[float, float] = (0.9, 0.999)
  clip: float | None = None

  def __post_init__(self):
    require(self.rate > 0, f"optim.rate = {self.rate}: steps must go downhill; use a positive number.")


@dataclasses.dataclass(frozen=True)
class Experiment:
  steps: int
  optim: Optim
  name: str = "base"
  flip: bool = False
  score: Literal["dot", "gatv2"] = "dot"
  depth: Literal[1, 2] = 1
  windows: tuple[int, ...] = (1, 3, 7)
  stages: tuple[Optim, ...] = ()
  crop: int | tuple[int, int] | None = None
  classes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  extra: Any = None


def experiment(**fields: Any) -> Experiment:
  return parse(Experiment, {"steps": 10, "optim": {}} | fields)


def message(**fields: Any) -> str:
  with pytest.raises(ConfigError) as error:
    experiment(**fields)
  return str(error.value)


def test_defaults_fill_what_is_not_given():
  assert experiment() == Experiment(steps=10, optim=Optim(1e-3, (0.9, 0.999), None))


def test_every_kind_of_field():
  parsed = experiment(
    optim={"rate": 1, "betas": [0, 0.5], "clip": 2},
    name="small",
    flip=True,
    score="gatv2",
    depth=2,
    windows=[1, 2],
    stages=[{"rate": 0.5}, {"rate": 0.25}],
    crop=[112, 96],
    classes={"verb": 97, "noun": 300},
    extra={"anything": [1]},
  )
  assert parsed == Experiment(
    10,
    Optim(1.0, (0.0, 0.5), 2.0),
    "small",
    True,
    "gatv2",
    2,
    (1, 2),
    (Optim(0.5), Optim(0.25)),
    (112, 96),
    {"verb": 97, "noun": 300},
    {"anything": [1]},
  )
  assert isinstance(parsed.optim.rate, float)
  assert isinstance(parsed.windows, tuple)


def test_a_config_dict_with_placeholders_and_references():
  config = ml_collections.ConfigDict({"steps": 10, "optim": {"rate": 0.5, "clip": config_dict.placeholder(float)}})
  config.crop = config.get_oneway_ref("steps") * 2
  config.classes = {"verb": 97}
  config.steps = 20
  config.lock()
  assert parse(Experiment, config) == Experiment(20, Optim(0.5), crop=40, classes={"verb": 97})
  assert parse(Experiment, ml_collections.FrozenConfigDict(config)).crop == 40


def test_a_union_takes_the_first_type_that_fits():
  assert experiment(crop=112).crop == 112
  assert experiment(crop=(112, 96)).crop == (112, 96)
  assert experiment(crop=None).crop is None
  assert message(crop="x") == "config.crop = 'x' is of type str; int or tuple[int, int] is needed."


@pytest.mark.parametrize(
  ("fields", "expected"),
  [
    ({"stepz": 1}, "config.stepz is not a field; did you mean 'steps'?"),
    ({"optim": {"rat": 1}}, "config.optim.rat is not a field; did you mean 'rate'?"),
    ({"optim": {"zzz": 1}}, "config.optim.zzz is not a field; known fields: rate, betas, clip."),
    ({"steps": 1.5}, "config.steps = 1.5 is of type float; int is needed."),
    ({"steps": True}, "config.steps = True is of type bool; int is needed."),
    ({"steps": None}, "config.steps = None is of type NoneType; int is needed."),
    ({"flip": 1}, "config.flip = 1 is of type int; bool is needed."),
    ({"name": 3}, "config.name = 3 is of type int; str is needed."),
    ({"score": "dott"}, "config.score = 'dott' is not one of 'dot', 'gatv2'."),
    ({"depth": True}, "config.depth = True is not one of 1, 2."),
    ({"optim": 3}, "config.optim = 3 is of type int; a mapping with the fields of Optim is needed."),
    ({"optim": {"rate": "1e-3"}}, "config.optim.rate = '1e-3' is of type str; float is needed."),
    ({"optim": {"clip": "1"}}, "config.optim.clip = '1' is of type str; float is needed."),
    ({"optim": {"betas": [0.9]}}, "config.optim.betas = [0.9] has 1 entries; 2 are needed."),
    ({"windows": [1, 2.5]}, "config.windows[1] = 2.5 is of type float; int is needed."),
    ({"windows": "17"}, "config.windows = '17' is of type str; a tuple is needed."),
    ({"stages": [{}, {"rat": 1}]}, "config.stages[1].rat is not a field; did you mean 'rate'?"),
    ({"classes": {"verb": "97"}}, "config.classes.verb = '97' is of type str; int is needed."),
    ({"classes": [97]}, "config.classes = [97] is of type list; collections.abc.Mapping[str, int] is needed."),
    ({"optim": {"rate": -1}}, "config.optim: optim.rate = -1.0: steps must go downhill; use a positive number."),
  ],
)
def test_each_mistake_is_named(fields, expected):
  assert message(**fields) == expected


def test_a_number_beyond_every_float_is_refused():
  assert message(optim={"rate": 10**400}).endswith("is of type int; float is needed.")


def test_a_missing_field_and_a_tree_that_is_none():
  with pytest.raises(ConfigError, match=r"run\.steps is missing; it has no default\."):
    parse(Experiment, {"optim": {}}, "run")
  for values in ([1], None, "steps"):
    with pytest.raises(ConfigError, match="a mapping with the fields of Experiment is needed"):
      parse(Experiment, values)


def test_a_field_of_a_type_that_no_config_holds_is_a_defect():
  @dataclasses.dataclass(frozen=True)
  class Wrong:
    names: list[str]

  with pytest.raises(TypeError, match=r"config\.names is declared as list\[str\]"):
    parse(Wrong, {"names": ["a"]})


def test_the_way_through_json_and_back():
  parsed = experiment(windows=(1, 2), stages=[{"betas": (0.5, 0.25)}], classes={"verb": 97}, crop=(1, 2))
  tree = to_dict(parsed)
  assert tree["stages"] == [{"rate": 1e-3, "betas": [0.5, 0.25], "clip": None}]
  assert parse(Experiment, json.loads(json.dumps(tree))) == parsed


def test_a_config_dict_as_plain_json():
  config = ml_collections.ConfigDict({"optim": {"betas": (0.9, 0.5)}, "clip": config_dict.placeholder(float)})
  assert to_dict(config) == {"optim": {"betas": [0.9, 0.5]}, "clip": None}


def test_difference_lists_the_leaves():
  old = to_dict(experiment(windows=[1, 2]))
  new = to_dict(experiment(windows=[1, 3], optim={"rate": 0.5}))
  assert difference(old, new) == ["config.optim.rate: 0.001 -> 0.5", "config.windows: [1, 2] -> [1, 3]"]
  assert difference(old, old) == []


def test_difference_with_a_leaf_against_a_tree_and_with_one_absent():
  assert difference({"a": 1}, {"a": {"b": 2}}, "run") == ["run.a: 1 -> {'b': 2}"]
  assert difference({}, {"b": 2}) == ["config.b: None -> 2"]


def test_require_raises_its_message_only_when_the_condition_fails():
  require(True, "never seen")
  with pytest.raises(ConfigError, match=r"^depth = 0: use 1 or more\.$"):
    require(False, "depth = 0: use 1 or more.")
