"""Several processes that compute as one: which of them this is, and how it joins and leaves the others.

Nothing of jax may have touched a device before `join`; afterwards `jax.devices()` are those of all processes.

The tasks of Slurm are found here and not by jax, which gives each task the GPU of its local number: with one task a
node all other GPUs would lie idle (jax issue 16788), and with --gpus-per-task the number names a GPU that the task
can't see (jax issue 28194). Open MPI, Cloud TPU and Kubernetes (with the package kubernetes) are found by jax.
"""

import dataclasses
import os
import re
import socket
import sys
import threading
from collections.abc import Mapping
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console

from gasmcast.core.config import require
from gasmcast.core.errors import ConfigError, UserError

CONNECT_TIMEOUT = 300  # seconds in which all processes must have come
HEARTBEAT_TIMEOUT = 100  # seconds of silence after which a process counts as dead
_SHUTDOWN_TIMEOUT = 3600  # process 0 may still write a report when the others are done
_PATIENCE = 5  # seconds in which processes that fail together leave together
_FIRST_PORT, _PORTS = 61440, 4096  # above the ports that Linux hands out by itself


class NotJoinedError(UserError):
  """The processes did not come together."""


@dataclasses.dataclass(frozen=True)
class Place:
  """The place of this process among several; where a field is None, jax asks the cluster.

  Attributes:
    coordinator: "host:port" of process 0, as all processes reach it.
    processes, process: how many there are, and the number of this one from 0.
    devices: the GPUs of this process, counted among those that it sees; None for all of them.
  """

  coordinator: str | None = None
  processes: int | None = None
  process: int | None = None
  devices: tuple[int, ...] | None = None


def find_place(
  detect: bool,
  coordinator: str | None,
  processes: int | None,
  process: int | None,
  environment: Mapping[str, str] = os.environ,
) -> Place | None:
  """The place of this process: None if it is alone, else as it was told or, with `detect`, as the cluster says.

  Raises:
    ConfigError: only a part was told, it was told although it is to be found, or it is impossible.
  """
  told = {"--coordinator": coordinator, "--processes": processes, "--process": process}
  given = [name for name, value in told.items() if value is not None]
  if detect:
    require(not given, f"command line: --distributed asks the cluster for what {' and '.join(given)} says; use either.")
    return _slurm_place(environment) if "SLURM_JOB_ID" in environment else Place()
  if not given:
    return None
  missing = [name for name in told if name not in given]
  require(
    not missing,
    f"command line: {' and '.join(missing)} is missing beside {' and '.join(given)}; give all three to every process, "
    "or --distributed alone where a cluster knows them.",
  )
  host, _, port = coordinator.rpartition(":")
  require(
    bool(host) and port.isdecimal() and 0 < int(port) < 2**16,
    f"command line: --coordinator={coordinator}: use HOST:PORT of process 0, for example node1:8476.",
  )
  require(
    0 <= process < processes,
    f"command line: --process={process} of --processes={processes}: processes are numbered 0 to {processes - 1}."
    if processes > 0
    else f"command line: --processes={processes}: use 1 or more.",
  )
  return Place(coordinator, processes, process) if processes > 1 else None


def _slurm_place(environment: Mapping[str, str]) -> Place | None:
  """The place of a task that srun has started."""
  try:
    nodes = environment["SLURM_STEP_NODELIST"]
    processes, process = int(environment["SLURM_STEP_NUM_TASKS"]), int(environment["SLURM_PROCID"])
    here = _tasks_by_node(environment["SLURM_STEP_TASKS_PER_NODE"])[int(environment["SLURM_NODEID"])]
    local, job = int(environment["SLURM_LOCALID"]), int(environment["SLURM_JOB_ID"])
  except KeyError as error:
    raise ConfigError(
      f"command line: --distributed in a Slurm job, but {error.args[0]} is not set: Slurm sets it for what srun "
      "starts. Start every process by srun (launch/slurm_train.sh), or leave --distributed away."
    ) from error
  if processes == 1:
    return None
  port = environment.get("JAX_COORDINATOR_PORT", str(_FIRST_PORT + job % _PORTS))
  coordinator = environment.get("JAX_COORDINATOR_ADDRESS", f"{_first_node(nodes)}:{port}")
  return Place(coordinator, processes, process, _share_of_gpus(local, here, environment))


def _first_node(nodes: str) -> str:
  """ "gpu[07-09,12]-ib,login1" -> "gpu07-ib"."""
  begin, number, end = re.match(r"([^,\[]*)(?:\[(\d+)[^\]]*\]([^,\[]*))?", nodes).groups()
  return begin + (number or "") + (end or "")


def _tasks_by_node(text: str) -> list[int]:
  """ "2(x3),1" -> [2, 2, 2, 1]."""
  counts = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
  return [int(tasks) for tasks, times in counts for _ in range(int(times or 1))]


def _share_of_gpus(local: int, here: int, environment: Mapping[str, str]) -> tuple[int, ...] | None:
  """The GPUs of task `local` of the `here` tasks of a node; None for all that it sees."""
  if here == 1 or environment.get("JAX_LOCAL_DEVICE_IDS"):  # which jax reads itself
    return None
  if not environment.get("CUDA_VISIBLE_DEVICES"):
    return (local,)
  visible = len(environment["CUDA_VISIBLE_DEVICES"].split(","))
  if visible == 1:
    return None  # Slurm has bound it to the task
  require(
    visible % here == 0,
    f"{visible} GPUs of a node can't be divided among its {here} tasks (CUDA_VISIBLE_DEVICES = "
    f"{environment['CUDA_VISIBLE_DEVICES']}); use --ntasks-per-node=1, which takes all, or a divisor of {visible}.",
  )
  share = visible // here
  return tuple(range(local * share, (local + 1) * share))


