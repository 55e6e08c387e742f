"""What the machine is, as far as times depend on it, and how much memory a call takes."""

import ctypes
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

# Of the instruction sets that matrix products are fast with, those that a CPU has are reported.
_TELLING = (
  *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16"),
  *("asimd", "bf16", "sve"),
)
_SETTLING_SECONDS = 0.05


def usable_cpus() -> int:
  """CPUs that this process may run on: fewer than the machine's under taskset."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
  """The CPU by name, its telling flags, CPUs usable and present, memory, load; what can't be told is left out."""
  info = _cpuinfo()
  described: dict[str, Any] = {
    "cpu": info.get("model name") or platform.processor() or platform.machine(),
    "cpu_family_model": f"{info['cpu family']}/{info['model']}" if "cpu family" in info and "model" in info else "",
    "flags": [flag for flag in _TELLING if flag in (info.get("flags") or info.get("Features") or "").split()],
    "cpus": usable_cpus(),
    "cpus_present": os.cpu_count(),
    "system": platform.platform(),
  }
  if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
    described["memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  if hasattr(os, "getloadavg"):
    described["load"] = [round(load, 2) for load in os.getloadavg()]
  return described


def _cpuinfo() -> dict[str, str]:
  """Of the first CPU in /proc/cpuinfo; empty where there is none."""
  try:
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
  except OSError:
    return {}
  pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
  return {name.strip(): value.strip() for name, _, value in pairs}


def resident_growth(call: Callable[[], Any], times: int = 3) -> int | None:
  """Bytes by which the process's resident memory grew at most during `call()`; None where the system can't tell.

  Linux keeps a high-water mark and lets a process reset its own. Freed memory that the allocator holds back would
  hide what the call takes, so it is returned to the system before; threads that free memory meanwhile hide it too, so
  the largest of several times counts.
  """
  grown = []
  try:
    for _ in range(times):
      time.sleep(_SETTLING_SECONDS)
      _return_freed_memory()
      pathlib.Path("/proc/self/clear_refs").write_text("5")
      before = _status("VmRSS")
      result = call()
      grown.append(_status("VmHWM") - before)
      del result
  except (OSError, KeyError):
    return None
  return max(0, *grown)


def _status(field: str) -> int:
  """Bytes of a field of /proc/self/status."""
  for line in pathlib.Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
    if line.startswith(f"{field}:"):
      return int(line.split()[1]) * 1024
  raise KeyError(field)


def _return_freed_memory() -> None:
  trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None  # glibc alone has it
  if trim is not None:
    trim(0)
