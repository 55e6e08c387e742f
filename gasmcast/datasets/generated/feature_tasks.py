"""Questions about two streams of features whose best possible accuracy is known by construction.

A clip is two arrays of codes: which object stands on a patch in a frame (0: none), and what moves in a segment, or in a
cell of it (0: nothing). `feature_sets` turns codes into features. A task says what a clip is made of, each part drawn
evenly and independently (`choices`), what it then looks like (`scene`), and how often the best rule is right that sees
no more than one of the views of `ceilings.VIEWS` (`ceilings`), with the reason, to be checked by hand.

    task                  label                           what it asks for
    object_trajectory     object, trajectory              both streams; the direction of time
    directions            object, direction               both streams; the direction of time; left and right
    conjunction_in_time   the object that moves, and how  which frame belongs to which segment
    conjunction_in_place  the object that moves, and how  which patch belongs to which cell
"""

import abc
import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from gasmcast.core.config import require

MIRRORED, REVERSED = "mirrored", "reversed in time"


class Scene(NamedTuple):
  """What a clip looks like, before features are made of it.

  Attributes:
    semantic: code of each patch, 0 for none, [T, N].
    motion: code of each segment, M = 1, or of each of its cells, [T, M]; 0 for nothing.
    label: class.
  """

  semantic: Int[np.ndarray, "T N"]
  motion: Int[np.ndarray, "T M"]
  label: int


