import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError, DataError, TrainingError
from gasmcast.metrics import classification
from gasmcast.metrics.sums import merge

NAMES = ("open", "close", "turn")


SUMS = jax.jit(classification.sums)


def measure(logits, labels, ok=None):
  ok = np.ones(len(labels), bool) if ok is None else np.asarray(ok)
  batch = SUMS(jnp.asarray(logits, jnp.float32), jnp.asarray(labels, jnp.int32), ok)
  return merge(None, batch)


def scored(predicted, classes=3):
  """Logits 1 for the predicted class, 0 for the others."""
  return np.eye(classes)[predicted]


@pytest.fixture
def six():
  """Six examples: open 2 of 3 right, close 1 of 2 right, turn 0 of 1; every mistake says "close" or "open"."""
  return measure(scored([0, 0, 1, 1, 0, 1]), [0, 0, 0, 1, 1, 2])


def test_counts_by_hand(six):
  np.testing.assert_array_equal(six["confusion"], [[2, 1, 0], [1, 1, 0], [0, 1, 0]])
  assert six["examples"] == 6
  numbers = classification.summarize(six)
  assert numbers["top1"] == 3 / 6
  assert numbers["mean_class_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
  # -log softmax of (1, 0, 0): log(e + 2) - 1 for the three hits, log(e + 2) for the three mistakes
  assert numbers["nll"] == pytest.approx(np.log(np.e + 2) - 1 / 2, abs=1e-6)


def test_rows_by_hand(six):
  opened, closed, turned = classification.per_class(six, NAMES)
  assert (opened.support, opened.recall, opened.precision) == (3, 2 / 3, 2 / 3)
  assert (closed.support, closed.recall, closed.precision, closed.f1) == (2, 1 / 2, 1 / 3, 2 / 5)
  assert (opened.confused_with, opened.confused_count) == ("close", 1)
  assert (turned.recall, turned.precision, turned.f1) == (0.0, None, 0.0)


def test_class_that_never_occurs_has_no_shares():
  row = classification.per_class(measure(scored([0]), [0]), NAMES)[2]
  assert (row.support, row.recall, row.precision, row.f1, row.top5) == (0, None, None, None, None)
  assert (row.confused_with, row.confused_count) == (None, 0)
  assert classification.summarize(measure(scored([0]), [0]))["mean_class_accuracy"] == 1.0


def test_top5_is_the_rank_of_the_label():
  logits = np.tile(np.arange(7.0), (7, 1))  # class 6 scores highest: classes 2..6 are the top five
  total = measure(logits, np.arange(7))
  np.testing.assert_array_equal(total["top5"], [0, 0, 1, 1, 1, 1, 1])
  assert classification.summarize(total)["top5"] == 5 / 7


def test_ties_go_to_the_lower_index_so_that_a_constant_model_is_at_chance():
  numbers = classification.summarize(measure(np.zeros((10, 10)), np.arange(10)))
  assert numbers["top1"] == 1 / 10
  assert numbers["top5"] == 5 / 10
  assert numbers["nll"] == pytest.approx(np.log(10), rel=1e-6)


def test_fewer_than_five_classes_make_top5_trivial(six):
  assert classification.summarize(six)["top5"] == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_with_a_non_finite_score_is_never_correct(bad):
  logits = scored([0, 0, 1])
  logits[1, 2] = bad
  total = measure(logits, [0, 0, 1])
  np.testing.assert_array_equal(total["nonfinite"], [1, 0, 0])
  numbers = classification.summarize(total)
  assert (numbers["examples"], numbers["nonfinite"], numbers["top1"], numbers["top5"]) == (3, 1, 2 / 3, 2 / 3)
  assert numbers["nll"] == pytest.approx(np.log(np.e + 2) - 1, abs=1e-6)
  assert classification.per_class(total, NAMES)[0].recall == 1 / 2


def assert_close(a, b, tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_any_split_of_the_batch_merges_to_the_whole(dtype, size):
  generator = np.random.default_rng(0)
  logits = generator.normal(size=(16, 7)).astype(dtype)
  labels = generator.integers(0, 7, 16).astype(np.int32)
  ok = generator.random(16) < 0.8
  whole = merge(None, SUMS(logits, labels, ok))
  total = None
  for start in range(0, 16, size):
    part = slice(start, start + size)
    total = merge(total, SUMS(logits[part], labels[part], ok[part]))
  for name in ("examples", "confusion", "nonfinite", "top5"):
    np.testing.assert_array_equal(total[name], whole[name])
  assert_close(total, whole, tolerance=1e-5)


def test_padding_rows_change_nothing():
  logits, labels = np.random.default_rng(1).normal(size=(5, 7)), np.array([0, 3, 6, 6, 1])
  padding = np.full((4, 7), np.nan)
  padded = measure(np.concatenate([logits, padding]), [*labels, -1, 0, 99, 3], [True] * 5 + [False] * 4)
  assert_close(padded, measure(logits, labels), tolerance=1e-6)


def test_merged_counts_pass_the_limit_of_float32():
  batch = {"examples": jnp.float32(1)}
  total = merge({"examples": np.float64(2**24)}, batch)
  assert merge(total, batch)["examples"] == 2**24 + 2


def test_labels_outside_the_classes_are_an_error():
  with pytest.raises(DataError, match=r"2 of 3 examples carry a label outside 0\.\.2"):
    classification.summarize(measure(scored([0, 0, 0]), [0, 3, -1]))


def test_nothing_to_measure_is_an_error():
  with pytest.raises(DataError, match="no example was evaluated"):
    classification.summarize(measure(scored([0]), [0], [False]))
  with pytest.raises(TrainingError, match="all 1 examples have non-finite scores"):
    classification.summarize(measure([[np.nan] * 3], [0]))


def test_names_and_classes_belong_together(six):
  with pytest.raises(DataError, match=r"2 class names for a confusion matrix of shape \(3, 3\)"):
    classification.per_class(six, ("open", "close"))


def test_pairs_by_hand(six):
  # open and close: 5 examples, all predicted as one of the two, 3 of them as their own class
  # close and turn: 3 examples; two were predicted "close", one of these truly is; none "turn"
  first, second = classification.pairs(six, [(0, 1), (1, 2)], NAMES)
  assert (first.examples, first.decided, first.own, first.inside, first.overall) == (5, 5, 3, 3 / 5, 3 / 5)
  assert (second.examples, second.decided, second.own, second.inside, second.overall) == (3, 2, 1, 1 / 2, 1 / 3)
  both = classification.pooled((first, second))
  assert (both.inside, both.overall) == (4 / 7, 4 / 8)


def test_an_undecided_pair_has_no_accuracy_inside():
  row = classification.pairs(measure(scored([2, 2]), [0, 1]), [(0, 1)], NAMES)[0]
  assert (row.inside, row.overall) == (None, 0.0)


@pytest.mark.parametrize("pair", [(1, 1), (0, 3), (-1, 0)])
def test_impossible_pairs_are_refused(six, pair):
  with pytest.raises(ConfigError, match=r"a pair is two different class indices in 0\.\.2"):
    classification.pairs(six, [pair], NAMES)


def test_confident_mistakes_are_the_worst_first():
  probabilities = np.array([[0.9, 0.1, 0], [0.7, 0.2, 0.1], [0.2, 0.8, 0], [np.nan, 0.5, 0.5], [0.1, 0.1, 0.8]])
  labels = np.array([0, 1, 2, 0, 1])  # the first is right, the fourth has no prediction
  ids = ("a", "b", "c", "d", "e")
  mistakes = classification.confident_mistakes(ids, labels, probabilities, NAMES)
  assert mistakes == (
    classification.Mistake("c", "turn", "close", 0.8),
    classification.Mistake("e", "close", "turn", 0.8),
    classification.Mistake("b", "close", "open", 0.7),
  )
  assert classification.confident_mistakes(ids, labels, probabilities, NAMES, limit=1) == mistakes[:1]


def test_wilson_interval_by_hand():
  # 8 of 10 by Wilson's formula with z = 1.96: centre (0.8 + 0.19207) / 1.38415 = 0.7167, half width 0.2267
  low, high = classification.wilson_interval(8, 10)
  assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
  assert classification.wilson_interval(0, 5)[0] == 0.0
  assert classification.wilson_interval(5, 5)[1] == 1.0
