"""The optimiser and its schedule. Gradients in, updates out; every choice by name is a rule table.

Order of operations: clip the gradients together, add what decays to them (adam, sgd) or form the update first and then
add it (adamw, muon), multiply by the factor of each name, multiply by the learning rate. All durations are in updates.

"adamw": Loshchilov and Hutter 2019, the decay acts on the parameter and not through the moments. "adam": Kingma and Ba
2015, with the decay as L2 in the gradient. "sgd": with momentum as PyTorch has it, the decay as L2 in the gradient.
"muon": matrices by training/muon.py, everything else as "adamw".
"""

import dataclasses
from typing import Literal

import optax

from gasmcast.core import rules
from gasmcast.core.config import require
from gasmcast.training import muon, schedules
from gasmcast.training.plateau import PlateauConfig

# Which choice a field is of. One that stands at another value than its default beside another choice is refused.
_OF_OPTIMIZER = {
  **dict.fromkeys(("beta1", "beta2"), ("adamw", "adam", "muon")),
  **dict.fromkeys(("momentum", "nesterov"), ("sgd", "muon")),
  "eps": ("adamw", "adam", "muon"),
  "muon_rules": ("muon",),
}
_OF_SCHEDULE = {
  "final_lr_fraction": ("cosine", "restarts"),
  **dict.fromkeys(("cycle_steps", "cycle_multiplier"), ("restarts",)),
  "plateau": ("plateau",),
}
_MOMENTUM = {"sgd": (0.9, False), "muon": (0.95, True)}  # and whether it is Nesterov's


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """How parameters move, and which.

  Attributes:
    optimizer: the rule that turns gradients into updates.
    lr: the learning rate at the end of the warm-up.
    warmup_steps: updates over which it rises linearly from 0.
    schedule: what follows: "cosine" down to the end of the run, "restarts" of the cosine, "constant", or "plateau":
      constant until validations stop getting better.
    final_lr_fraction: the last learning rate (of every cycle), as a fraction of `lr`.
    cycle_steps, cycle_multiplier: updates of the first cycle of "restarts", and how many times longer each next one is.
    plateau: when "plateau" lowers the learning rate.
    beta1, beta2, eps: of Adam's moments; `eps` also bounds the norm that Muon divides by.
    momentum, nesterov: of SGD (None: 0.9, False) and Muon (None: 0.95, True).
    clip_norm: gradients with a larger global norm are scaled down to it; 0 switches clipping off.
    weight_decay: fraction of a parameter that an update subtracts, times the learning rate; with "adam" and "sgd" what
      is added of it to the gradient (L2), where much smaller numbers are usual.
    decay_rules: (regex over parameter names, decayed or not), first match wins. Linen calls the matrices that a
      layer multiplies with "kernel"; biases, norms, LayerScale and embeddings have other names and keep their size.
    lr_rules: (regex over parameter names, factor on the learning rate), first match wins.
    trained: (regex over parameter names, trained or frozen), before the rules of the system: a first True keeps what a
      later False would freeze. It can't train what the system freezes, see training/treatment.py.
    muon_rules: (regex over parameter names, "matrix", "qkv", "heads" or "adam"), first match wins, see
      training/muon.py. Layers that classify and convolutions of single channels are left to Adam.
  """

  optimizer: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
  lr: float = 1e-3
  warmup_steps: int = 0
  schedule: Literal["cosine", "restarts", "constant", "plateau"] = "cosine"
  final_lr_fraction: float = 0.0
  cycle_steps: int = 0
  cycle_multiplier: int = 1
  plateau: PlateauConfig = dataclasses.field(default_factory=PlateauConfig)
  beta1: float = 0.9
  beta2: float = 0.999
  eps: float = 1e-8
  momentum: float | None = None
  nesterov: bool | None = None
  clip_norm: float = 1.0
  weight_decay: float = 0.05
  decay_rules: tuple[tuple[str, bool], ...] = ((r"(^|[/_])kernel$", True), (".*", False))
  lr_rules: tuple[tuple[str, float], ...] = ((".*", 1.0),)
  trained: tuple[tuple[str, bool], ...] = ()
  muon_rules: tuple[tuple[str, Literal["matrix", "qkv", "heads", "adam"]], ...] = (
    (r"(^|/)(head|depthwise)/kernel$", "adam"),
    (r"(^|/)qkv_kernel$", "qkv"),
    (r"(^|/)kernel$", "matrix"),
    (".*", "adam"),
  )

  def __post_init__(self):
    require(self.lr > 0, f"config.optim.lr = {self.lr}: the learning rate must be above 0.")
    require(
      self.warmup_steps >= 0,
      f"config.optim.warmup_steps = {self.warmup_steps} is no duration; use 0 for no warm-up, or more.",
    )
    require(
      0 <= self.final_lr_fraction <= 1,
      f"config.optim.final_lr_fraction = {self.final_lr_fraction} is no fraction; use a number from 0 to 1.",
    )
    for name in ("beta1", "beta2", "momentum"):
      value = getattr(self, name)
      require(value is None or 0 <= value < 1, f"config.optim.{name} = {value}: a decay lies from 0 to below 1.")
    for name in ("eps", "clip_norm", "weight_decay"):
      value = getattr(self, name)
      require(value >= 0, f"config.optim.{name} = {value} is negative; use 0 or more.")
    for pattern, factor in self.lr_rules:
      require(factor >= 0, f"config.optim.lr_rules: {pattern!r} has the factor {factor}; use 0 or more.")
    self._check_used("optimizer", _OF_OPTIMIZER)
    self._check_used("schedule", _OF_SCHEDULE)
    require(
      self.cycle_multiplier >= 1,
      f"config.optim.cycle_multiplier = {self.cycle_multiplier}: cycles do not get shorter; use 1 or more.",
    )
    require(
      self.schedule != "restarts" or self.cycle_steps >= 1,
      f"config.optim.cycle_steps = {self.cycle_steps}: the schedule 'restarts' needs the length of its first cycle, "
      'for example "10 epochs".',
    )
    require(
      not self.nesterov or self.momentum != 0,
      "config.optim.nesterov = True with config.optim.momentum = 0.0: there is no momentum to look ahead with; use "
      "nesterov = False or a momentum above 0.",
    )

  def _check_used(self, choice: str, owners: dict[str, tuple[str, ...]]) -> None:
    """Refuses a field that the choice made does not look at: its value would be ignored in silence."""
    defaults, chosen = {field.name: _default(field) for field in dataclasses.fields(self)}, getattr(self, choice)
    for name, users in owners.items():
      require(
        chosen in users or getattr(self, name) == defaults[name],
        f"config.optim.{name} = {_shown(getattr(self, name))} means nothing with config.optim.{choice} = {chosen!r}, "
        f"only with {' or '.join(map(repr, users))}; leave it at {_shown(defaults[name])}, or change the {choice}.",
      )


