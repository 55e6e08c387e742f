"""Tasks of two objects of which one moves: neither stream says which one, both together do."""

import dataclasses
import itertools
from fractions import Fraction
from typing import Any

import numpy as np

from gasmcast.core.config import require
from gasmcast.datasets.generated.feature_tasks import Ceiling, Scene, Task


@dataclasses.dataclass(frozen=True)
class _Conjunction(Task):
  """The label is the object that moves, and the kind of its motion.

  Attributes:
    kinds: of motion.
  """

  kinds: int = 2

  def __post_init__(self):
    super().__post_init__()
    require(self.kinds >= 1, f"kinds = {self.kinds}: use 1 or more.")

  @property
  def manners(self) -> tuple[str, ...]:
    return tuple(f"moves in way {kind}" for kind in range(self.kinds))

  def _shared_choices(self) -> dict[str, tuple[Any, ...]]:
    """Two different objects, which of them moves, and how."""
    objects = tuple(itertools.permutations(range(self.objects), 2))
    return {"objects": objects, "mover": (0, 1), "kind": tuple(range(self.kinds))}

  def _shared_ceilings(self) -> dict[str, Ceiling]:
    either = f"one of the two objects, one of {self.kinds} kinds"
    return {
      "semantic": Ceiling(Fraction(1, 2 * self.kinds), either),
      "motion": Ceiling(Fraction(1, self.objects), f"the kind is known, the {self.objects} objects are not"),
      "means": Ceiling(Fraction(1, 2), "the two objects and the kind are known, and not which of the two it is"),
    }


@dataclasses.dataclass(frozen=True)
class ConjunctionInTime(_Conjunction):
  """One object is there in half of the frames, the other in the rest; segments move while the one is there.

  A segment without motion has code 1, one of kind k code k + 2.
  """

  @property
  def motion_codes(self) -> int:
    return self.kinds + 1

  def choices(self) -> dict[str, tuple[Any, ...]]:
    patches = tuple(range(self.patches))
    halves = tuple(itertools.combinations(range(self.time), self.time // 2))
    return self._shared_choices() | {"frames": halves, "first_patch": patches, "second_patch": patches}

  def scene(
    self, objects: tuple[int, int], mover: int, kind: int, frames: tuple[int, ...], first_patch: int, second_patch: int
  ) -> Scene:
    """`frames` are those of the first object."""
    first = np.isin(np.arange(self.time), frames)
    semantic = np.zeros((self.time, self.patches), np.int8)
    semantic[first, first_patch] = objects[0] + 1
    semantic[~first, second_patch] = objects[1] + 1
    motion = np.where(first == (mover == 0), kind + 2, 1).astype(np.int8)
    return Scene(semantic, motion[:, None], self.label(objects[mover], kind))

  def ceilings(self) -> dict[str, Ceiling]:
    return self._shared_ceilings()


@dataclasses.dataclass(frozen=True)
class ConjunctionInPlace(_Conjunction):
  """Two objects rest on two patches; a cell moves where the one of them is."""

  @property
  def cells(self) -> int:
    return self.patches

  @property
  def motion_codes(self) -> int:
    return self.kinds

  def choices(self) -> dict[str, tuple[Any, ...]]:
    return self._shared_choices() | {"places": tuple(itertools.permutations(range(self.patches), 2))}

  def scene(self, objects: tuple[int, int], mover: int, kind: int, places: tuple[int, int]) -> Scene:
    semantic = np.zeros((self.time, self.patches), np.int8)
    semantic[:, places[0]], semantic[:, places[1]] = objects[0] + 1, objects[1] + 1
    motion = np.zeros((self.time, self.cells), np.int8)
    motion[:, places[mover]] = kind + 1
    return Scene(semantic, motion, self.label(objects[mover], kind))

  def ceilings(self) -> dict[str, Ceiling]:
    shared = self._shared_ceilings()
    return shared | {"frames": shared["means"]}
