"""One variant beside its reference, in numbers that can be redone by hand."""

import numpy as np
import pytest

from gasmcast.jobs.fidelity_variants import Comparison, bytes_of_clip, name, obstacle
from gasmcast.store.compression import Pca, Variant

SHAPES = {"semantic": (2, 4, 8), "motion": (2, 6)}


@pytest.mark.parametrize(
  ("variant", "words"),
  [
    (Variant(), "all bfloat16"),
    (Variant(49, "int8"), "49 int8"),
    (Variant(49, "int8", 256), "49 int8 pca256"),
    (Variant(1, "float32"), "pooled float32"),
  ],
)
def test_a_variant_has_a_name(variant, words):
  assert name(variant) == words


def test_bytes_are_those_of_all_streams():
  """2 x 4 x 8 + 2 x 6 values of 2 bytes; as 1 token in int8 2 x 8 + 2 x 6 bytes and 4 scales of 2 bytes."""
  assert bytes_of_clip(SHAPES, Variant()) == 152
  assert bytes_of_clip(SHAPES, Variant(1, "int8")) == 36


@pytest.mark.parametrize(
  ("variant", "why"),
  [
    (Variant(3), "the semantic stream: tokens = 3: 4 tokens a frame can be averaged to 4, 1"),
    (Variant(pca=7), "the motion stream is 6 wide, which has no 7 components"),
    (Variant(pca=6), "6 components of the motion stream need more than 6 samples; 3 clips have 6"),
    (Variant(1, pca=6), "6 components of the semantic stream need more than 6 samples; 3 clips have 6"),
  ],
)
def test_what_is_impossible_is_said_in_words(variant, why):
  assert why in obstacle(SHAPES, variant, fitting_clips=3)


def test_nothing_stands_in_the_way_of_the_rest():
  assert all(obstacle(SHAPES, variant, 0) is None for variant in (Variant(), Variant(4, "int8"), Variant(1)))
  assert obstacle(SHAPES, Variant(pca=6), fitting_clips=4) is None


def test_pooling_and_precision_are_told_apart():
  """Whole numbers up to 127 are exact in int8 with scale 1: pooling alone loses.

  Frames (127, 0) (125, 0) and (0, 127) (0, 125): variance of the four about (63, 63), 2 x 63 x 63 + 1, of which 1 lies
  within the frames.
  """
  x = np.array([[[127, 0], [125, 0], [127, 0], [125, 0]], [[0, 127], [0, 125], [0, 127], [0, 125]]], np.float32)
  comparison = Comparison(Variant(1, "float32"), {"semantic": x.shape}, {})
  restored = comparison.add({"semantic": x})
  np.testing.assert_array_equal(restored["semantic"], [[[126, 0]], [[0, 126]]])
  numbers = comparison.numbers()["semantic"]
  assert numbers["shape"] == [2, 1, 2] and numbers["explained"] is None
  assert numbers["cosine"] == {"mean": 1, "p1": 1, "min": 1}
  assert numbers["lost_by_pooling"] == pytest.approx(1 / 7939) and numbers["lost_by_storing"] == 0


def test_components_lose_what_they_do_not_hold():
  """Of (3, 4) and (-3, 4) the first component keeps (3, 0), (-3, 0) and the mean is (0, 0): cosine 3/5, lost 16/9.

  The mean of the two is (0, 4), so their variance is 9, and of what is lost, 16 each, the fitted mean knew nothing.
  """
  pca = Pca(np.zeros(2, np.float32), np.array([[1.0], [0]], np.float32), 0.75)
  comparison = Comparison(Variant(precision="float32", pca=1), {"motion": (1, 2)}, {"motion": pca})
  for x in (3.0, -3.0):
    restored = comparison.add({"motion": np.array([[x, 4]], np.float32)})
    np.testing.assert_array_equal(restored["motion"], [[x, 0]])
  numbers = comparison.numbers()["motion"]
  assert numbers["cosine"] == {"mean": pytest.approx(0.6), "p1": pytest.approx(0.6), "min": pytest.approx(0.6)}
  assert numbers["lost_by_storing"] == pytest.approx(16 / 9) and numbers["lost_by_pooling"] == 0
  assert numbers["explained"] == 0.75


def test_int8_is_off_by_up_to_half_a_step():
  """A token (127, 0.5, 100.25) has the scale 1: it is stored as (127, 0, 100)."""
  comparison = Comparison(Variant(precision="int8"), {"motion": (1, 3)}, {})
  restored = comparison.add({"motion": np.array([[127, 0.5, 100.25]], np.float32)})
  np.testing.assert_array_equal(restored["motion"], [[127, 0, 100]])
