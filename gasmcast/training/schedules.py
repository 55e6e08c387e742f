"""Learning rates over time: functions of the updates applied so far, which jit can trace. All durations are in updates.

Every schedule rises linearly from 0 to `lr` over the warm-up, and reaches `lr` at update number `warmup`.
"""

import math

import jax.numpy as jnp
import optax

from gasmcast.core.config import require


def cosine(lr: float, warmup: int, steps: int, final_fraction: float) -> optax.Schedule:
  """After the warm-up half a cosine, down to `lr * final_fraction` at `steps`, and constant from there on.

  Loshchilov and Hutter 2017, equation 5, with one cycle.
  """
  if warmup == 0:
    return optax.cosine_decay_schedule(lr, steps, alpha=final_fraction)
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=lr,
    warmup_steps=warmup,
    decay_steps=steps,  # counted from 0: optax includes the warm-up
    end_value=lr * final_fraction,
  )


def restarts(lr: float, warmup: int, cycle: int, multiplier: int, final_fraction: float) -> optax.Schedule:
  """After the warm-up half a cosine a cycle, which begins at `lr` and ends short of `lr * final_fraction`.

  Stochastic gradient descent with warm restarts (Loshchilov and Hutter 2017, equation 5): cycle i lasts
  `cycle * multiplier**i` updates (their T_0 and T_mult). The cycles never end; a run that is to stop at a low learning
  rate stops where one does, which with a multiplier of 2 is after 1, 3, 7, ... times the first.
  """

  def after_warmup(count):
    position, length = _in_cycle(jnp.maximum(count, 0), cycle, multiplier)
    share = (1 + jnp.cos(jnp.pi * position / length)) / 2
    return lr * (final_fraction + (1 - final_fraction) * share)

  return _warmed_up(lr, warmup, after_warmup)


def _in_cycle(count, cycle: int, multiplier: int):
  """(updates since the cycle began, its length). Whole numbers, so that a restart comes at exactly its update."""
  if multiplier == 1:
    return count % cycle, cycle
  cycles = 1 + math.ceil(math.log(2**31 / cycle, multiplier))  # more than a counter of 32 bits can reach
  ends = [cycle * (multiplier**i - 1) // (multiplier - 1) for i in range(cycles + 1)]
  starts = jnp.asarray([end for end in ends if end < 2**31], jnp.int32)
  number = jnp.searchsorted(starts, count, side="right") - 1
  return count - starts[number], cycle * jnp.float32(multiplier) ** number


def constant(lr: float, warmup: int) -> optax.Schedule:
  """`lr` from the end of the warm-up on."""
  return _warmed_up(lr, warmup, optax.constant_schedule(lr))


def _warmed_up(lr: float, warmup: int, then: optax.Schedule) -> optax.Schedule:
  if warmup == 0:
    return then
  return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), then], [warmup])


def require_within(warmup: int, cycle: int, steps: int) -> None:
  """Refuses a warm-up, or a first cycle (0: there is none), that the run does not see the end of.

  Raises:
    ConfigError: they are too long.
  """
  require(
    warmup < steps,
    f"config.optim.warmup_steps = {warmup}: the warm-up must be shorter than the run of {steps} steps.",
  )
  require(
    warmup + cycle <= steps,
    f"config.optim.cycle_steps = {cycle}: the first cycle would end at step {warmup + cycle} (the warm-up takes "
    f"{warmup}) of a run of {steps} steps; use a shorter cycle, or the schedule 'cosine'.",
  )
