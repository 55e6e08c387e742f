"""Parameters of another run as the start of this one: strict by name and shape, except for what may be new.

A run is read from its checkpoint alone; the system that made it is not needed. What it trained is taken, with the batch
statistics of the same modules; what it kept frozen is not in a checkpoint and comes from the weights of the backbones,
as in any run. Where it kept a running average of its parameters, the average is taken: that is what was validated.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from gasmcast.core import rules
from gasmcast.core.errors import DataError, WeightsError
from gasmcast.core.manifest import hash_arrays, read_json
from gasmcast.core.types import PyTree
from gasmcast.features.weights.tensor_files import read_tensors, write_tensors
from gasmcast.training.checkpoint import CHECKSUMS, checksums
from gasmcast.training.groups import group_of

_PARAMS = "params/"
_FILE = ".safetensors"
_MAX_NAMES = 8  # of one kind that a message lists


@dataclasses.dataclass(frozen=True)
class InitConfig:
  """What a run begins with.

  Attributes:
    weights: the workdir of another run, whose best checkpoint is taken; one step of it (WORKDIR/checkpoints/465); or a
      .safetensors file of all variables under our own names, as `save` writes it. None for a fresh start.
    new: (regex over names, whether it may be new), first match wins. A name with True begins fresh where `weights` lack
      it or have it in another shape, and is left where only `weights` have it.
  """

  weights: str | None = None
  new: tuple[tuple[str, bool], ...] = ((".*", False),)


@dataclasses.dataclass(frozen=True)
class Start:
  """What is taken of another run.

  Attributes:
    variables: a part of the system's variables, {"params": ..., "batch_stats": ...}, on the host.
    fingerprint: BLAKE3 of their names, types, shapes and bits.
    message: one sentence on what was taken, what is new, and what comes from elsewhere.
  """

  variables: PyTree = dataclasses.field(repr=False)
  fingerprint: str
  message: str


def require_there(config: InitConfig) -> None:
  """Refuses `config.init.weights` that are not there, or are nothing that can be read, before any work.

  Raises:
    WeightsError: see `read`.
  """
  if config.weights is not None:
    _locate(config.weights)


def start(config: InitConfig, abstract: PyTree, own: PyTree) -> Start:
  """The variables that `config.weights` give to a system.

  Args:
    abstract: all variables of the system, or their shapes.
    own: the part that the backbones' own weights give; it is needed where `config.weights` say nothing.

  Raises:
    ConfigError: `config.new` does not cover a name.
    WeightsError: the weights can't be read, or names and shapes do not fit; the message lists them.
  """
  found, origin = read(config.weights)
  wanted, elsewhere = rules.flatten(abstract), rules.flatten(own)
  found = _without_foreign_statistics(found, wanted)
  names = {name: name.removeprefix(_PARAMS) for name in {**found, **wanted}}
  may_be_new = rules.match(list(names.values()), config.new, "config.init.new")
  new = {name for name, short in names.items() if may_be_new[short]}
  fitting = {name for name in found if name in wanted and np.shape(found[name]) == wanted[name].shape}

  unknown = [name for name in found if name not in wanted and name not in new]
  reshaped = [name for name in found if name in wanted and name not in fitting and name not in new]
  missing = [name for name in wanted if name not in found and name not in elsewhere and name not in new]
  if unknown or reshaped or missing:
    shapes = {name: f"{names[name]} {np.shape(found[name])}, here {wanted[name].shape}" for name in reshaped}
    problems = (
      _listed("not of this system", [names[name] for name in unknown]),
      _listed("of another shape", list(shapes.values())),
      _listed("missing", [names[name] for name in missing]),
    )
    raise WeightsError(
      f"config.init.weights = {config.weights!r}: {len(unknown) + len(reshaped) + len(missing)} names do not fit. "
      f"{' '.join(filter(None, problems))} Configure the system that these weights are of, or name in config.init.new "
      "what may be new."
    )
  taken = {name: np.asarray(found[name], wanted[name].dtype) for name in sorted(fitting)}
  if not any(name.startswith(_PARAMS) for name in taken):
    raise WeightsError(
      f"config.init.weights = {config.weights!r}: config.init.new lets all {len(wanted)} variables be new and none "
      "fits; name less in config.init.new, or set config.init.weights to None."
    )
  fresh = [name for name in wanted if name not in taken and name not in elsewhere]
  message = _message(origin, taken, fresh, [name for name in elsewhere if name not in taken], wanted)
  return Start(rules.unflatten(taken), hash_arrays(taken.items()), message)


def read(weights: str | os.PathLike) -> tuple[dict[str, np.ndarray], str]:
  """(variables by name, "params/..." and "batch_stats/...", and where they came from in words).

  Raises:
    WeightsError: nothing is there, it is of no known kind, it has no finished step, or it is damaged.
  """
  path = _locate(weights)
  if path.suffix == _FILE:
    tensors, metadata = read_tensors(path)
    if "name" in metadata:
      raise WeightsError(
        f"config.init.weights = {str(weights)!r} holds the backbone {metadata['name']}, not a whole system; name it in "
        "config.model.semantic.weights or config.model.motion.weights."
      )
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}, str(path)
  if not path.name.isdigit():
    path = path / str(_best_step(path))
  _require_intact(path)
  return _read_step(path), f"step {path.name} of {path.parent.parent}"


def save(weights: str | os.PathLike, path: str | os.PathLike) -> None:
  """Writes what `read` reads as one .safetensors file, to be kept when the workdir goes.

  Raises:
    WeightsError: as `read`, or the file can't be written.
  """
  found, origin = read(weights)
  try:
    write_tensors(path, found, {"origin": origin})
  except OSError as error:
    raise WeightsError(f"{path} can't be written: {error.strerror or error}.") from error


def _locate(weights: str | os.PathLike) -> pathlib.Path:
  """A .safetensors file, the folder of a step, or a folder of checkpoints."""
  path = pathlib.Path(weights)
  if path.is_file() and path.suffix == _FILE:
    return path
  if path.name.isdigit() and (path / "state").is_dir():
    return path
  if (path / "checkpoints").is_dir():
    return path / "checkpoints"
  there = "is neither" if path.exists() else "does not exist; it must be"
  raise WeightsError(
    f"config.init.weights = {str(weights)!r} {there} the workdir of a training, with its folder checkpoints, one step "
    f"in that folder, or a {_FILE} file."
  )


def _best_step(folder: pathlib.Path) -> int:
  """As the newest step that can be read says; a run without a validation has none."""
  steps = sorted((int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()), reverse=True)
  for step in steps:
    with contextlib.suppress(DataError):  # a damaged newest step is no reason not to find the best
      best = read_json(folder / str(step) / "meta" / "metadata")["best_step"]
      if best is not None:
        return best
  raise WeightsError(
    f"config.init.weights: {folder} has no best step (steps there: {steps or 'none'}); train until the first "
    "validation, or name one of the steps."
  )


def _require_intact(step: pathlib.Path) -> None:
  remedy = "name another step of it, or get the folder again."
  if not (step / CHECKSUMS).exists():
    raise WeightsError(f"config.init.weights: {step} was never finished (it has no {CHECKSUMS}); {remedy}")
  try:
    expected, found = read_json(step / CHECKSUMS), checksums(step)
  except (DataError, OSError) as error:
    raise WeightsError(f"config.init.weights: {step} can't be read: {error}; {remedy}") from error
  damaged = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
  if damaged:
    raise WeightsError(
      f"config.init.weights: {step} is damaged, {len(damaged)} of {len(expected)} files are not as they were written, "
      f"the first is {damaged[0]}; {remedy}"
    )


def _read_step(step: pathlib.Path) -> dict[str, np.ndarray]:
  """The parameters and collections of a checkpoint as NumPy arrays, whatever devices it was saved from."""
  handler = ocp.PyTreeCheckpointHandler()
  tree = handler.metadata(step.absolute() / "state").tree
  wanted = {name: tree[name] for name in ("trainable", "average", "collections") if name in tree}
  arguments = ocp.args.PyTreeRestore(
    item=jax.tree.map(lambda _: 0, wanted),
    restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted),
    partial_restore=True,
  )
  stored = handler.restore(step.absolute() / "state", args=arguments)
  params = stored.get("average") or stored["trainable"]
  return {f"{_PARAMS}{name}": leaf for name, leaf in params.items()} | rules.flatten(stored["collections"])


def _without_foreign_statistics(found: Mapping[str, np.ndarray], wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Leaves out the statistics of modules whose parameters were frozen there: they belong to those parameters."""
  module = lambda name: name.split("/", 1)[-1].rpartition("/")[0]
  trained = {module(name) for name in found if name.startswith(_PARAMS)}
  with_parameters = {module(name) for name in wanted if name.startswith(_PARAMS)}
  return {
    name: leaf
    for name, leaf in found.items()
    if name.startswith(_PARAMS) or module(name) in trained or (name in wanted and module(name) not in with_parameters)
  }


def _listed(kind: str, names: list[str]) -> str:
  if not names:
    return ""
  more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
  return f"{len(names)} {kind}: {', '.join(names[:_MAX_NAMES])}{more}."


def _message(origin: str, taken: Mapping[str, Any], fresh: list[str], own: list[str], wanted: Mapping[str, Any]) -> str:
  numbers = sum(math.prod(leaf.shape) for name, leaf in taken.items() if name.startswith(_PARAMS))
  statistics = sum(not name.startswith(_PARAMS) for name in taken)
  parts = [f"{numbers:,} parameters" + (f" and {statistics} batch statistics" if statistics else "")]
  if fresh:
    groups = sorted({group_of(name.removeprefix(_PARAMS)) for name in fresh})
    count = sum(math.prod(wanted[name].shape) for name in fresh)
    parts.append(f"new: {', '.join(groups)} ({count:,} parameters)")
  if own:
    parts.append(f"from their own weights: {', '.join(sorted({name.split('/')[1] for name in own}))}")
  return f"Starting from {origin}: {'; '.join(parts)}."
