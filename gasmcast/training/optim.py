"""The optimiser and its schedule. Gradients in, updates out; every choice by name is a rule table.

AdamW (Loshchilov and Hutter 2019): the decay acts on the parameter, not through the moments. The learning rate rises
linearly over the warm-up and falls along half a cosine. All durations are in updates.
"""

import dataclasses
from typing import Literal

import optax

from gasmcast.core import rules
from gasmcast.core.config import require


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """How parameters move.

  Attributes:
    optimizer: the rule that turns gradients into updates.
    lr: the learning rate at the end of the warm-up.
    warmup_steps: updates over which it rises linearly from 0.
    final_lr_fraction: the last learning rate, as a fraction of `lr`.
    beta1, beta2, eps: of Adam's moments.
    clip_norm: gradients with a larger global norm are scaled down to it; 0 switches clipping off.
    weight_decay: fraction of a parameter that an update subtracts, times the learning rate.
    decay_rules: (regex over parameter names, decayed or not), first match wins. Linen calls the matrices that a
      layer multiplies with "kernel"; biases, norms, LayerScale and embeddings have other names and keep their size.
    lr_rules: (regex over parameter names, factor on the learning rate), first match wins.
  """

  optimizer: Literal["adamw"] = "adamw"
  lr: float = 1e-3
  warmup_steps: int = 0
  final_lr_fraction: float = 0.0
  beta1: float = 0.9
  beta2: float = 0.999
  eps: float = 1e-8
  clip_norm: float = 1.0
  weight_decay: float = 0.05
  decay_rules: tuple[tuple[str, bool], ...] = ((r"(^|/)kernel$", True), (".*", False))
  lr_rules: tuple[tuple[str, float], ...] = ((".*", 1.0),)

  def __post_init__(self):
    require(self.lr > 0, f"optim.lr = {self.lr}: the learning rate must be above 0.")
    require(
      self.warmup_steps >= 0, f"optim.warmup_steps = {self.warmup_steps} is no duration; use 0 for no warm-up, or more."
    )
    require(
      0 <= self.final_lr_fraction <= 1,
      f"optim.final_lr_fraction = {self.final_lr_fraction} is no fraction; use a number from 0 to 1.",
    )
    for name in ("beta1", "beta2"):
      value = getattr(self, name)
      require(0 <= value < 1, f"optim.{name} = {value}: a moment's decay lies from 0 to below 1.")
    for name in ("eps", "clip_norm", "weight_decay"):
      value = getattr(self, name)
      require(value >= 0, f"optim.{name} = {value} is negative; use 0 or more.")


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
  """Updates applied so far -> the learning rate of the next one: `lr` after the warm-up, the final one at `steps`.

  Raises:
    ConfigError: the warm-up is not shorter than the run.
  """
  require(
    config.warmup_steps < steps,
    f"optim.warmup_steps = {config.warmup_steps}: the warm-up must be shorter than the run of {steps} steps.",
  )
  if config.warmup_steps == 0:
    return optax.cosine_decay_schedule(config.lr, steps, alpha=config.final_lr_fraction)
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=config.lr,
    warmup_steps=config.warmup_steps,
    decay_steps=steps,  # counted from 0: optax includes the warm-up
    end_value=config.lr * config.final_lr_fraction,
  )


def make_optimizer(config: OptimConfig, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """(transformation of a flat dict of gradients by parameter name, the schedule in it for the log).

  Raises:
    ConfigError: as `make_schedule`; the transformation's init, for a name that a rule table leaves uncovered.
  """
  schedule = make_schedule(config, steps)

  def decayed(parameters):
    return rules.match(list(parameters), config.decay_rules, "optim.decay_rules")

  def scale_by_name(updates, _):
    factors = rules.match(list(updates), config.lr_rules, "optim.lr_rules")
    return {name: update * factors[name] for name, update in updates.items()}

  tx = optax.chain(
    optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
    optax.scale_by_adam(config.beta1, config.beta2, config.eps),
    optax.add_decayed_weights(config.weight_decay, mask=decayed),
    optax.stateless(scale_by_name),
    optax.scale_by_learning_rate(schedule),
  )
  return tx, schedule
