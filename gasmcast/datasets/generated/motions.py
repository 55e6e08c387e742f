"""The twelve motion templates of the rendered videos: what each object does from the first to the last moment.

A motion is a function of the phase p in [0, 1] that gives every object's pose. The templates come in pairs: the second
of a pair is the first played backwards (for the horizontal ones also its mirror image), so no single frame and no
unordered set of frames tells them apart.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

PAIRS = (
  ("Moving [something] from left to right", "Moving [something] from right to left"),
  ("Moving [something] down", "Moving [something] up"),
  ("Moving [something] towards the camera", "Moving [something] away from the camera"),
  ("Turning [something] clockwise", "Turning [something] counterclockwise"),
  ("Covering [something] with [something]", "Uncovering [something] by removing [something]"),
  (
    "Moving [something] and [something] closer to each other",
    "Moving [something] and [something] away from each other",
  ),
)
MIRRORED = (PAIRS[0], PAIRS[3])  # also each other's mirror image
TEMPLATES = tuple(template for pair in PAIRS for template in pair)


@dataclasses.dataclass(frozen=True)
class Pose:
  """Where an object is drawn. Lengths are in units of the image height, the origin is the image centre.

  Attributes:
    x, y: centre, to the right and downwards.
    scale: largest diameter.
    angle: in radians, clockwise on the screen.
    layer: of two objects that overlap, the one of the higher layer is on top, and the later one where layers are equal.
  """

  x: float
  y: float
  scale: float
  angle: float
  layer: int = 0


Motion = Callable[[float], tuple[Pose, ...]]  # of several objects, over the phase
Path = Callable[[float], Pose]  # of one


def mirrored(pose: Pose) -> Pose:
  """The pose in the mirrored image; the sprite is to be turned over along its length."""
  return dataclasses.replace(pose, x=-pose.x, angle=np.pi - pose.angle)


def objects_needed(template: str) -> int:
  """How many objects take part: the number of placeholders."""
  return template.count("[something]")


def motion(template: str, rng: np.random.Generator) -> Motion:
  """A random instance of the template. Poses stand in the order of the template's placeholders."""
  pair = next(pair for pair in PAIRS if template in pair)
  forward = _FORWARD[PAIRS.index(pair)](rng)
  if template == pair[0]:
    return forward
  return lambda phase: forward(1.0 - phase)


def _straight(rng: np.random.Generator, direction: np.ndarray) -> Motion:
  """One object along `direction` over 0.5 to 0.7 image heights, drifting a little across and turning a little."""
  across = np.array([-direction[1], direction[0]])
  length = rng.uniform(0.5, 0.7)
  start = -direction * length / 2 + across * rng.uniform(-0.2, 0.2) + direction * rng.uniform(-0.05, 0.05)
  step = direction * length + across * rng.uniform(-0.1, 0.1)
  scale, growth = rng.uniform(0.24, 0.38), rng.uniform(0.92, 1.08)
  angle, turn = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.2)
  return lambda p: (Pose(*(start + step * p), scale * growth**p, angle + turn * p),)


def _rightwards(rng: np.random.Generator) -> Motion:
  return _straight(rng, np.array([1.0, 0.0]))


def _downwards(rng: np.random.Generator) -> Motion:
  return _straight(rng, np.array([0.0, 1.0]))


def _towards_camera(rng: np.random.Generator) -> Motion:
  x, y = rng.uniform(-0.12, 0.12, 2)
  dx, dy = rng.uniform(-0.06, 0.06, 2)
  scale, growth = rng.uniform(0.2, 0.27), rng.uniform(2.1, 2.8)
  angle, turn = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.2)
  return lambda p: (Pose(x + dx * p, y + dy * p, scale * growth**p, angle + turn * p),)


def _clockwise(rng: np.random.Generator) -> Motion:
  """One object leans to the left and ends leaning to the right, through about upright."""
  x, y = rng.uniform(-0.12, 0.12, 2)
  dx, dy = rng.uniform(-0.06, 0.06, 2)
  scale, growth = rng.uniform(0.55, 0.75), rng.uniform(0.92, 1.08)
  turn = rng.uniform(0.6, 0.9) * np.pi
  angle = -np.pi / 2 - turn / 2 + rng.uniform(-0.3, 0.3)
  return lambda p: (Pose(x + dx * p, y + dy * p, scale * growth**p, angle + turn * p),)


def _covering(rng: np.random.Generator) -> Motion:
  """The second object slides in from any side and ends on top of the first, which stays where it is."""
  x, y = rng.uniform(-0.1, 0.1, 2)
  scale = rng.uniform(0.22, 0.28)
  cover = scale * rng.uniform(2.0, 2.3)
  angle, cover_angle = rng.uniform(0, 2 * np.pi, 2)
  heading = rng.uniform(0, 2 * np.pi)
  away = np.array([np.cos(heading), np.sin(heading)]) * rng.uniform(0.5, 0.65)
  return lambda p: (
    Pose(x, y, scale, angle),
    Pose(x + away[0] * (1 - p), y + away[1] * (1 - p), cover, cover_angle),
  )


def _closer(rng: np.random.Generator) -> Motion:
  """Two objects meet half way without overlapping much."""
  x, y = rng.uniform(-0.06, 0.06, 2)
  scales = rng.uniform(0.22, 0.3, 2)
  angles = rng.uniform(0, 2 * np.pi, 2)
  heading = rng.uniform(0, 2 * np.pi)
  axis = np.array([np.cos(heading), np.sin(heading)])
  far, near = rng.uniform(0.36, 0.42), scales.sum() / 4 * rng.uniform(0.8, 1.0)

  def poses(p: float) -> tuple[Pose, ...]:
    reach = far + (near - far) * p
    return (
      Pose(x - axis[0] * reach, y - axis[1] * reach, scales[0], angles[0]),
      Pose(x + axis[0] * reach, y + axis[1] * reach, scales[1], angles[1]),
    )

  return poses


_FORWARD = (_rightwards, _downwards, _towards_camera, _clockwise, _covering, _closer)
