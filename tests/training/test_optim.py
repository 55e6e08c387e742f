"""The schedule and the rule tables of the optimiser, in numbers that can be redone by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError
from gasmcast.training.optim import OptimConfig, make_optimizer, make_schedule


def test_the_learning_rate_rises_linearly_and_falls_along_half_a_cosine():
  schedule = make_schedule(OptimConfig(lr=0.4, warmup_steps=4, final_lr_fraction=0.1), steps=12)
  # Updates 4 to 12 are the cosine: its middle (8) is the mean of 0.4 and 0.04, its quarter lies at cos 45 degrees.
  expected = {0: 0.0, 1: 0.1, 2: 0.2, 4: 0.4, 6: 0.22 + 0.18 * 0.5**0.5, 8: 0.22, 12: 0.04, 20: 0.04}
  for count, rate in expected.items():
    assert float(schedule(count)) == pytest.approx(rate, rel=1e-5), count


def test_without_warm_up_the_first_update_has_the_full_learning_rate():
  schedule = make_schedule(OptimConfig(lr=0.4), steps=10)
  assert [round(float(schedule(count)), 6) for count in (0, 5, 10)] == [0.4, 0.2, 0.0]


def test_a_warm_up_as_long_as_the_run_is_refused():
  with pytest.raises(ConfigError, match="warmup_steps = 10: the warm-up must be shorter than the run of 10 steps"):
    make_schedule(OptimConfig(warmup_steps=10), steps=10)


def first_update(config, parameters, gradients):
  tx, _ = make_optimizer(config, steps=100)
  updates, state = tx.update(gradients, tx.init(parameters), parameters)
  return updates, state


def test_only_kernels_decay():
  names = ("layer/kernel", "kernel", "layer/bias", "norm/scale", "layer_scale/gamma", "words/embedding", "kernel_bias")
  parameters = {name: jnp.full(2, 10.0) for name in names}
  zero = {name: jnp.zeros(2) for name in names}
  updates, _ = first_update(OptimConfig(lr=0.1, weight_decay=0.05), parameters, zero)
  moved = {name: float(update[0]) for name, update in updates.items()}
  expected = {name: 0.0 for name in names} | {"layer/kernel": -0.05, "kernel": -0.05}  # - lr * decay * 10
  assert moved == pytest.approx(expected)


def test_the_first_matching_rule_scales_the_learning_rate():
  config = OptimConfig(
    lr=0.1, weight_decay=0.0, clip_norm=0.0, lr_rules=(("^slow/", 0.5), ("^still/", 0.0), (".*", 1.0))
  )
  ones = {name: jnp.ones(1) for name in ("slow/kernel", "still/slow/kernel", "head/kernel")}
  updates, _ = first_update(config, ones, ones)
  # Adam's first update is the sign of the gradient.
  moved = {name: float(update[0]) for name, update in updates.items()}
  assert moved == pytest.approx({"slow/kernel": -0.05, "still/slow/kernel": 0.0, "head/kernel": -0.1}, rel=1e-5)


def test_gradients_are_clipped_before_adam_sees_them():
  gradients = {"a": jnp.asarray([3.0]), "b": jnp.asarray([4.0])}  # norm 5
  for clip, factor in ((1.0, 0.2), (10.0, 1.0), (0.0, 1.0)):
    _, state = first_update(OptimConfig(clip_norm=clip), gradients, gradients)
    moments = [float(state[1].mu[name][0]) for name in "ab"]
    np.testing.assert_allclose(moments, [0.1 * 3 * factor, 0.1 * 4 * factor], rtol=1e-5)


def test_a_rule_table_must_cover_every_name():
  tx, _ = make_optimizer(OptimConfig(decay_rules=(("kernel$", True),)), steps=10)
  with pytest.raises(ConfigError, match=r"optim.decay_rules: 1 of 2 names are covered by no rule.*'head/bias'"):
    tx.init({"head/kernel": jnp.ones(1), "head/bias": jnp.ones(1)})


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("lr", 0.0, "optim.lr = 0.0: the learning rate must be above 0"),
    ("warmup_steps", -1, "optim.warmup_steps = -1 is no duration"),
    ("final_lr_fraction", 1.5, "optim.final_lr_fraction = 1.5 is no fraction"),
    ("beta2", 1.0, "optim.beta2 = 1.0: a moment's decay lies from 0 to below 1"),
    ("clip_norm", -1.0, "optim.clip_norm = -1.0 is negative"),
    ("optimizer", "sgd", "optim.optimizer = 'sgd' is not one of 'adamw'"),
  ],
)
def test_impossible_fields_are_refused(field, value, message):
  with pytest.raises(ConfigError, match=message):
    parse(OptimConfig, {field: value}, "optim")
