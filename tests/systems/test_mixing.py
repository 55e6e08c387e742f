"""Mixed rows: who is mixed with whom, in which shares, and that nothing else depends on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError
from gasmcast.systems.mixing import (
  MixingConfig,
  choose_partners,
  cut_rectangles,
  draw_plan,
  mix_features,
  mix_frames,
  mix_targets,
)
from gasmcast.training.sharding import make_mesh

MIXUP, CUTMIX = MixingConfig(mixup=1.0), MixingConfig(cutmix=1.0)
BOTH = MixingConfig(mixup=0.8, cutmix=1.0, probability=0.75, switch=0.5)


drawn = jax.jit(draw_plan, static_argnames=("config", "apart", "size"))
frames_of, features_of = jax.jit(mix_frames), jax.jit(mix_features)
targets_of = jax.jit(mix_targets, static_argnames="classes")


def plan_of(labels, ok=None, config=MIXUP, apart=(), size=(12, 10), seed=0):
  labels = np.asarray(labels, np.int32)
  ok = np.ones(len(labels), bool) if ok is None else np.asarray(ok)
  return jax.device_get(drawn(jax.random.key(seed), labels, ok, config, apart, size))


def clips(rows, height=12, width=10, frames=3):
  return np.random.default_rng(0).integers(0, 256, (rows, frames, height, width, 3), np.uint8)


def test_every_permitted_partner_comes_equally_often_and_no_other_ever():
  """Row 0 (class 0) may not have the rows of class 1, nor row 4, which is not ok, nor itself: 3 and 5 are left."""
  labels, ok = jnp.array([0, 1, 1, 2, 0, 0]), jnp.array([True, True, True, True, False, True])
  keys = jax.random.split(jax.random.key(0), 3000)
  partners, found = jax.vmap(lambda key: choose_partners(key, labels, ok, ((0, 1),)))(keys)
  counts = np.array([np.bincount(column, minlength=6) for column in np.asarray(partners).T])
  permitted = [{3, 5}, {2, 3}, {1, 3}, {0, 1, 2, 5}, None, {0, 3}]
  assert found.all(0).tolist() == [True, True, True, True, False, True]
  for row, expected in enumerate(permitted):
    if expected is not None:
      assert set(np.flatnonzero(counts[row])) == expected
      share = 3000 / len(expected)
      assert abs(counts[row][list(expected)] - share).max() < 5 * np.sqrt(share)


def test_opposite_directions_are_kept_apart_whichever_is_named_first():
  for apart in ((0, 1),), ((1, 0),):
    plan = plan_of([0, 1, 0, 1, 0, 1, 0, 1], apart=apart)
    assert (plan.partner % 2 == np.arange(8) % 2).all() and (plan.partner != np.arange(8)).all()


def test_a_batch_of_two_opposite_clips_stays_as_it_is():
  plan, frames = plan_of([0, 1], config=BOTH, apart=((0, 1),)), clips(2)
  assert plan.partner.tolist() == [0, 1] and plan.share.tolist() == [1, 1]
  np.testing.assert_array_equal(frames_of(frames, plan), frames)
  np.testing.assert_array_equal(targets_of(jnp.array([0, 1]), plan, 2), np.eye(2))


def test_a_batch_of_one_has_no_partner():
  assert plan_of([3]).share.tolist() == [1]


def test_mixup_by_hand():
  """Grey 200 and grey 100 in shares lambda and 1 - lambda: 100 + 100 lambda, rounded."""
  frames = np.stack([np.full((2, 4, 4, 3), grey, np.uint8) for grey in (200, 100)])
  plan = plan_of([2, 0], size=(4, 4))
  mixed, shares = np.asarray(frames_of(frames, plan)), plan.share
  assert mixed.dtype == np.uint8 and plan.partner.tolist() == [1, 0] and (shares > 0).all() and (shares < 1).all()
  expected = np.round(np.array([100 + 100 * shares[0], 200 - 100 * shares[1]]))
  assert (mixed == expected[:, None, None, None, None]).all()
  targets = targets_of(jnp.array([2, 0]), plan, 4)
  expected = [[1 - shares[0], 0, shares[0], 0], [shares[1], 0, 1 - shares[1], 0]]
  np.testing.assert_allclose(targets, expected, atol=1e-6)


def test_two_clips_of_one_class_keep_their_whole_target():
  plan = plan_of([1, 1, 1, 1])
  np.testing.assert_allclose(targets_of(jnp.ones(4, jnp.int32), plan, 3), np.eye(3)[[1] * 4], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_lambda_is_of_a_beta_distribution(alpha):
  """Mean 1/2, variance 1 / (4 (2 alpha + 1))."""
  config = MixingConfig(mixup=alpha)
  shares = np.concatenate([plan_of(np.zeros(400), config=config, size=None, seed=seed).share for seed in range(4)])
  assert abs(shares.mean() - 0.5) < 0.05
  assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)


def test_a_cutmix_is_one_rectangle_through_all_frames_and_lambda_counts_its_pixels():
  frames, labels = clips(16), np.arange(16)
  plan = plan_of(labels, config=CUTMIX)
  mixed = np.asarray(frames_of(frames, plan))
  for row in range(16):
    own, other = (mixed[row] == frames[row]).all(-1), (mixed[row] == frames[plan.partner[row]]).all(-1)
    cut = ~own[0]
    assert (own | other).all()
    assert (own == own[0]).all()  # the same pixels of every frame
    ys, xs = np.nonzero(cut)
    if len(ys):
      assert cut[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].all()
    np.testing.assert_allclose(plan.share[row], (120 - cut.sum()) / 120, rtol=3e-7)
  targets = np.asarray(targets_of(labels, plan, 16))
  np.testing.assert_allclose(targets[labels, labels], plan.share, atol=1e-6)
  assert len(set(plan.share.tolist())) > 8


def test_a_rectangle_is_rounded_down_and_cut_at_the_edges():
  """lambda = 0.75 of 9 x 7: sides floor(4.5) and floor(3.5), wherever they are not cut."""
  keys = jax.random.split(jax.random.key(0), 200)
  inside, left = jax.vmap(lambda key: cut_rectangles(key, jnp.array([0.75]), (9, 7)))(keys)
  inside, left = np.asarray(inside)[:, 0], np.asarray(left)[:, 0]
  heights, widths = inside.any(2).sum(1), inside.any(1).sum(1)
  assert set(heights.tolist()) == {2, 3, 4} and set(widths.tolist()) == {2, 3}
  np.testing.assert_allclose(left, (63 - heights * widths) / 63, rtol=3e-7)
  assert inside.any(0).all()  # every pixel is cut out at times


def test_a_row_that_is_not_ok_is_neither_mixed_nor_mixed_in():
  frames, ok = np.minimum(clips(16), 200), np.arange(16) % 4 != 1
  frames[~ok] = 255
  plan = plan_of(np.arange(16), ok, MixingConfig(mixup=1.0, cutmix=1.0))
  mixed = np.asarray(frames_of(frames, plan))
  assert ok[plan.partner[ok]].all() and (plan.share[~ok] == 1).all()
  assert (mixed[~ok] == 255).all() and (mixed[ok] <= 200).all()


def test_probability_and_switch_are_shares_of_the_rows():
  frames, ways = clips(400, 8, 8, 1), {"not": 0, "cut": 0, "blended": 0}
  plan = plan_of(np.arange(400), config=BOTH, size=(8, 8))
  mixed = np.asarray(frames_of(frames, plan))
  for row in range(400):
    weight = set(plan.weight[row].ravel().tolist())
    way = "not" if plan.partner[row] == row else "cut" if weight <= {0.0, 1.0} else "blended"
    ways[way] += 1
    assert way != "not" or (mixed[row] == frames[row]).all()
  assert ways["not"] == pytest.approx(100, abs=35) and ways["cut"] == pytest.approx(150, abs=40)


def test_features_are_mixed_in_float32_and_a_row_alone_keeps_its_bits():
  """A number that is not finite stays in its row, and in those that it is mixed into."""
  features = np.random.default_rng(0).normal(size=(4, 2, 3, 5)).astype(np.float32)
  features[1] = np.inf
  ok, config = np.array([True, True, True, False]), MixingConfig(mixup=1.0, probability=0.5)
  plans = [plan_of(np.arange(4), ok, config, size=None, seed=seed) for seed in range(8)]
  for plan in plans:
    mixed = np.asarray(features_of(features, plan))
    assert plan.weight is None and mixed.dtype == np.float32
    for row in (0, 2, 3):
      partner, share = plan.partner[row], plan.share[row]
      expected = share * features[row] + (1 - share) * features[partner] if partner != row else features[row]
      np.testing.assert_allclose(mixed[row], expected, rtol=1e-6, atol=1e-6)
      assert partner != row or (mixed[row] == features[row]).all()
  assert {bool(plan.partner[0] == 0) for plan in plans} == {True, False}


def test_the_mix_does_not_depend_on_the_devices():
  """On 1 and on 8 devices: the same bits of frames and targets."""
  frames, labels, ok = clips(16), np.arange(16, dtype=np.int32) % 5, np.arange(16) != 3

  def mix(key, frames, labels, ok):
    plan = draw_plan(key, labels, ok, BOTH, ((0, 1),), frames.shape[2:4])
    return mix_frames(frames, plan), targets_of(labels, plan, 5), plan.partner

  def on(devices):
    rows = NamedSharding(make_mesh(devices=jax.devices()[:devices]), PartitionSpec("data"))
    placed = [jax.device_put(leaf, rows) for leaf in (frames, labels, ok)]
    return jax.device_get(jax.jit(mix)(jax.random.key(3), *placed))

  for one, eight in zip(on(1), on(8), strict=True):
    np.testing.assert_array_equal(one, eight)


def test_another_key_mixes_otherwise():
  first, again, other = (plan_of(np.arange(16), config=BOTH, seed=seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first.share, again.share)
  assert (first.share != other.share).any() and (first.partner != other.partner).any()


def test_stored_features_have_no_pixels_to_cut():
  with pytest.raises(ConfigError, match=r"config.model.mixing.cutmix = 1.0 and the batch holds stored features.*mixup"):
    plan_of([0, 1], config=CUTMIX, size=None)


def test_what_is_off_is_not_active():
  assert not MixingConfig().active and not MixingConfig(mixup=1.0, probability=0.0).active
  assert MIXUP.active and CUTMIX.active


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (
      {"mixup": -0.1},
      r"config.model.mixing.mixup = -0.1: it is the alpha of a Beta distribution; use a number above 0",
    ),
    ({"cutmix": float("inf")}, r"config.model.mixing.cutmix = inf: it is the alpha"),
    ({"mixup": float("nan")}, r"config.model.mixing.mixup = nan: it is the alpha"),
    ({"probability": 1.5}, r"config.model.mixing.probability = 1.5: it is a probability; use 0 to 1"),
    ({"switch": -1}, r"config.model.mixing.switch = -1.0: it is a probability"),
    ({"mixpu": 0.2}, r"config.model.mixing.mixpu is not a field; did you mean 'mixup'"),
  ],
)
def test_impossible_mixings_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    parse(MixingConfig, fields, "config.model.mixing")
