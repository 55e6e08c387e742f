"""Data sets of features, made on the spot, of the tasks whose ceilings are known (`feature_tasks`, `ceilings`).

A code is a direction of length `amplitude`; those of a stream stand at right angles to each other. Every token also
has a background, drawn anew and across all codes, so it tells nothing; and noise in all directions, if any is wanted:

    semantic[t, n] = amplitude * direction[code of patch n in frame t] + background * normal + noise * normal
    motion[t, m]   = the same, of cell m in segment t; [T, E] where motion is one vector a segment

What a clip shows depends on seed, split and number alone. Training clips get another background and noise each time
they are drawn, clips of evaluation always the same.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from gasmcast.core.config import parse, require
from gasmcast.core.rng import generator
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets.dataset import make_dataset, require_split
from gasmcast.datasets.generated.conjunctions import ConjunctionInPlace, ConjunctionInTime
from gasmcast.datasets.generated.feature_tasks import Directions, ObjectTrajectory, Scene, Task

TASKS: Mapping[str, type[Task]] = {
  "object_trajectory": ObjectTrajectory,
  "directions": Directions,
  "conjunction_in_time": ConjunctionInTime,
  "conjunction_in_place": ConjunctionInPlace,
}
_LABEL = "action"


@dataclasses.dataclass(frozen=True)
class FeatureRecipe:
  """Everything that the features depend on.

  Attributes:
    task: of `TASKS`.
    objects, time, grid, pairs_of_trajectories, kinds: of the task; None as it has them. One that it has not is refused.
    semantic_width, motion_width: D and E of the features; more than there are codes.
    amplitude: length of a code.
    background: standard deviation of what tells nothing, in each direction across the codes.
    noise: standard deviation of what hides the codes, in each direction.
    train, validation, test: clips of each split.
    seed: of all random choices.
  """

  task: str
  objects: int | None = None
  time: int | None = None
  grid: tuple[int, ...] | None = None
  pairs_of_trajectories: int | None = None
  kinds: int | None = None
  semantic_width: int = 32
  motion_width: int = 24
  amplitude: float = 3.0
  background: float = 0.3
  noise: float = 0.0
  train: int = 8192
  validation: int = 512
  test: int = 2048
  seed: int = 0

  def __post_init__(self):
    require(self.task in TASKS, f"task = {self.task!r} is none; use one of {', '.join(TASKS)}.")
    task = self.make_task()
    for name, codes in (("semantic", task.objects), ("motion", task.motion_codes)):
      width = getattr(self, f"{name}_width")
      require(
        width > codes, f"{name}_width = {width}: {codes} codes and a background need {codes + 1} dimensions or more."
      )
    for name in ("amplitude", "background", "noise"):
      require(getattr(self, name) >= 0, f"{name} = {getattr(self, name)} is negative; use 0 or more.")
    for name in ("train", "validation", "test"):
      require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)}: a split has at least 1 clip.")

  def make_task(self) -> Task:
    """The task with its parts.

    Raises:
      ConfigError: it has no such part, or it can't be.
    """
    parts = {name: getattr(self, name) for name in ("objects", "time", "grid", "pairs_of_trajectories", "kinds")}
    return parse(TASKS[self.task], {name: value for name, value in parts.items() if value is not None}, self.task)


def load(root: str | os.PathLike, split: str, **options) -> Dataset:
  """One split; `options` are the fields of `FeatureRecipe`, `root` is of no concern.

  Raises:
    ConfigError: a recipe that can't be, or an unknown split.
  """
  require_split(split)
  recipe = parse(FeatureRecipe, options, "config.data.options")
  task = recipe.make_task()
  scenes = (_scene(recipe, task, split, number) for number in range(getattr(recipe, split)))
  examples = [Example(str(number), "", {_LABEL: scene.label}) for number, scene in enumerate(scenes)]
  given = sorted((key, value) for key, value in options.items() if key != "task" and value is not None)
  name = " ".join([recipe.task, *(f"{key}={value}" for key, value in given)])
  dataset = make_dataset(name, split, pathlib.Path(root), examples, {_LABEL: task.classes})
  return dataclasses.replace(dataset, pairs=task.pairs())


def shapes(**options) -> dict[str, tuple[int, ...]]:
  """Stream -> shape of the features of a clip."""
  recipe = parse(FeatureRecipe, options, "config.data.options")
  task = recipe.make_task()
  cells = () if task.cells == 1 else (task.cells,)
  return {
    "semantic": (task.time, task.patches, recipe.semantic_width),
    "motion": (task.time, *cells, recipe.motion_width),
  }


class Features:
  """The features of each example of a split, as a source of batches (`videos.batches.Source`).

  Args:
    dataset: what `load` gave.
    options: with which.
  """

  def __init__(self, dataset: Dataset, **options):
    self.dataset = dataset
    self._recipe = parse(FeatureRecipe, options, "config.data.options")
    self._task, self._shapes = self._recipe.make_task(), shapes(**options)
    codes = {"semantic": self._task.objects, "motion": self._task.motion_codes}
    self._codes = {name: (codes[name], directions(codes[name], shape[-1])) for name, shape in self._shapes.items()}

  def draw(self, index: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], Mapping[str, int]]:
    """The clip with a new background and new noise."""
    return self._features(index, rng), self.dataset.examples[index].labels

  def read(self, index: int) -> dict[str, np.ndarray]:
    """The clip as it is in every evaluation."""
    return self._features(index, generator(self._recipe.seed, "read", self.dataset.split, index))

  def empty(self) -> dict[str, np.ndarray]:
    """Zeros; no clip is unreadable, but rows that fill up a batch look like this."""
    return {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}

  def _features(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    scene = _scene(self._recipe, self._task, self.dataset.split, index)
    return {
      name: tokens(getattr(scene, name), *self._codes[name], self._recipe, rng).reshape(shape)
      for name, shape in self._shapes.items()
    }


def _scene(recipe: FeatureRecipe, task: Task, split: str, index: int) -> Scene:
  return task.draw(generator(recipe.seed, "scene", split, index))


def directions(codes: int, width: int) -> Float[np.ndarray, "D D"]:
  """Orthonormal rows: first those of the codes 1, 2, ..., then those of the background."""
  q, _ = np.linalg.qr(generator(0, "directions", width, codes).standard_normal((width, width)))
  return q.astype(np.float32)


def tokens(
  scene: Int[np.ndarray, "T N"],
  codes: int,
  axes: Float[np.ndarray, "D D"],
  recipe: FeatureRecipe,
  rng: np.random.Generator,
) -> Float[np.ndarray, "T N D"]:
  """The features of an array of codes; `axes` are what `directions` gives."""
  width = len(axes)
  coordinates = np.zeros((*scene.shape, width), np.float32)
  coordinates[..., codes:] = recipe.background * rng.standard_normal((*scene.shape, width - codes), np.float32)
  there = scene > 0
  coordinates[there, scene[there] - 1] = recipe.amplitude
  if recipe.noise:
    coordinates += recipe.noise * rng.standard_normal(coordinates.shape, np.float32)
  return coordinates @ axes
