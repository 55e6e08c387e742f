"""Job devices: what jax computes with here, how fast and how exactly. The first thing to run on a new machine."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from gasmcast.jobs import records
from gasmcast.jobs.experiment import Experiment

_SIDE = 1024  # of the square matrices
_RUNS = 5


def check(experiment: Experiment) -> None:
  """Nothing to refuse: this job is for machines where nothing else works yet."""


def run(experiment: Experiment) -> None:
  """Prints versions and devices, and for each precision the speed and the error of a matrix product on each device."""
  console = experiment.console
  console.print(", ".join(f"{name} {version}" for name, version in records.versions().items()))
  table = Table(title=f"{_SIDE} x {_SIDE} matrix product, median of {_RUNS}", title_justify="left")
  for column in ("device", "precision", "GFLOP/s", "largest error"):
    table.add_column(column, justify="left" if column in ("device", "precision") else "right")
  for device in jax.local_devices():
    for dtype in (jnp.float32, jnp.bfloat16):
      speed, error = measure(device, dtype)
      name = f"{device.id}: {device.device_kind} ({device.platform})"
      table.add_row(name, dtype.__name__, f"{speed:,.0f}", f"{error:.1e}")
  console.print(table)


def measure(device: jax.Device, dtype: jnp.dtype) -> tuple[float, float]:
  """(GFLOP/s, largest error relative to the largest entry of the float64 product) of a product on the device."""
  a, b = np.random.default_rng(0).standard_normal((2, _SIDE, _SIDE)).astype(np.float32)
  x, y = (jax.device_put(jnp.asarray(matrix, dtype), device) for matrix in (a, b))
  product = jax.jit(lambda x, y: jnp.matmul(x, y, preferred_element_type=jnp.float32))
  exact = a.astype(np.float64) @ b.astype(np.float64)
  error = np.abs(np.asarray(product(x, y)) - exact).max() / np.abs(exact).max()
  seconds = []
  for _ in range(_RUNS):
    begin = time.perf_counter()
    product(x, y).block_until_ready()
    seconds.append(time.perf_counter() - begin)
  return 2e-9 * _SIDE**3 / float(np.median(seconds)), float(error)