def join(place: Place, connect_timeout: float = CONNECT_TIMEOUT, heartbeat_timeout: int = HEARTBEAT_TIMEOUT) -> None:
  """Connects this process with all others; returns when every one has come.

  Args:
    connect_timeout: seconds to wait for them.
    heartbeat_timeout: seconds without a sign of life after which a process counts as dead, and all others end.

  Raises:
    ConfigError: the cluster does not say which process this is.
    NotJoinedError: they have not all come in time, process 0 can't listen at its address, or the devices of different
      processes can't exchange anything.
  """
  if place.process == 0 and "JAX_COORDINATOR_BIND_ADDRESS" not in os.environ:
    _require_free_port(place)
  failure: list[Exception] = []

  def initialize():
    try:
      jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        local_device_ids=place.devices,
        cluster_detection_method=None if place.process is None else "deactivate",
        initialization_timeout=int(connect_timeout) + 3600,
        heartbeat_timeout_seconds=heartbeat_timeout,
        shutdown_timeout_seconds=_SHUTDOWN_TIMEOUT,
      )
    except Exception as error:
      failure.append(error)

  # When jax's own timeout runs out it aborts the process with a stack trace; so it waits longer than is waited for it.
  thread = threading.Thread(target=initialize, name="join", daemon=True)
  thread.start()
  thread.join(connect_timeout)
  if thread.is_alive():
    raise NotJoinedError(_not_all_came(place, connect_timeout))
  for error in failure:
    if place.process is not None or isinstance(error, jax.errors.JaxRuntimeError):
      raise error
    raise ConfigError(
      "command line: --distributed: neither Slurm (srun), Open MPI, Cloud TPU nor Kubernetes (which needs the package "
      f"kubernetes) says which process this is ({_one_line(error)}); give --coordinator, --processes and --process."
    ) from error
  _exchange()


def _exchange() -> None:
  """One sum over all devices, while the processes are close in time: a network that lets none through is told of now.

  On CPUs the first sum waits 30 seconds for all processes, later ones for as long as it takes: without this one, a
  process that compiles a step 30 seconds longer than another would end the run.
  """
  devices = jax.devices()
  mesh = Mesh(np.array(devices), ("all",))
  ones = np.ones(len(devices), np.int32)
  split = jax.make_array_from_callback(ones.shape, NamedSharding(mesh, PartitionSpec("all")), lambda i: ones[i])
  try:
    jax.block_until_ready(jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(split))
  except Exception as error:  # of many types, by backend
    raise NotJoinedError(
      f"All processes came, but their {len(devices)} devices can't exchange numbers ({_one_line(error)}); see whether "
      "firewalls let all ports pass between the machines, and which network interface is used (NCCL_SOCKET_IFNAME)."
    ) from error


def _require_free_port(place: Place) -> None:
  port = int(place.coordinator.rpartition(":")[2])
  try:
    socket.create_server(("", port)).close()  # jax would share the port with another process 0, and both would wait
  except OSError as error:
    raise NotJoinedError(
      f"Process 0 can't listen at port {port} of {socket.gethostname()} ({error.strerror}): another program uses it, "
      "or process 0 was started twice; choose another port for all processes, or end the other one."
    ) from error


def _not_all_came(place: Place, waited: float) -> str:
  if place.process is None:
    return f"Not all processes of the cluster came within {waited:g} s (--connect_timeout); see whether all run."
  who = f"Process {place.process} of {place.processes} waited {waited:g} s (--connect_timeout)"
  everyone = (
    f"start {place.processes} processes with the same command, numbered 0 to {place.processes - 1}, no number twice"
  )
  if place.process == 0:
    return f"{who} at {place.coordinator}, and not all others came: {everyone}, and let firewalls pass that port."
  host, _, port = place.coordinator.rpartition(":")
  try:
    socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
  except socket.gaierror:
    return f"{who} for {place.coordinator}: the name {host!r} is not known here; use one by which all machines know it."
  except OSError as error:
    return (
      f"{who} for {place.coordinator}, where nothing answers ({error.strerror or error}): see whether process 0 runs "
      "there, and whether a firewall stands between."
    )
  return f"{who}: {place.coordinator} answers, but not all others came: {everyone}, and see whether the port is ours."


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())


def console() -> Console:
  """What process 0 prints on; of the others nothing is shown."""
  return Console(quiet=jax.distributed.is_initialized() and jax.process_index() > 0)


def leave() -> None:
  """Ends the connection, if there is one; waits for the other processes, which may be some steps behind."""
  jax.distributed.shutdown()


def give_up(code: int, joined: bool = True) -> NoReturn:
  """Ends this process, one of several, with the exit code `code`.

  Processes that all fail in the same way leave together. One that fails alone must not wait for the others, which wait
  for it: they see it vanish, at once or after the heartbeat timeout, and end too.

  Args:
    joined: whether it has joined the others.
  """
  if joined:
    farewell = threading.Thread(target=leave, daemon=True)
    farewell.start()
    farewell.join(_PATIENCE)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)  # the interpreter's own way out would wait for the others
