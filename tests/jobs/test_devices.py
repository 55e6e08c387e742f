"""The job that looks at the machine."""

import jax
import jax.numpy as jnp

from gasmcast.jobs import devices


def test_the_product_is_measured_and_as_exact_as_its_precision():
  device = jax.local_devices()[0]
  speed, error = devices.measure(device, jnp.float32)
  assert speed > 0.1 and error < 1e-5
  _, coarse = devices.measure(device, jnp.bfloat16)
  assert 1e-4 < coarse < 1e-1  # 8 bits of mantissa
