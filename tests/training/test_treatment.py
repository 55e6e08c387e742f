"""Which parameters train, how fast and with which decay: rules in, treatments out."""

import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.training.optim import OptimConfig
from gasmcast.training.treatment import Treatment, partition, treat

NAMES = ["backbone/block_0/kernel", "backbone/block_1/bias", "backbone/block_1/kernel", "head/kernel"]
ALL = ((".*", True),)


def trained(optim, system=ALL):
  return [name for name, treatment in treat(NAMES, system, optim).items() if treatment.trained]


def test_without_rules_the_system_decides():
  assert trained(OptimConfig()) == NAMES
  assert trained(OptimConfig(), (("^backbone/", False), (".*", True))) == ["head/kernel"]


def test_one_rule_keeps_the_last_block_and_the_next_freezes_the_rest():
  rules = (("^backbone/block_1/", True), ("^backbone/", False))
  assert trained(OptimConfig(trained=rules)) == NAMES[1:]
  assert trained(OptimConfig(trained=rules[1:])) == NAMES[3:]


def test_a_treatment_is_what_all_tables_say():
  optim = OptimConfig(trained=(("block_0", False),), lr_rules=(("^backbone/", 0.1), (".*", 1.0)))
  assert list(treat(NAMES, ALL, optim).values()) == [
    Treatment(False, 0.0, False),
    Treatment(True, 0.1, False),
    Treatment(True, 0.1, True),
    Treatment(True, 1.0, True),
  ]
  assert not any(treatment.decays for treatment in treat(NAMES, ALL, OptimConfig(weight_decay=0.0)).values())


def test_the_parameters_are_divided_by_it():
  tree = {"backbone": {"kernel": 1}, "head": {"kernel": 2}}
  assert partition(tree, ALL, OptimConfig(trained=(("^head", False),))) == ({"backbone/kernel": 1}, {"head/kernel": 2})


def test_what_the_system_freezes_cannot_be_trained_by_a_rule():
  """The system stops its gradient: the rule would train nothing, without a word."""
  with pytest.raises(ConfigError) as error:
    trained(OptimConfig(trained=(("block_1", True),)), (("^backbone/", False), (".*", True)))
  assert str(error.value) == (
    "config.optim.trained would train 2 parameters that the model itself freezes, the first is "
    "'backbone/block_1/bias': no gradient reaches them. Let the model train that part (trainable = True in its section "
    "of config.model), and freeze the rest of it by a later rule with the value False."
  )


def test_something_has_to_train():
  with pytest.raises(ConfigError, match=r"config.optim.trained and the rules of the system freeze all 4 parameters"):
    trained(OptimConfig(trained=((".*", False),)))


@pytest.mark.parametrize(
  ("table", "rules"),
  [
    ("trained", (("^backbone/blok_1/", True),)),
    ("lr_rules", (("^haed/", 0.1), (".*", 1.0))),
    ("decay_rules", (("bias$", False), ("^haed/", True), (".*", False))),
  ],
)
def test_a_pattern_that_is_in_no_name_is_a_slip_of_the_pen(table, rules):
  with pytest.raises(ConfigError) as error:
    treat(NAMES, ALL, OptimConfig(**{table: rules}))
  assert f"config.optim.{table}: the rule ('^" in str(error.value)
  assert "matches none of the 4 parameters; correct the pattern or take the rule out" in str(error.value)


def test_a_rule_that_another_one_overrides_is_none():
  rules = (("^backbone/", 0.1), ("block_0", 0.5), (".*", 1.0))
  assert treat(NAMES, ALL, OptimConfig(lr_rules=rules))[NAMES[0]].lr_factor == 0.1


def test_patterns_of_the_library_need_not_be_in_every_system():
  names = ["weight", "offset"]  # no kernel, no head
  assert treat(names, ALL, OptimConfig(optimizer="muon"))["weight"] == Treatment(True, 1.0, False)


@pytest.mark.parametrize("table", ["trained", "lr_rules"])
def test_a_broken_pattern_is_named(table):
  with pytest.raises(ConfigError, match=rf"config.optim.{table}: '\(' is not a regular expression"):
    treat(NAMES, ALL, OptimConfig(**{table: (("(", 1.0), (".*", 1.0))}))
