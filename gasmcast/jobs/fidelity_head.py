"""A model that was trained on stored features, given others of the same backbones."""

import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float

from gasmcast.core.config import difference, require
from gasmcast.core.errors import WorkdirError
from gasmcast.core.manifest import read_json
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.fidelity_reference import Reference, networks
from gasmcast.jobs.scoring import Best

CONFIG = "config.json"
_MAX_DIFFERENCES = 3  # that a message names


def trained_experiment(experiment: Experiment, folder: pathlib.Path) -> Experiment:
  """The configuration of a training on stored features, as its working directory holds it.

  Raises:
    WorkdirError: the folder is no working directory of a training.
    ConfigError: its configuration is impossible, or names no store.
  """
  if not (folder / CONFIG).is_file() or not (folder / "checkpoints").is_dir():
    raise WorkdirError(
      f"config.fidelity.head = {str(folder)!r} holds no {CONFIG} with checkpoints; name the --workdir of a training on "
      "stored features, or set it to None."
    )
  trained = Experiment(read_json(folder / CONFIG), folder, experiment.command, experiment.console)
  require(
    trained.store_folder is not None,
    f"config.fidelity.head = {str(folder)!r} was trained on videos; name the --workdir of a training with "
    "config.data.store.",
  )
  return trained


class Head:
  """The best checkpoint of a training on stored features.

  Attributes:
    shapes: stream -> [T, N, D] or [T, D] of the features that it takes.
    weights: the hash of the model.

  Raises:
    WorkdirError: there is no checkpoint of this configuration, or it was trained on features of other networks.
    DataError: its store or its training split can't be used.
  """

  def __init__(self, experiment: Experiment, folder: pathlib.Path, reference: Reference):
    best = Best(trained_experiment(experiment, folder))
    trained = best.experiment
    told = {name: trained.store.description[name] for name in trained.model.streams()}
    self.folder, self.class_names, self.weights = folder, best.system.class_names, best.weights["model"]
    self.shapes = {name: tuple(told[name]["shape"]) for name in told}
    self._components = [name for name in told if told[name]["variant"]["pca"]]
    _require_same_networks(folder, networks(*trained.with_weights()), reference.networks)
    model = best.variables(stored=True)
    step = jax.jit(lambda variables, batch: best.system.apply(variables, batch, train=False)[0]["logits"])
    self._logits = lambda batch: step(model, batch)

  def obstacle(self, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why the head can't be given restored features of these shapes, in words; None where it can."""
    for name, needed in self.shapes.items():
      if name in self._components:
        return f"not applicable: the head was trained on principal components of the {name} stream"
      if shapes[name] != needed:
        return (
          f"not applicable: the head was trained on {_text(needed)} of the {name} stream, not {_text(shapes[name])}"
        )
    return None

  def logits(self, clips: Sequence[Mapping[str, np.ndarray]], rows: int) -> Float[np.ndarray, "n C"]:
    """The scores of up to `rows` clips, float32; what lacks of `rows` is filled up, so that it is compiled once."""
    batch = {name: np.zeros((rows, *shape), np.float32) for name, shape in self.shapes.items()}
    for row, features in enumerate(clips):
      for name, stack in batch.items():
        stack[row] = features[name]
    return np.asarray(self._logits(batch), np.float32)[: len(clips)]


def _require_same_networks(folder: pathlib.Path, trained: Mapping, reference: Mapping) -> None:
  lines = []
  for name, network in trained.items():
    lines += difference(network, reference.get(name), name)
  if lines:
    more = f" and {len(lines) - _MAX_DIFFERENCES} more" if len(lines) > _MAX_DIFFERENCES else ""
    raise WorkdirError(
      f"config.fidelity.head = {str(folder)!r} was trained on features made otherwise (there -> here: "
      f"{'; '.join(lines[:_MAX_DIFFERENCES])}{more}); name one that was trained on these, or set it to None."
    )


def _text(shape: tuple[int, ...]) -> str:
  return " x ".join(map(str, shape))