class Ceiling(NamedTuple):
  """The accuracy of the best rule that sees no more than a view, and why no rule does better."""

  accuracy: Fraction
  reason: str


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
  """The base of all tasks: objects that do something.

  Attributes:
    objects: how many there are to choose from.
    time: T, frames and segments.
    grid: rows and columns of patches, and of cells.
  """

  objects: int = 8
  time: int = 8
  grid: tuple[int, ...] = (4, 4)

  def __post_init__(self):
    require(self.objects >= 2, f"objects = {self.objects}: to tell them apart takes at least 2.")
    require(
      self.time >= 4 and self.time % 2 == 0, f"time = {self.time}: it has two halves; use an even number of at least 4."
    )
    require(
      len(self.grid) == 2 and min(self.grid) >= 1 and self.patches >= 2,
      f"grid = {self.grid}: give rows and columns, of 2 patches or more.",
    )

  @property
  def patches(self) -> int:
    return self.grid[0] * self.grid[1]

  @property
  def cells(self) -> int:
    """M, of a segment."""
    return 1

  @property
  @abc.abstractmethod
  def manners(self) -> tuple[str, ...]:
    """What an object can do, in words."""

  @property
  @abc.abstractmethod
  def motion_codes(self) -> int:
    """How many codes of motion there are beside 0; of objects there are as many as objects."""

  @abc.abstractmethod
  def choices(self) -> dict[str, tuple[Any, ...]]:
    """Name -> values of each part of a clip, all equally likely."""

  @abc.abstractmethod
  def scene(self, **chosen: Any) -> Scene:
    """The clip of these parts."""

  @abc.abstractmethod
  def ceilings(self) -> dict[str, Ceiling]:
    """By view; one that is not named here shows enough for every clip."""

  def pairs(self) -> Mapping[str, tuple[tuple[int, int], ...]]:
    """Kind -> pairs of classes that differ in one direction alone."""
    return {}

  @property
  def classes(self) -> tuple[str, ...]:
    """Each object with each manner."""
    return tuple(f"object {i} {manner}" for i in range(self.objects) for manner in self.manners)

  def draw(self, rng: np.random.Generator) -> Scene:
    """A random clip."""
    return self.scene(**{name: values[rng.integers(len(values))] for name, values in self.choices().items()})

  def label(self, thing: int, manner: int) -> int:
    return thing * len(self.manners) + manner

  def pairs_of_manners(self, *manners: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Pairs of classes: of each object, these of its manners."""
    return tuple((self.label(i, a), self.label(i, b)) for i in range(self.objects) for a, b in manners)


@dataclasses.dataclass(frozen=True)
class ObjectTrajectory(Task):
  """One object rests on a patch; the segments go through two phases, which the trajectory names.

  Attributes:
    pairs_of_trajectories: P. Trajectory 2p has phase a_p and then b_p, trajectory 2p + 1 the same backwards. The change
      comes at the middle or one segment before or after it.
  """

  pairs_of_trajectories: int = 4

  def __post_init__(self):
    super().__post_init__()
    require(self.pairs_of_trajectories >= 1, f"pairs_of_trajectories = {self.pairs_of_trajectories}: use 1 or more.")

  @property
  def manners(self) -> tuple[str, ...]:
    return tuple(f"trajectory {p} {way}" for p in range(self.pairs_of_trajectories) for way in ("forth", "back"))

  @property
  def motion_codes(self) -> int:
    return 2 * self.pairs_of_trajectories

  def choices(self) -> dict[str, tuple[Any, ...]]:
    middle = self.time // 2
    return {
      "thing": tuple(range(self.objects)),
      "patch": tuple(range(self.patches)),
      "trajectory": tuple(range(2 * self.pairs_of_trajectories)),
      "change": (middle - 1, middle, middle + 1),
    }

  def scene(self, thing: int, patch: int, trajectory: int, change: int) -> Scene:
    semantic = np.zeros((self.time, self.patches), np.int8)
    semantic[:, patch] = thing + 1
    pair, back = divmod(trajectory, 2)
    phases = np.where(np.arange(self.time) < change, 2 * pair + 1, 2 * pair + 2).astype(np.int8)
    return Scene(semantic, (phases[::-1] if back else phases)[:, None], self.label(thing, trajectory))

  def pairs(self) -> Mapping[str, tuple[tuple[int, int], ...]]:
    return {REVERSED: self.pairs_of_manners(*((2 * p, 2 * p + 1) for p in range(self.pairs_of_trajectories)))}

  def ceilings(self) -> dict[str, Ceiling]:
    trajectories, two = 2 * self.pairs_of_trajectories, Fraction(1, 2)
    alike = "a trajectory and its reversal have the same phases equally often, which leaves the two"
    return {
      "semantic": Ceiling(Fraction(1, trajectories), f"the object is known, the {trajectories} trajectories are not"),
      "motion": Ceiling(Fraction(1, self.objects), f"the trajectory is known, the {self.objects} objects are not"),
      "means": Ceiling(two, alike),
      "unsigned time": Ceiling(two, "a trajectory and its reversal are one to it, which leaves the two"),
      "unsigned": Ceiling(two, "a trajectory and its reversal are one to it, which leaves the two"),
    }


@dataclasses.dataclass(frozen=True)
class Directions(Task):
  """One object rests on a patch; motion passes through three cells of a diagonal, anywhere on the grid."""

  _STEPS = ((-1, 1), (-1, -1), (1, 1), (1, -1))  # rows, columns of the four manners

  def __post_init__(self):
    super().__post_init__()
    require(min(self.grid) >= 3, f"grid = {self.grid}: a diagonal of three cells needs 3 rows and 3 columns.")

  @property
  def cells(self) -> int:
    return self.patches

  @property
  def manners(self) -> tuple[str, ...]:
    return ("to the north-east", "to the north-west", "to the south-east", "to the south-west")

  @property
  def motion_codes(self) -> int:
    return 1

  def choices(self) -> dict[str, tuple[Any, ...]]:
    return {
      "thing": tuple(range(self.objects)),
      "patch": tuple(range(self.patches)),
      "direction": tuple(range(4)),
      "row": tuple(range(self.grid[0] - 2)),
      "column": tuple(range(self.grid[1] - 2)),
    }

  def scene(self, thing: int, patch: int, direction: int, row: int, column: int) -> Scene:
    """`row` and `column` are of the corner of the square of 3 x 3 cells whose diagonal is passed through."""
    semantic = np.zeros((self.time, self.patches), np.int8)
    semantic[:, patch] = thing + 1
    down, right = self._STEPS[direction]
    along = np.arange(self.time) * 3 // self.time  # 0, 1, 2
    rows = row + (along if down > 0 else 2 - along)
    columns = column + (along if right > 0 else 2 - along)
    motion = np.zeros((self.time, self.cells), np.int8)
    motion[np.arange(self.time), rows * self.grid[1] + columns] = 1
    return Scene(semantic, motion, self.label(thing, direction))

  def pairs(self) -> Mapping[str, tuple[tuple[int, int], ...]]:
    return {MIRRORED: self.pairs_of_manners((0, 1), (2, 3)), REVERSED: self.pairs_of_manners((0, 3), (1, 2))}

  def ceilings(self) -> dict[str, Ceiling]:
    quarter = Fraction(1, 4)
    one = "one cell moves in every segment whatever the direction, which leaves all four"
    return {
      "semantic": Ceiling(quarter, "the object is known, the 4 directions are not"),
      "motion": Ceiling(Fraction(1, self.objects), f"the direction is known, the {self.objects} objects are not"),
      "means": Ceiling(quarter, one),
      "frames": Ceiling(quarter, one),
      "unsigned time": Ceiling(Fraction(1, 2), "a direction and its reversal are one to it, which leaves the two"),
      "unsigned space": Ceiling(
        quarter, "a direction and what a flip makes of it are one to it, which leaves all four"
      ),
      "unsigned": Ceiling(quarter, "what reversal and flips make of a direction is one to it, which leaves all four"),
    }
