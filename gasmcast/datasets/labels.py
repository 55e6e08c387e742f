"""What the names of the classes say about mirroring: the class that an action has when its video is flipped."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from gasmcast.core.errors import ConfigError

# "clockwise" has several opposites; data sets use one spelling, so each is tried on its own.
_OPPOSITES_OF_CLOCKWISE = ("counterclockwise", "counter-clockwise", "anticlockwise", "anti-clockwise")
_SIDES = {"left": "right", "leftward": "rightward", "leftwards": "rightwards"}
_TABLES = tuple(
  {word: other for pair in (*_SIDES.items(), ("clockwise", opposite)) for word, other in (pair, pair[::-1])}
  for opposite in _OPPOSITES_OF_CLOCKWISE
)
# Longer words first: "counter-clockwise" must not be read as "clockwise" after a hyphen.
_WORDS = sorted({word for table in _TABLES for word in table}, key=len, reverse=True)
_DIRECTION = re.compile(rf"\b({'|'.join(_WORDS)})\b")
# "pulling it right out as you remove your hand": at once, not to the right.
_AT_ONCE = re.compile(r"\bright (out|away)\b")


def flip_map(class_names: Sequence[str]) -> Int[np.ndarray, "classes"]:
  """The class of the mirrored video, by class: exchanges left and right, clockwise and counterclockwise.

  Only whole words count ("leftover" has no direction); the words of one name are exchanged together ("from left to
  right" becomes "from right to left"). A name without such a word, or with "right out" and "right away" as its only
  ones and no mirror image among the classes, keeps its class. The map is its own inverse. Case does not matter.

  Raises:
    ConfigError: a name has a direction but its mirror image is no class, so that a flipped video would have no label.
  """
  names = [name.lower() for name in class_names]
  positions = {name: index for index, name in enumerate(names)}
  mirrored = np.array([_mirror_class(name, index, positions) for index, name in enumerate(names)], np.int64)
  for index, other in enumerate(mirrored.tolist()):
    if mirrored[other] != index:
      raise ConfigError(
        f"the class {class_names[index]!r} mirrors to {class_names[other]!r}, which mirrors to "
        f"{class_names[mirrored[other]]!r}; turn the horizontal flip off (flip = 0)."
      )
  return mirrored


def mirrored_pairs(class_names: Sequence[str]) -> tuple[tuple[int, int], ...]:
  """Pairs of classes that are each other's mirror image by their names, the lower index first.

  As `flip_map`, but a direction without a mirror image is no error and stands in no pair.
  """
  names = [name.lower() for name in class_names]
  positions = {name: index for index, name in enumerate(names)}
  images = ((index, positions.get(image, index)) for index, name in enumerate(names) for image in _mirror_names(name))
  return tuple(sorted({(min(pair), max(pair)) for pair in images if pair[0] != pair[1]}))


def _mirror_names(name: str) -> list[str]:
  """How the mirror image of a class may be called, in lower case; none for a name without direction."""
  words = _DIRECTION.findall(name)
  tables = [table for table in _TABLES if all(word in table for word in words)]
  return [_DIRECTION.sub(lambda word, table=table: table[word[0]], name) for table in tables] if words else []


def _mirror_class(name: str, index: int, positions: Mapping[str, int]) -> int:
  images = _mirror_names(name)
  for image in images:
    if image in positions:
      return positions[image]
  if _DIRECTION.search(_AT_ONCE.sub("", name)):
    raise ConfigError(
      f"the class {name!r} has a direction but no class is its mirror image{f' ({images[0]!r})' if images else ''}; "
      "turn the horizontal flip off (flip = 0)."
    )
  return index