def _default(field: dataclasses.Field):
  return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _shown(value) -> str:
  return str(dataclasses.asdict(value)) if dataclasses.is_dataclass(value) else repr(value)


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
  """Updates applied so far -> the learning rate of the next one, in a run of `steps`; what a plateau does comes on top.

  Raises:
    ConfigError: the warm-up is not shorter than the run, or the first of several cycles does not end in it.
  """
  schedules.require_within(config.warmup_steps, config.cycle_steps, steps)
  lr, warmup, final = config.lr, config.warmup_steps, config.final_lr_fraction
  if config.schedule == "cosine":
    return schedules.cosine(lr, warmup, steps, final)
  if config.schedule == "restarts":
    return schedules.restarts(lr, warmup, config.cycle_steps, config.cycle_multiplier, final)
  return schedules.constant(lr, warmup)


def make_optimizer(config: OptimConfig, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """(transformation of a flat dict of gradients by parameter name, the schedule in it for the log).

  Raises:
    ConfigError: as `make_schedule`; the transformation's init, for a name that a rule table leaves uncovered or a
      kernel that is no matrix.
  """
  schedule = make_schedule(config, steps)

  def decayed(parameters):
    return rules.match(list(parameters), config.decay_rules, "config.optim.decay_rules")

  def scale_by_name(updates, _):
    factors = rules.match(list(updates), config.lr_rules, "config.optim.lr_rules")
    return {name: update * factors[name] for name, update in updates.items()}

  decay, direction = optax.add_decayed_weights(config.weight_decay, mask=decayed), _direction(config)
  through_gradient = config.optimizer in ("adam", "sgd")
  tx = optax.chain(
    optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
    *((decay, direction) if through_gradient else (direction, decay)),
    optax.stateless(scale_by_name),
    optax.scale_by_learning_rate(schedule),
  )
  return tx, schedule


def _direction(config: OptimConfig) -> optax.GradientTransformation:
  """Gradients -> updates, before decay, rules and learning rate."""
  adam = optax.scale_by_adam(config.beta1, config.beta2, config.eps)
  if config.optimizer in ("adamw", "adam"):
    return adam
  momentum, nesterov = _MOMENTUM[config.optimizer]
  momentum = momentum if config.momentum is None else config.momentum
  nesterov = nesterov if config.nesterov is None else config.nesterov
  if config.optimizer == "sgd":
    return optax.trace(momentum, nesterov) if momentum else optax.identity()
  return optax.partition(
    {muon.ADAM: adam}
    | {kind: muon.orthogonalized_momentum(momentum, nesterov, config.eps, kind) for kind in muon.KINDS},
    lambda leaves: rules.match(list(leaves), config.muon_rules, "config.optim.muon_rules"),
  )
