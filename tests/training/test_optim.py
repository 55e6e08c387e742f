"""The optimisers and their rule tables, in numbers that can be redone by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError
from gasmcast.training.optim import OptimConfig, make_optimizer
from gasmcast.training.plateau import PlateauConfig


def first_update(config, parameters, gradients):
  tx, _ = make_optimizer(config, steps=100)
  updates, state = tx.update(gradients, tx.init(parameters), parameters)
  return updates, state


def test_only_kernels_decay():
  names = ("layer/kernel", "kernel", "layer/bias", "norm/scale", "layer_scale/gamma", "words/embedding", "kernel_bias")
  names += ("attention/qkv_kernel",)
  parameters = {name: jnp.full(2, 10.0) for name in names}
  zero = {name: jnp.zeros(2) for name in names}
  updates, _ = first_update(OptimConfig(lr=0.1, weight_decay=0.05), parameters, zero)
  moved = {name: float(update[0]) for name, update in updates.items()}
  expected = {name: 0.0 for name in names}
  expected |= dict.fromkeys(("layer/kernel", "kernel", "attention/qkv_kernel"), -0.05)  # - lr * decay * 10
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


def several_updates(config, gradients, start=1.0):
  """A parameter "kernel" after each of these gradients."""
  tx, _ = make_optimizer(config, steps=100)
  parameters = {"kernel": jnp.asarray([start])}
  state, seen = tx.init(parameters), []
  for gradient in gradients:
    updates, state = tx.update({"kernel": jnp.asarray([gradient])}, state, parameters)
    parameters = {"kernel": parameters["kernel"] + updates["kernel"]}
    seen.append(float(parameters["kernel"][0]))
  return seen


PLAIN = {"lr": 0.1, "schedule": "constant", "clip_norm": 0.0, "weight_decay": 0.0}


def test_sgd_with_momentum_by_hand():
  """Momentum 0.5: velocities 1, 0.5 + 2; positions 1 - 0.1, 0.9 - 0.25."""
  config = OptimConfig(optimizer="sgd", momentum=0.5, **PLAIN)
  assert several_updates(config, [1.0, 2.0]) == pytest.approx([0.9, 0.65])


def test_sgd_looks_ahead_with_nesterov():
  """Updates g + 0.5 v: 1 + 0.5, then 2 + 0.5 * 2.5."""
  config = OptimConfig(optimizer="sgd", momentum=0.5, nesterov=True, **PLAIN)
  assert several_updates(config, [1.0, 2.0]) == pytest.approx([0.85, 0.525])


def test_sgd_without_momentum_has_no_state():
  tx, _ = make_optimizer(OptimConfig(optimizer="sgd", momentum=0.0, **PLAIN), steps=100)
  assert len(jax.tree.leaves(tx.init({"kernel": jnp.ones(3)}))) == 1  # the count of the schedule
  assert several_updates(OptimConfig(optimizer="sgd", momentum=0.0, **PLAIN), [1.0, 2.0]) == pytest.approx([0.9, 0.7])


def test_the_momentum_that_is_not_given_is_the_usual_one():
  """0.9 after one equal gradient: velocities 1 and 1.9."""
  assert several_updates(OptimConfig(optimizer="sgd", **PLAIN), [1.0, 1.0]) == pytest.approx([0.9, 0.71])


def test_decay_is_in_the_gradient_of_adam_and_beside_that_of_adamw():
  """Gradient 0, decay 0.5: Adam sees 0.5 and moves by its sign, AdamW subtracts 0.1 * 0.5 of the parameter."""
  fields = PLAIN | {"weight_decay": 0.5}
  assert several_updates(OptimConfig(optimizer="adam", **fields), [0.0]) == pytest.approx([0.9])
  assert several_updates(OptimConfig(optimizer="adamw", **fields), [0.0]) == pytest.approx([0.95])
  # SGD: v = 0.5, p = 0.95; v = 0.9 * 0.5 + 0.5 * 0.95, p = 0.95 - 0.0925
  assert several_updates(OptimConfig(optimizer="sgd", **fields), [0.0, 0.0]) == pytest.approx([0.95, 0.8575])


@pytest.mark.torch
@pytest.mark.parametrize(
  ("name", "fields", "peer"),
  [
    ("adamw", {"beta2": 0.99}, lambda torch, p: torch.optim.AdamW(p, 0.03, (0.9, 0.99), weight_decay=0.1)),
    ("adam", {}, lambda torch, p: torch.optim.Adam(p, 0.03, weight_decay=0.1)),
    ("sgd", {"momentum": 0.8}, lambda torch, p: torch.optim.SGD(p, 0.03, 0.8, weight_decay=0.1)),
    (
      "sgd",
      {"momentum": 0.8, "nesterov": True},
      lambda torch, p: torch.optim.SGD(p, 0.03, 0.8, weight_decay=0.1, nesterov=True),
    ),
    ("sgd", {"momentum": 0.0}, lambda torch, p: torch.optim.SGD(p, 0.03, weight_decay=0.1)),
  ],
)
def test_twenty_updates_are_those_of_pytorch(name, fields, peer):
  """With clipping, as torch.nn.utils.clip_grad_norm_ does it before the optimiser."""
  torch = pytest.importorskip("torch", reason="compares with PyTorch")
  rng = np.random.default_rng(0)
  start, gradients = rng.normal(size=(4, 3)), rng.normal(size=(20, 4, 3))
  config = OptimConfig(
    optimizer=name, lr=0.03, schedule="constant", clip_norm=3.0, weight_decay=0.1, eps=1e-8, **fields
  )
  tx, _ = make_optimizer(config, steps=100)
  found = {"kernel": jnp.asarray(start, jnp.float32)}
  state, step = tx.init(found), jax.jit(tx.update)
  parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
  other = peer(torch, [parameter])
  for gradient in gradients:
    updates, state = step({"kernel": jnp.asarray(gradient, jnp.float32)}, state, found)
    found = {"kernel": found["kernel"] + updates["kernel"]}
    parameter.grad = torch.tensor(gradient, dtype=torch.float32)
    torch.nn.utils.clip_grad_norm_([parameter], 3.0)
    other.step()
  np.testing.assert_allclose(found["kernel"], parameter.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (
      {"momentum": 0.9},
      r"config.optim.momentum = 0.9 means nothing with config.optim.optimizer = 'adamw', only with "
      r"'sgd' or 'muon'; leave it at None, or change the optimizer",
    ),
    ({"optimizer": "sgd", "beta1": 0.8}, r"beta1 = 0.8 means nothing with config.optim.optimizer = 'sgd'.*at 0.9"),
    ({"optimizer": "sgd", "eps": 1e-6}, r"eps = 1e-06 means nothing with config.optim.optimizer = 'sgd'"),
    ({"optimizer": "adam", "muon_rules": ((".*", "adam"),)}, r"muon_rules = .* only with 'muon'"),
    (
      {"schedule": "constant", "final_lr_fraction": 0.1},
      r"final_lr_fraction = 0.1 means nothing with "
      r"config.optim.schedule = 'constant', only with 'cosine' or 'restarts'",
    ),
    ({"cycle_steps": 10}, r"cycle_steps = 10 means nothing with config.optim.schedule = 'cosine'"),
    ({"cycle_multiplier": 2}, r"cycle_multiplier = 2 means nothing"),
    ({"plateau": PlateauConfig(patience=5)}, r"plateau = {'factor': 0.1, 'patience': 5, .* only with 'plateau'"),
  ],
)
def test_a_field_that_the_choice_ignores_is_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    OptimConfig(**fields)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"lr": 0.0}, "config.optim.lr = 0.0: the learning rate must be above 0"),
    ({"warmup_steps": -1}, "config.optim.warmup_steps = -1 is no duration"),
    ({"final_lr_fraction": 1.5}, "config.optim.final_lr_fraction = 1.5 is no fraction"),
    ({"beta2": 1.0}, "config.optim.beta2 = 1.0: a decay lies from 0 to below 1"),
    ({"clip_norm": -1.0}, "config.optim.clip_norm = -1.0 is negative"),
    ({"optimizer": "lion"}, "config.optim.optimizer = 'lion' is not one of 'adamw', 'adam', 'sgd', 'muon'"),
    ({"schedule": "linear"}, "config.optim.schedule = 'linear' is not one of 'cosine', 'restarts', 'constant'"),
    ({"schedule": "restarts"}, "config.optim.cycle_steps = 0: the schedule 'restarts' needs the length"),
    ({"schedule": "restarts", "cycle_steps": 3, "cycle_multiplier": 0}, "cycle_multiplier = 0: cycles do not get"),
    ({"optimizer": "sgd", "momentum": 0.0, "nesterov": True}, "nesterov = True with config.optim.momentum = 0.0"),
    ({"lr_rules": ((".*", -1.0),)}, "config.optim.lr_rules: '.*' has the factor -1.0; use 0 or more"),
    ({"muon_rules": ((".*", "svd"),)}, r"config.optim.muon_rules\[0\]\[1\] = 'svd' is not one of 'matrix', 'qkv'"),
  ],
)
def test_impossible_fields_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    parse(OptimConfig, fields, "config.optim")
