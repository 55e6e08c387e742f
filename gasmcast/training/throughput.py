"""Where the seconds of a run go, how much is computed in them, and what memory it takes.

Model FLOPs utilisation (Chowdhery et al., "PaLM", 2022, appendix B) is the share of the device's published peak that
the FLOPs of the step amount to. The FLOPs are those that XLA counts in the whole step (forward, backward, update)
before it is optimised and divided over devices. It counts the body of a loop (`lax.scan`) once, however often it runs,
and recomputation (remat) as often as it is done: with loops the number is too low, with remat it is the hardware's.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator

import jax

_MEGABYTE = 1e6

# (regex over the device kind, peak of dense bfloat16 products in TFLOP/s, float16 where there is no bfloat16), first
# match wins. From the makers' data sheets, without sparsity; accumulation in float32. A TPU v2 or v3 device is one of
# the two cores of a chip.
PEAKS = (
  (r"\bB200\b", 2250.0),
  (r"\bH200 NVL\b", 835.0),
  (r"\b(H200|GH200)\b", 989.4),
  (r"\bH100 NVL\b", 835.0),
  (r"\bH100 PCIe\b", 756.0),
  (r"\bH100\b", 989.4),
  (r"\bA100\b", 312.0),
  (r"\bL40S\b", 362.0),
  (r"\bL4\b", 121.0),
  (r"\bA10\b", 125.0),
  (r"\bV100-PCIE\b", 112.0),
  (r"\bV100-SXM2\b", 125.0),
  (r"\bT4\b", 65.0),
  (r"\bRTX 4090\b", 165.2),
  (r"\bRTX 3090$", 71.0),
  (r"^TPU v6 lite$", 918.0),
  (r"^TPU v5 lite$", 197.0),
  (r"^TPU v5p?$", 459.0),
  (r"^TPU v4$", 275.0),
  (r"^TPU v3$", 61.5),
  (r"^TPU v2$", 22.5),
)


def peak_tflops(device_kind: str) -> float | None:
  """The published peak of a device in TFLOP/s; None where there is none, as of a CPU."""
  return next((peak for pattern, peak in PEAKS if re.search(pattern, device_kind)), None)


def device_memory() -> dict[str, float]:
  """Of the fullest device here: "memory/device_mb" in use and "memory/device_peak_mb"; empty where it can't tell."""
  known = [stats for device in jax.local_devices() if (stats := device.memory_stats())]
  keys = {"bytes_in_use": "memory/device_mb", "peak_bytes_in_use": "memory/device_peak_mb"}
  return {
    name: max(stats[key] for stats in known) / _MEGABYTE
    for key, name in keys.items()
    if known and all(key in stats for stats in known)
  }


class Meter:
  """Counts clips, steps and seconds between two log lines.

  What is done `apart` (validation, saving, compiling) is timed by name and counts in no speed.

  Args:
    clock: tells seconds.
  """

  def __init__(self, clock: Callable[[], float] = time.perf_counter):
    self._clock = clock
    devices = jax.devices()
    peak = peak_tflops(devices[0].device_kind)
    self._peak = None if peak is None else peak * len(devices)
    self.step_tflops: float | None = None
    self._restart()

  def _restart(self) -> None:
    self._since = self._clock()
    self._steps = self._clips = 0
    self._waited = self._starved = 0.0
    self._apart: dict[str, float] = {}

  @contextlib.contextmanager
  def waiting(self, running: jax.Array | None = None) -> Iterator[None]:
    """Around the wait for input. `running` is of the step that the devices compute meanwhile: if it is done when the
    input comes, they may have had nothing to do all the while."""
    began = self._clock()
    yield
    waited = self._clock() - began
    self._waited += waited
    if running is None or running.is_ready():
      self._starved += waited

  @contextlib.contextmanager
  def apart(self, name: str) -> Iterator[None]:
    """Around what is no training."""
    began = self._clock()
    try:
      yield
    finally:
      self.spent(name, self._clock() - began)

  def spent(self, name: str, seconds: float) -> None:
    """As `apart`, of what was timed elsewhere."""
    self._apart[name] = self._apart.get(name, 0.0) + seconds

  def count(self, clips: int) -> None:
    """One step is done."""
    self._steps += 1
    self._clips += clips

  def read(self) -> dict[str, float]:
    """The numbers since the last reading, and begins anew.

    Returns:
      "clips_per_second". "speed/tflops": of the step on all devices together, and "speed/mfu" where their peak is
      known. "time/input_wait": share of the time that passed waiting for input; "time/input_starved": the part of it
      after which the devices had nothing left to do, so at most this share is lost. "time/<name>": seconds of what
      was done apart.
    """
    seconds = max(self._clock() - self._since - sum(self._apart.values()), 1e-9)
    numbers = {
      "clips_per_second": self._clips / seconds,
      "time/input_wait": min(self._waited / seconds, 1.0),
      "time/input_starved": min(self._starved / seconds, 1.0),
      **{f"time/{name}": apart for name, apart in self._apart.items()},
    }
    if self.step_tflops is not None:
      numbers["speed/tflops"] = self.step_tflops * self._steps / seconds
      if self._peak is not None:
        numbers["speed/mfu"] = numbers["speed/tflops"] / self._peak
    self._restart()
    return numbers


def memory(lower: Callable[[], jax.stages.Lowered], arguments: bool = True) -> int | None:
  """Bytes on each device that a call of a compiled function needs at most: what it is given, what it gives back and
  what it holds in between, as the compiler has planned them; None where it does not tell.

  Args:
    arguments: whether what it is given counts.
  """
  try:
    plan = lower().compile().memory_analysis()
    given = plan.argument_size_in_bytes if arguments else 0
    return int(given + plan.output_size_in_bytes + plan.temp_size_in_bytes - plan.alias_size_in_bytes)
  except Exception:  # as in `tflops`
    return None


def tflops(lower: Callable[[], jax.stages.Lowered]) -> float | None:
  """TFLOP of one call of a function, on all devices together, from its lowering; None where XLA does not count."""
  try:
    counted = float(lower().cost_analysis()["flops"])
  except Exception:  # the platform's plugin decides what it can't do, and how it says so
    return None
  return counted / 1e12 if counted > 0 else None
