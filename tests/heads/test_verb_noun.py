"""Branches, cross-task attention and classifiers: sizes, formulas, and what the tasks can learn of each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.rules import flatten
from gasmcast.heads.verb_noun import CrossTaskAttention, TaskBranch, TaskClassifier
from tests.fusion.test_temporal import attend, dense, gelu, norm
from tests.layers.variables import drawn_variables

RANDOM = np.random.default_rng(0)
VERB, NOUN = RANDOM.normal(size=(2, 3, 4, 8)).astype(np.float32)  # [B, T, D] each
TINY = CrossTaskAttention(heads=2, hidden=12)


@pytest.fixture(scope="module")
def variables():
  return drawn_variables(TINY, VERB, NOUN)


def parts(module, *shapes):
  """Parameters of each part, of the names of the tree."""
  inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  counted = {}
  for name, leaf in flatten(jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]).items():
    part = name.split("/")[0]
    counted[part] = counted.get(part, 0) + math.prod(leaf.shape)
  return counted


class TestSizes:
  def test_a_branch(self):
    assert parts(TaskBranch(1024), (1, 8, 2048)) == {"linear": 2048 * 1024 + 1024, "norm": 2 * 1024}
    assert 2 * sum(parts(TaskBranch(1024), (1, 8, 2048)).values()) == 4_200_448

  def test_cross_task_attention(self):
    counted = parts(CrossTaskAttention(8, 2048), (1, 8, 1024), (1, 8, 1024))
    attention, ffn = 4 * (1024 * 1024 + 1024), 1024 * 2048 + 2048 + 2048 * 1024 + 1024
    one = {"attention": attention, "norm": 2 * 1024, "ffn": ffn}
    assert counted == {f"{task}_{part}": number for task in ("verb", "noun") for part, number in one.items()}
    assert (2 * attention, 2 * 2 * 1024, 2 * ffn) == (8_396_800, 4_096, 8_394_752)
    assert sum(counted.values()) == 16_795_648

  @pytest.mark.parametrize(
    ("inner", "width", "verb", "noun"),
    [(512, 1024, 574_561, 678_700), (1024, 2048, 2_197_601, 2_405_676), (512, 2048, 1_098_849, 1_202_988)],
  )
  def test_classifiers(self, inner, width, verb, noun):
    for classes, number in ((97, verb), (300, noun)):
      counted = parts(TaskClassifier(classes, inner), (1, width))
      assert counted == {"hidden": width * inner + inner, "head": inner * classes + classes}
      assert sum(counted.values()) == number


def test_the_branch_is_its_formula_and_drops_in_training_only():
  branch, plain = TaskBranch(6, dropout=0.5), TaskBranch(6)
  variables = drawn_variables(branch, VERB)
  p = jax.tree.map(np.asarray, variables["params"])
  expected = gelu(norm(dense(VERB, p["linear"]), p["norm"]))
  np.testing.assert_allclose(jax.jit(branch.apply)(variables, VERB), expected, atol=1e-5)
  trained = jax.jit(lambda key: branch.apply(variables, VERB, True, rngs={"dropout": key}))(jax.random.key(0))
  assert 0.3 < (np.asarray(trained) == 0).mean() < 0.7
  assert str(jax.make_jaxpr(branch.apply)(variables, VERB)) == str(jax.make_jaxpr(plain.apply)(variables, VERB))


def test_the_classifier_is_its_formula_and_drops_in_training_only():
  classifier, x = TaskClassifier(3, 6, dropout=0.5), VERB[:, 0]
  variables = drawn_variables(classifier, x)
  p = jax.tree.map(np.asarray, variables["params"])
  expected = dense(gelu(dense(x, p["hidden"])), p["head"])
  np.testing.assert_allclose(jax.jit(classifier.apply)(variables, x), expected, atol=1e-5)
  run = jax.jit(lambda key: classifier.apply(variables, x, True, rngs={"dropout": key}))
  assert np.abs(run(jax.random.key(0)) - run(jax.random.key(1))).max() > 1e-3


def refine(x, other, p, task):
  y = norm(x + attend(x, other, p[f"{task}_attention"], 2), p[f"{task}_norm"])
  ffn = p[f"{task}_ffn"]
  return x + dense(gelu(dense(y, ffn["hidden"])), ffn["out"])


def test_both_directions_are_their_formula_from_the_state_that_came_in(variables):
  verb, noun, weights = jax.jit(lambda v: TINY.apply(v, VERB, NOUN, capture=True))(variables)
  p = jax.tree.map(np.asarray, variables["params"])
  np.testing.assert_allclose(verb, refine(VERB, NOUN, p, "verb"), atol=2e-5)
  np.testing.assert_allclose(noun, refine(NOUN, VERB, p, "noun"), atol=2e-5)
  assert {task: leaf.shape for task, leaf in weights.items()} == {"verb": (3, 2, 4, 4), "noun": (3, 2, 4, 4)}


@pytest.mark.parametrize(("task", "changed"), [("verb", 0), ("noun", 1)])
def test_how_one_task_is_refined_does_not_reach_the_other(variables, task, changed):
  """With one direction after the other the second would see the first one's result."""
  other = drawn_variables(TINY, VERB, NOUN, seed=1)["params"]
  mixed = {name: other[name] if name.startswith(task) else part for name, part in variables["params"].items()}
  apply = jax.jit(lambda params: TINY.apply({"params": params}, VERB, NOUN)[:2])
  before, after = apply(variables["params"]), apply(mixed)
  assert np.abs(before[changed] - after[changed]).max() > 0.1
  np.testing.assert_array_equal(before[1 - changed], after[1 - changed])


