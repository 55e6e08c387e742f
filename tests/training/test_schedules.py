"""Learning rates over time, in numbers that can be redone by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.training import schedules
from gasmcast.training.optim import OptimConfig, make_schedule

HALF = 0.5**0.5  # cos 45 degrees


def rates(schedule, counts):
  return [float(schedule(count)) for count in counts]


def test_the_learning_rate_rises_linearly_and_falls_along_half_a_cosine():
  schedule = schedules.cosine(0.4, warmup=4, steps=12, final_fraction=0.1)
  # Updates 4 to 12 are the cosine: its middle (8) is the mean of 0.4 and 0.04, its quarter lies at cos 45 degrees.
  expected = {0: 0.0, 1: 0.1, 2: 0.2, 4: 0.4, 6: 0.22 + 0.18 * HALF, 8: 0.22, 12: 0.04, 20: 0.04}
  assert rates(schedule, expected) == pytest.approx(list(expected.values()), rel=1e-5)


def test_without_warm_up_the_first_update_has_the_full_learning_rate():
  assert rates(schedules.cosine(0.4, 0, 10, 0.0), (0, 5, 10)) == pytest.approx([0.4, 0.2, 0.0], abs=1e-6)
  assert rates(schedules.constant(0.4, 0), (0, 5, 100)) == pytest.approx([0.4] * 3)
  assert rates(schedules.restarts(0.4, 0, 4, 1, 0.0), (0, 2, 4)) == pytest.approx([0.4, 0.2, 0.4])


def test_a_constant_learning_rate_follows_its_warm_up():
  assert rates(schedules.constant(0.4, 4), (0, 1, 3, 4, 99)) == pytest.approx([0.0, 0.1, 0.3, 0.4, 0.4])


def test_every_restart_begins_at_the_full_learning_rate_and_each_cycle_is_longer():
  schedule = schedules.restarts(0.4, warmup=2, cycle=4, multiplier=2, final_fraction=0.1)
  # Warm-up 0, 1; cycles of 4, 8, 16 from 2, 6, 14 on; the middle of each is the mean of 0.4 and 0.04.
  expected = {0: 0.0, 1: 0.2, 2: 0.4, 4: 0.22, 5: 0.22 - 0.18 * HALF}
  expected |= {6: 0.4, 8: 0.22 + 0.18 * HALF, 10: 0.22, 14: 0.4, 22: 0.22, 30: 0.4, 46: 0.22}
  assert rates(schedule, expected) == pytest.approx(list(expected.values()), rel=1e-5)
  traced = jax.jit(jax.vmap(schedule))(jnp.asarray(list(expected)))
  np.testing.assert_allclose(traced, list(expected.values()), rtol=1e-5, atol=1e-7)


def test_equal_cycles_come_exactly_on_time_even_late():
  schedule = schedules.restarts(1.0, warmup=0, cycle=1000, multiplier=1, final_fraction=0.0)
  late = 50_000_000  # beyond the whole numbers that float32 has
  assert rates(schedule, (late, late + 500)) == pytest.approx([1.0, 0.5])
  assert float(schedule(jnp.int32(late - 1))) == pytest.approx(0.0, abs=1e-5)


def test_a_cycle_far_out_has_its_length():
  """Cycle 20 of 10 * 3**i begins at 10 (3**20 - 1) / 2, beyond 32 bits; the last that begins before is cycle 17."""
  schedule = schedules.restarts(1.0, warmup=0, cycle=10, multiplier=3, final_fraction=0.0)
  start, length = 5 * (3**17 - 1), 10 * 3**17
  assert rates(schedule, (start, start + length // 2)) == pytest.approx([1.0, 0.5], abs=1e-4)


@pytest.mark.torch
def test_restarts_are_those_of_pytorch():
  torch = pytest.importorskip("torch", reason="compares with PyTorch")
  parameter = torch.nn.Parameter(torch.zeros(1))
  optimizer = torch.optim.SGD([parameter], lr=0.4)
  peer = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=5, T_mult=2, eta_min=0.04)
  expected = []
  for _ in range(40):
    expected.append(optimizer.param_groups[0]["lr"])
    optimizer.step()
    peer.step()
  schedule = schedules.restarts(0.4, warmup=0, cycle=5, multiplier=2, final_fraction=0.1)
  np.testing.assert_allclose(jax.vmap(schedule)(jnp.arange(40)), expected, rtol=1e-5)


def test_the_field_names_the_schedule():
  cycles = {"schedule": "restarts", "cycle_steps": 4, "final_lr_fraction": 0.1}
  assert float(make_schedule(OptimConfig(lr=0.4, warmup_steps=2, **cycles), steps=20)(4)) == pytest.approx(0.22)
  for name in ("constant", "plateau"):
    assert float(make_schedule(OptimConfig(lr=0.4, warmup_steps=2, schedule=name), steps=20)(19)) == pytest.approx(0.4)
  assert float(make_schedule(OptimConfig(lr=0.4, warmup_steps=2), steps=20)(20)) == pytest.approx(0.0)


def test_what_the_run_does_not_see_the_end_of_is_refused():
  with pytest.raises(ConfigError, match="warmup_steps = 10: the warm-up must be shorter than the run of 10 steps"):
    make_schedule(OptimConfig(warmup_steps=10), steps=10)
  config = OptimConfig(schedule="restarts", cycle_steps=9, warmup_steps=2)
  with pytest.raises(ConfigError, match=r"cycle_steps = 9: the first cycle would end at step 11 .* run of 10 steps"):
    make_schedule(config, steps=10)
  make_schedule(config, steps=11)
