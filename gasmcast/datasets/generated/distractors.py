"""Objects that take no part in what happens: they lie about, at rest or drifting slowly, where no actor ever comes.

So that none of them can be taken for an actor, a distractor
- is smaller than any actor: 0.14 to 0.2 image heights, where the smallest actor has 0.2;
- drifts by at most 0.05 image heights and turns by at most 0.1 radians over the whole clip, where the shortest motion
  that a class is told by goes 0.3;
- keeps its circle, wherever it drifts, 0.08 image heights away from every circle that an actor sweeps, and 0.02 from
  those of the other distractors. A class in which objects meet has them touch.

What finds no such place is left out.
"""

import numpy as np

from gasmcast.datasets.generated.motions import Motion, Path, Pose

MOST = 5  # there was room for so many around each of 3,600 random motions, in an image as wide as high
SIZES = (0.14, 0.2)
DRIFT, TURN = 0.05, 0.1
FROM_ACTORS, FROM_OTHERS = 0.08, 0.02
_TRIES = 500
_MOMENTS = np.linspace(0, 1, 33)  # at which the actors' places are looked at


def place(number: int, actors: Motion, aspect: float, rng: np.random.Generator) -> tuple[Path, ...]:
  """Up to `number` distractors for these actors: the path of each over the time of the clip, 0 to 1.

  Args:
    number: how many to find a place for.
    actors: what the others do.
    aspect: width of the image over its height; every distractor has its centre in the image.
    rng: of everything.
  """
  if number == 0:
    return ()
  taken = [_circle(pose, FROM_ACTORS) for phase in _MOMENTS for pose in actors(phase)]
  found = []
  for _ in range(number):
    scale, angle = rng.uniform(*SIZES), rng.uniform(0, 2 * np.pi)
    far, heading = rng.choice([0.0, DRIFT]) * rng.uniform(0.5, 1), rng.uniform(0, 2 * np.pi)
    drift, turn = far * np.array([np.cos(heading), np.sin(heading)]), rng.uniform(-TURN, TURN)
    places = rng.uniform(-0.5, 0.5, (_TRIES, 2)) * (aspect, 1.0)
    free = places[_clearance(places, taken) > scale / 2 + far / 2]
    if len(free):
      found.append(_drifting(free[0], drift, scale, angle, turn))
      taken.append((*free[0], scale / 2 + far / 2 + FROM_OTHERS))
  return tuple(found)


def _drifting(middle: np.ndarray, drift: np.ndarray, scale: float, angle: float, turn: float) -> Path:
  return lambda time: Pose(*(middle + drift * (time - 0.5)), scale, angle + turn * (time - 0.5))


def _circle(pose: Pose, margin: float) -> tuple[float, float, float]:
  """Centre and radius of what the pose may cover, with a margin."""
  return pose.x, pose.y, pose.scale / 2 + margin


def _clearance(places: np.ndarray, circles: list[tuple[float, float, float]]) -> np.ndarray:
  """How far each place [P, 2] is from the nearest circle: [P], negative inside."""
  x, y, radius = np.array(circles).T
  return (np.hypot(places[:, :1] - x, places[:, 1:] - y) - radius).min(-1)
