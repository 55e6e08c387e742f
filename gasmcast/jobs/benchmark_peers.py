"""The other library of a benchmark, reached by the names in the configuration when it is installed, and the peak.

Nothing in this package knows a peer: they live in `benchmarks/`, of which `benchmarks/torch_library.py` is one library.
"""

import dataclasses
import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gasmcast.core import machine
from gasmcast.core.config import require
from gasmcast.core.errors import ConfigError

PLATFORMS = ("cpu", "gpu", "tpu")
INSTALL = "pip install -e '.[peers]'"
_PRODUCTS = 7  # of each size; the fastest counts


class Peers(Protocol):
  """What a module offers that stands for another library.

  Attributes:
    NAME: of the library.
  """

  NAME: str

  def unusable(self, platform: str) -> str:
    """Why it can't be compared with on this platform of jax; "" if it can."""

  def start(self, threads: int) -> None:
    """Called once, before anything else."""

  def versions(self) -> Mapping[str, str]:
    """Of the library and of what it needs."""

  def product(self, side: int, dtype: str, platform: str) -> Callable[[], Any]:
    """Multiplies two square matrices; done when it returns."""

  def release(self) -> None:
    """Called after each case: forgets what was compiled."""


@dataclasses.dataclass(frozen=True)
class PeersConfig:
  """The other library.

  Attributes:
    package: that has to be installed.
    module: that offers what `Peers` says.
    install: the command that is named where the package is missing.
    enabled: False measures our sides alone.
  """

  package: str
  module: str
  install: str
  enabled: bool = True


def load(config: PeersConfig | None, platform: str) -> tuple[Peers | None, str]:
  """(the library, started; "") or (None, why there is none; "" where the configuration knows of none).

  Raises:
    ConfigError: the package is there and the module is not.
  """
  if config is None:
    return None, ""
  if not config.enabled:
    return None, "the configuration leaves the peers out."
  if importlib.util.find_spec(config.package) is None:
    return None, f"{config.package} is not installed, so the peers are missing; {config.install} adds them."
  peers = resolve(config.module, "config.peers.module")
  if reason := peers.unusable(platform):
    return None, f"{reason}, so the peers are missing."
  peers.start(machine.usable_cpus())
  return peers, ""


def resolve(name: str, where: str) -> Any:
  """The module "a.b", or the function "a.b:c".

  Raises:
    ConfigError: there is none of that name.
  """
  module, _, attribute = name.partition(":")
  try:
    found = importlib.import_module(module)
  except ModuleNotFoundError as error:
    raise ConfigError(f"{where} = {name!r}: {error}; peers are found from the folder of the checkout.") from error
  require(not attribute or hasattr(found, attribute), f"{where} = {name!r}: {module} has no {attribute!r}.")
  return getattr(found, attribute) if attribute else found


def imported(make: Callable[[], Any]) -> Any:
  """What `make` gives, which imports a peer's library.

  Raises:
    RuntimeError: the library is missing, or does not work with what is installed here.
  """
  try:
    return make()
  except (ImportError, OSError) as error:
    raise RuntimeError(f"{error}; {INSTALL} installs what works together") from error


def peaks(
  sizes: Sequence[int], dtypes: Sequence[str], peers: Peers | None, platform: str
) -> dict[str, dict[str, float]]:
  """dtype -> library -> GFLOP/s of its fastest product of square matrices; empty without sizes."""
  found: dict[str, dict[str, float]] = {}
  for dtype in dtypes if sizes else ():
    found[dtype] = {"jax": max(_rate(size, call) for size in sizes for call in _products(size, dtype))}
    if peers is not None:
      found[dtype][peers.NAME] = max(_rate(size, peers.product(size, dtype, platform)) for size in sizes)
  return found


def higher(a: Mapping[str, Mapping[str, float]], b: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
  """The higher of two measurements of `peaks`, number by number."""
  return {
    dtype: {library: max(rate, a.get(dtype, {}).get(library, 0.0)) for library, rate in rates.items()}
    for dtype, rates in b.items()
  }


def _products(side: int, dtype: str) -> list[Callable[[], Any]]:
  """Products that round to `dtype`, and that keep their float32 sums: which is faster depends on the platform."""
  a, b = (
    jnp.asarray(matrix, dtype) for matrix in np.random.default_rng(0).standard_normal((2, side, side), np.float32)
  )
  sums = [jnp.float32] if dtype == "float32" else [jnp.float32, None]
  functions = [jax.jit(lambda a, b, kind=kind: jnp.matmul(a, b, preferred_element_type=kind)) for kind in sums]
  return [lambda function=function: function(a, b).block_until_ready() for function in functions]


def _rate(side: int, call: Callable[[], Any]) -> float:
  """GFLOP/s of the fastest of a few."""
  call()
  seconds = []
  for _ in range(_PRODUCTS):
    begin = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - begin)
  return 2e-9 * side**3 / min(seconds)