@pytest.mark.parametrize("time", [4, 1])
def test_gradients_reach_queries_and_keys_of_both_directions_unless_there_is_one_key(variables, time):
  def loss(params):
    verb, noun, _ = TINY.apply({"params": params}, VERB[:, :time], NOUN[:, :time])
    return (verb**2).sum() + (noun**2).sum()

  gradients = jax.jit(jax.grad(loss))(variables["params"])
  for task in ("verb", "noun"):
    largest = {name: float(np.abs(leaf["kernel"]).max()) for name, leaf in gradients[f"{task}_attention"].items()}
    assert min(largest["value"], largest["out"]) > 1e-3
    for name in ("query", "key"):
      assert (largest[name] > 1e-3) if time > 1 else (largest[name] == 0), (task, name)


def test_a_dropped_path_leaves_a_clip_as_it_was(variables):
  dropping = CrossTaskAttention(2, 12, drop_path=0.5)
  run = jax.jit(lambda key: dropping.apply(variables, VERB, NOUN, True, rngs={"dropout": key})[0])
  rows = np.concatenate([np.asarray(run(jax.random.key(i))) for i in range(4)])
  whole = np.concatenate([np.asarray(jax.jit(TINY.apply)(variables, VERB, NOUN)[0])] * 4)
  kept = np.array([np.array_equal(row, before) for row, before in zip(rows, np.concatenate([VERB] * 4), strict=True)])
  assert 0 < kept.sum() < len(kept)
  states = np.concatenate([VERB] * 4)
  np.testing.assert_allclose(rows[~kept] - states[~kept], 2 * (whole - states)[~kept], rtol=1e-4, atol=1e-4)


def test_logits_and_states_are_float32_in_bfloat16():
  half = CrossTaskAttention(2, 12, dtype=jnp.bfloat16)
  outputs, _ = jax.eval_shape(half.init_with_output, jax.random.key(0), VERB, NOUN)
  assert outputs[0].dtype == outputs[1].dtype == jnp.float32
  logits, _ = jax.eval_shape(
    TaskClassifier(3, 6, dtype=jnp.bfloat16).init_with_output, jax.random.key(0), VERB[:, 0].astype(jnp.bfloat16)
  )
  assert logits.dtype == jnp.float32
