"""The engine "ray": workers as tasks of a Ray cluster, which places them and starts those again that die (extra [ray]).

Every node needs the checkout, the data and the workdir under the same path. Nothing but the name of the worker and its
arguments passes through Ray: what is made goes to the shared folder.
"""

import contextlib
import os
import pathlib
import re
import socket
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from gasmcast.core.config import require
from gasmcast.core.errors import ConfigError, UserError
from gasmcast.jobs.engines import RESTARTS, EngineConfig

_CONNECT_SECONDS = 10.0
_ROOT = str(pathlib.Path(__file__).resolve().parent.parent.parent)
_PASSED_ON = (
  *("JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS"),
  *("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION"),
)


def run(
  config: EngineConfig,
  worker: Callable[..., None],
  arguments: tuple[Any, ...],
  watch: Callable[[], None],
  every: float,
) -> None:
  """See `engines.run`."""
  ray = _import_ray()
  with _cluster(ray, config):
    options = {"num_cpus": config.cpus, "num_gpus": config.gpus, "max_retries": RESTARTS}
    task = ray.remote(**options)(_work)
    tasks = [task.remote(worker, arguments, str(pathlib.Path.cwd())) for _ in range(config.workers)]
    try:
      while tasks:
        ended, tasks = ray.wait(tasks, num_returns=1, timeout=every)
        watch()
        for one in ended:
          if (error := _outcome(ray, one)) is not None:
            raise error
    finally:
      for one in tasks:
        ray.cancel(one, force=True)


def _work(worker: Callable[..., None], arguments: tuple[Any, ...], folder: str) -> UserError | None:
  """What a task does. A UserError is returned, because a raised one Ray would wrap into pages of traceback.

  Args:
    folder: where relative paths begin.
  """
  try:
    os.chdir(folder)
  except OSError as error:
    return ConfigError(
      f"{folder}, where the job was started, can't be entered on {socket.gethostname()}: {error.strerror}. Start it "
      "on a disk that all nodes of the cluster see under the same path."
    )
  try:
    worker(*arguments)
  except UserError as error:
    return error
  return None


def _outcome(ray: ModuleType, task: Any) -> UserError | None:
  try:
    return ray.get(task)
  except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
    reason = " ".join(str(error).split())
    return UserError(
      f"A Ray worker died for the {RESTARTS + 1}th time: {reason} Run the same command again; finished shards stay."
    )


def _import_ray() -> ModuleType:
  os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
  try:
    import ray
  except ImportError as error:
    raise ConfigError("engine = 'ray' needs Ray, which is not installed: pip install -e \".[ray]\"") from error
  return ray


@contextlib.contextmanager
def _cluster(ray: ModuleType, config: EngineConfig) -> Iterator[None]:
  """Connected to the cluster of the config, or to the one that this process is connected to already."""
  if ray.is_initialized():
    yield
    return
  variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
  variables["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
  given = config.address or os.environ.get("RAY_ADDRESS")
  options: dict[str, Any] = {"runtime_env": {"env_vars": variables}}
  options |= {"address": given} if given else {"include_dashboard": False}
  _require_reachable(given)
  try:
    ray.init(**options)
  except Exception as error:  # Ray raises many kinds, also the bare one when its processes don't start in time
    reason = " ".join(str(error).split())
    raise ConfigError(f"address = {given!r}: the Ray cluster can't be used or started: {reason}") from error
  try:
    if not given:  # a cluster at an address may grow when it is asked for more
      _require_resources(ray.cluster_resources(), config)
    yield
  finally:
    ray.shutdown()


def _require_reachable(address: str | None) -> None:
  """Ray itself would try for minutes."""
  found = re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address or "")
  if found is None:
    return  # "auto", or whatever Ray makes of it
  try:
    socket.create_connection((found[1], int(found[2])), timeout=_CONNECT_SECONDS).close()
  except (OSError, OverflowError) as error:
    raise ConfigError(f"address = {address!r}: nothing answers there ({error}); is the cluster up?") from error


def _require_resources(there: dict[str, float], config: EngineConfig) -> None:
  for name, needed in (("CPU", config.cpus), ("GPU", config.gpus)):
    require(
      needed <= there.get(name, 0),
      f"{name.lower()}s = {needed}: this machine has {there.get(name, 0):g}, so no worker would ever start; use "
      "fewer, or the address of a cluster that has them.",
    )
