"""Shares of time, FLOPs and peaks, with a clock that is set by hand."""

import jax
import jax.numpy as jnp
import pytest

from gasmcast.training import throughput
from gasmcast.training.throughput import Meter, device_memory, memory, peak_tflops, tflops


class Clock:
  """Shows the seconds that the test says."""

  now = 100.0

  def __call__(self):
    return self.now


class Running:
  """A result that is there, or not yet."""

  def __init__(self, ready):
    self.is_ready = lambda: ready


@pytest.fixture
def clock():
  return Clock()


def test_shares_and_speeds_by_hand(clock):
  meter = Meter(clock)
  meter.step_tflops = 3.0
  for waited, ready in ((1, True), (2, False)):
    with meter.waiting(Running(ready)):
      clock.now += waited
    clock.now += 1  # computes
    meter.count(clips=8)
  with meter.apart("validation"):
    clock.now += 20
  meter.spent("checkpoint", 0.0)
  numbers = meter.read()
  assert numbers == {
    "clips_per_second": 16 / 5,
    "time/input_wait": 3 / 5,
    "time/input_starved": 1 / 5,  # the devices were still busy when the second input came
    "time/validation": 20.0,
    "time/checkpoint": 0.0,
    "speed/tflops": 2 * 3.0 / 5,
  }


def test_a_reading_begins_anew(clock):
  meter = Meter(clock)
  with meter.waiting():  # before the first step nothing runs
    clock.now += 4
  assert meter.read()["time/input_starved"] == 1.0
  clock.now += 2
  meter.count(clips=6)
  assert meter.read() == {"clips_per_second": 3.0, "time/input_wait": 0.0, "time/input_starved": 0.0}


def test_what_fails_apart_is_timed(clock):
  meter = Meter(clock)
  with pytest.raises(KeyError), meter.apart("validation"):
    clock.now += 5
    raise KeyError
  assert meter.read()["time/validation"] == 5.0


def test_utilisation_is_the_share_of_the_peak_of_all_devices(clock, monkeypatch):
  monkeypatch.setattr(throughput, "PEAKS", (("cpu", 0.5),))
  meter = Meter(clock)
  meter.step_tflops = 2.0
  clock.now += 4
  meter.count(clips=1)
  numbers = meter.read()
  assert numbers["speed/tflops"] == 0.5
  assert numbers["speed/mfu"] == 0.5 / (0.5 * len(jax.devices()))


@pytest.mark.parametrize(
  ("kind", "peak"),
  [
    ("NVIDIA H100 80GB HBM3", 989.4),
    ("NVIDIA H100 PCIe", 756.0),
    ("NVIDIA H200", 989.4),
    ("NVIDIA A100-SXM4-80GB", 312.0),
    ("NVIDIA L4", 121.0),
    ("NVIDIA L40S", 362.0),
    ("Tesla V100-SXM2-16GB", 125.0),
    ("TPU v5 lite", 197.0),
    ("TPU v5", 459.0),
    ("TPU v4", 275.0),
    ("NVIDIA GeForce RTX 3090 Ti", None),
    ("NVIDIA L40", None),
    ("NVIDIA A1000 Laptop GPU", None),
    ("TPU v4 lite", None),
    ("cpu", None),
  ],
)
def test_peaks_are_those_of_the_data_sheets_or_unknown(kind, peak):
  assert peak_tflops(kind) == peak


def test_flops_are_those_of_a_product_of_matrices():
  product = jax.jit(lambda a, b: a @ b)
  assert tflops(lambda: product.lower(jnp.ones((8, 16)), jnp.ones((16, 4)))) == 2 * 8 * 16 * 4 / 1e12


def test_what_can_not_be_counted_is_unknown():
  assert tflops(lambda: jax.jit(lambda x: x).lower(jnp.ones(3))) is None

  def fail():
    raise NotImplementedError("the plugin counts nothing")

  assert tflops(fail) is None


def test_the_memory_of_a_call_by_hand():
  """Two arguments of 4000 bytes; the first is replaced by the result, so it counts once. The rest is workspace."""
  function = jax.jit(lambda a, b: a + b, donate_argnums=0)
  needed = memory(lambda: function.lower(jnp.ones(1000), jnp.ones(1000)))
  beside = memory(lambda: function.lower(jnp.ones(1000), jnp.ones(1000)), arguments=False)
  assert needed - beside == 8000 and 8000 <= needed < 9000


def test_the_memory_of_what_can_not_be_compiled_is_unknown():
  def fail():
    raise NotImplementedError("the plugin tells nothing")

  assert memory(fail) is None


def test_memory_is_that_of_the_fullest_device(monkeypatch):
  class Device:
    def __init__(self, **stats):
      self.memory_stats = lambda: stats or None

  devices = [Device(bytes_in_use=2e6, peak_bytes_in_use=5e6), Device(bytes_in_use=3e6, peak_bytes_in_use=4e6)]
  monkeypatch.setattr(jax, "local_devices", lambda: devices)
  assert device_memory() == {"memory/device_mb": 3.0, "memory/device_peak_mb": 5.0}
  monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
  assert device_memory() == {}
