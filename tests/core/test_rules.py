"""Rules over names: the first match wins, everything is covered, trees and names convert without loss."""

import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.core.rules import flatten, match, partition, unflatten

TREE = {
  "motion": {"stem": {"kernel": 1, "bias": 2}, "norm": {"scale": 3}},
  "head": {"kernel": 4},
}
NAMES = ["head/kernel", "motion/norm/scale", "motion/stem/bias", "motion/stem/kernel"]


def test_flatten_names_every_leaf_in_sorted_order():
  assert list(flatten(TREE).items()) == list(zip(NAMES, [4, 3, 2, 1], strict=True))


def test_flatten_does_not_depend_on_insertion():
  turned = {"head": TREE["head"], "motion": dict(reversed(TREE["motion"].items()))}
  assert list(flatten(turned)) == list(flatten(TREE))


def test_unflatten_inverts_flatten():
  assert unflatten(flatten(TREE)) == TREE
  assert unflatten({}) == {}


def test_flatten_refuses_a_key_that_would_make_two_names_one():
  with pytest.raises(ValueError, match="the key 'a/b/c' holds '/'"):
    flatten({"a": {"b/c": 1, "b": {"c": 2}}})


@pytest.mark.parametrize("flat", [{"a": 1, "a/b": 2}, {"a/b": 2, "a": 1}])
def test_unflatten_refuses_a_leaf_that_holds_another(flat):
  with pytest.raises(ValueError, match="'a' is a leaf and holds 'a/b'"):
    unflatten(flat)


def test_first_match_wins():
  rules = [("norm", "none"), ("^motion/", "small"), ("kernel$", "large"), (".*", "rest")]
  assert match(NAMES, rules, "decay") == {
    "head/kernel": "large",
    "motion/norm/scale": "none",
    "motion/stem/bias": "small",
    "motion/stem/kernel": "small",
  }


def test_values_may_be_false_or_none():
  assert match(["a", "b"], [("a", False), ("b", None)], "decay") == {"a": False, "b": None}


def test_an_uncovered_name_is_an_error_that_counts_and_names():
  with pytest.raises(ConfigError) as error:
    match(NAMES, [("kernel$", True)], "model.trainable")
  assert str(error.value) == (
    "model.trainable: 2 of 4 names are covered by no rule, the first is 'motion/norm/scale'. "
    'Add a last rule with the pattern ".*".'
  )


def test_a_broken_pattern_is_named():
  with pytest.raises(ConfigError, match=r"model\.trainable: '\(' is not a regular expression \(missing \)"):
    match(NAMES, [("(", True)], "model.trainable")


def test_partition_splits_and_the_union_restores():
  kept, rest = partition(TREE, [("^motion/", False), (".*", True)], "model.trainable")
  assert kept == {"head/kernel": 4}
  assert rest == {"motion/norm/scale": 3, "motion/stem/bias": 2, "motion/stem/kernel": 1}
  assert unflatten(kept | rest) == TREE


def test_partition_by_another_criterion_than_truth():
  kept, rest = partition(TREE, [("bias|scale", 0.0), (".*", 0.1)], "decay", keep=lambda decay: decay == 0.0)
  assert kept == {"motion/norm/scale": 3, "motion/stem/bias": 2}
  assert rest == {"head/kernel": 4, "motion/stem/kernel": 1}
