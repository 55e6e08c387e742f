"""Every test runs on the CPU with 8 fake devices and a compilation cache that all runs share."""

import os
import pathlib
from collections.abc import Callable

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
_CACHE = pathlib.Path(__file__).resolve().parent.parent / ".cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# What a test runs is small and runs a few times: to optimise it takes longer than it saves.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import pytest  # noqa: E402
from absl import flags  # noqa: E402

from tests import reliability  # noqa: E402

if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags


@pytest.fixture
def figure(request) -> Callable[[str], None]:
  """Tells what a test with the mark `reliability(row)` has measured, in words, for docs/reliability.md."""
  (row,) = request.node.get_closest_marker("reliability").args
  long = request.node.get_closest_marker("long") is not None

  def tell(measured: str) -> None:
    print(f"reliability {row}: {measured}")
    reliability.record(row, measured, request.node.nodeid, long)

  return tell


@pytest.fixture
def shared_data() -> pathlib.Path:
  """The folder of real videos, annotations and weights beside the checkout, or a skip that says so."""
  folder = pathlib.Path(__file__).resolve().parent.parent.parent / "shared" / "data"
  if not folder.is_dir():
    pytest.skip(f"the real data are not here: {folder} is absent")
  return folder
