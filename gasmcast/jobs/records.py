"""What a working directory says of how it came about: config.json, environment.json, command.txt."""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterator

import jax

from gasmcast.core.errors import WorkdirError
from gasmcast.core.manifest import atomic_file, write_json
from gasmcast.jobs.run import Run

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "opencv-python-headless")


def versions() -> dict[str, str]:
  """Versions of Python, of gasmcast and of the libraries that results depend on."""
  return {"python": platform.python_version(), **installed("gasmcast", *_PACKAGES)}


def installed(*names: str) -> dict[str, str]:
  """Versions of those of these packages that are installed."""
  return {name: importlib.metadata.version(name) for name in names if _installed(name)}


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
  """Around writing into a working directory.

  Raises:
    WorkdirError: it can't be written.
  """
  try:
    yield
  except OSError as error:
    place = f": {error.filename}" if error.filename else ""
    raise WorkdirError(
      f"{folder} can't be written ({error.strerror}{place}); make room or choose another --workdir."
    ) from error


def training_command(run: Run) -> str:
  """The command that trained what is in the working directory."""
  file = run.workdir / "command.txt"
  return file.read_text("utf-8").strip() if file.exists() else ""


def write(run: Run) -> None:
  """Writes the records, on process 0.

  Raises:
    WorkdirError: the folder can't be made or written.
  """
  if jax.process_index():
    return
  workdir = run.workdir
  with writing(workdir):
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", run.raw)
    write_json(workdir / "environment.json", _environment())
    with atomic_file(workdir / "command.txt") as file:
      file.write((run.command + "\n").encode("utf-8"))


def _environment() -> dict[str, object]:
  devices = jax.devices()
  return {
    "versions": versions(),
    "platform": platform.platform(),
    "cores": os.cpu_count(),
    "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
    "processes": jax.process_count(),
    "revision": _revision(),
  }


def _revision() -> str:
  """The git revision of the checkout, with "+changes" where it was edited; "" outside a checkout."""
  git = ["git", "-C", str(pathlib.Path(__file__).parent)]
  try:
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
  except (OSError, subprocess.CalledProcessError):
    return ""
  return head + ("+changes" if changed.strip() else "")


def _installed(name: str) -> bool:
  try:
    importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return False
  return True
