"""Twelve more motion templates, in pairs whose classes differ in one thing alone.

    pairs                       the second is the first   ...and played backwards each gives
    MIRRORED_ONLY               seen in a mirror          no class at all
    REVERSED_ONLY               played backwards          the other
    ORDER_OF_EVENTS             with its halves swapped   itself
    NEARER_OR_FARTHER           with the layers swapped   itself

The classes of the last three kinds are their own mirror images: every direction that such a class leaves open is drawn
as often to the left as to the right.
"""

import dataclasses

import numpy as np

from gasmcast.datasets.generated.motions import Motion, Pose, mirrored

MIRRORED_ONLY = (
  ("Moving [something] to the left of [something]", "Moving [something] to the right of [something]"),
  ("Tipping [something] over to the left", "Tipping [something] over to the right"),
)
REVERSED_ONLY = (
  ("Putting [something] onto [something]", "Taking [something] off [something]"),
  ("Pushing [something] with [something]", "Pulling [something] with [something]"),
)
ORDER_OF_EVENTS = (("Lifting [something] up, then lowering it back", "Lowering [something], then lifting it back"),)
NEARER_OR_FARTHER = (("Moving [something] behind [something]", "Moving [something] in front of [something]"),)
PAIRS = (*MIRRORED_ONLY, *REVERSED_ONLY, *ORDER_OF_EVENTS, *NEARER_OR_FARTHER)
TEMPLATES = tuple(template for pair in PAIRS for template in pair)

_REACH = 0.97 / 2  # from the centre of a sprite to its end, in diameters
_FLATNESS = 1.75  # length of a sprite over its thickness, on average


def motion(template: str, rng: np.random.Generator) -> Motion:
  """A random instance of the template. Poses stand in the order of the template's placeholders."""
  return _MOTIONS[template](rng)


def _mirror(forward: Motion) -> Motion:
  return lambda p: tuple(mirrored(pose) for pose in forward(p))


def _reverse(forward: Motion) -> Motion:
  return lambda p: forward(1.0 - p)


def _side(rng: np.random.Generator) -> int:
  return 1 if rng.random() < 0.5 else -1


def _lying(rng: np.random.Generator) -> float:
  """Angle of an object that lies flat, its bright end to either side."""
  return np.pi * rng.integers(2) + rng.uniform(-0.1, 0.1)


def _to_the_right_of(rng: np.random.Generator) -> Motion:
  """From above or below the second object, which rests, in a quarter of a turn to its right-hand side."""
  moved, rests = rng.uniform(0.22, 0.28, 2)
  start = _side(rng)  # 1: from below
  x, y = rng.uniform(-0.1, 0.1), -start * rng.uniform(0.1, 0.18)
  across, down = (moved + rests) * _REACH + rng.uniform(0.01, 0.05), start * rng.uniform(0.42, 0.48)
  lean, turn = rng.uniform(-0.06, 0.06), rng.uniform(-0.2, 0.2)
  angle, rests_angle = rng.uniform(0, 2 * np.pi, 2)

  def poses(p: float) -> tuple[Pose, Pose]:
    sine, cosine = np.sin(np.pi / 2 * p), np.cos(np.pi / 2 * p)
    return (
      Pose(x + lean * (1 - sine) + across * sine, y + down * cosine, moved, angle + turn * p),
      Pose(x, y, rests, rests_angle),
    )

  return poses


def _tipping_to_the_right(rng: np.random.Generator) -> Motion:
  """One object stands for a while and falls on its side, faster and faster, about its lower end."""
  x, floor = rng.uniform(-0.06, 0.06), rng.uniform(0.18, 0.26)
  scale = rng.uniform(0.44, 0.54)
  length, thickness = scale * _REACH, scale * _REACH / _FLATNESS
  stands, lies = rng.uniform(0.2, 0.35), rng.uniform(0.85, 0.95)
  upright = -np.pi / 2 + np.pi * rng.integers(2) + rng.uniform(-0.08, 0.08)

  def poses(p: float) -> tuple[Pose]:
    lean = np.pi / 2 * np.clip((p - stands) / (lies - stands), 0, 1) ** 2
    centre = floor - length * np.cos(lean) - thickness * np.sin(lean)
    return (Pose(x + length * np.sin(lean), centre, scale, upright + lean),)

  return poses


def _onto(rng: np.random.Generator) -> Motion:
  """The first object comes from the upper left or right and is set down on top of the second, which lies there."""
  moved, rests = rng.uniform(0.2, 0.26), rng.uniform(0.38, 0.46)
  x, y = rng.uniform(-0.1, 0.1), rng.uniform(0.2, 0.28)
  place, height = x + rng.uniform(-0.06, 0.06), (moved + rests) * _REACH / _FLATNESS * 0.95
  across, up = _side(rng) * rng.uniform(0.22, 0.32), rng.uniform(0.34, 0.4)
  angle, rests_angle = _lying(rng), _lying(rng)

  def poses(p: float) -> tuple[Pose, Pose]:
    right, lifted = across * (1 - np.sin(np.pi / 2 * p)), up * np.cos(np.pi / 2 * p)
    return Pose(place + right, y - height - lifted, moved, angle), Pose(x, y, rests, rests_angle)

  return poses


def _pushing(rng: np.random.Generator) -> Motion:
  """The second object comes up to the first, which rests, and takes it along in any direction."""
  pushed, pusher = rng.uniform(0.2, 0.25, 2)
  touching = (pushed + pusher) * _REACH * 0.9
  gap, push = rng.uniform(0.18, 0.24), rng.uniform(0.3, 0.36)
  heading, aside = rng.uniform(0, 2 * np.pi), rng.uniform(-0.1, 0.1)
  ahead = np.array([np.cos(heading), np.sin(heading)])
  start = np.array([-ahead[1], ahead[0]]) * aside - ahead * (gap + push + touching) / 2
  angles = heading + np.pi * rng.integers(0, 2, 2) + rng.uniform(-0.15, 0.15, 2)

  def poses(p: float) -> tuple[Pose, Pose]:
    gone = (gap + push) * p
    first, second = start + ahead * (max(gone, gap) + touching), start + ahead * gone
    return Pose(*first, pushed, angles[0]), Pose(*second, pusher, angles[1])

  return poses


def _lifting_and_lowering(rng: np.random.Generator) -> Motion:
  """One object goes up, stays a moment and comes back down to where it was.

  On average it is seen as long up there as down here, where the clip begins and ends at rest (rendering.py), so that
  frames without their order don't tell the pair apart.
  """
  x, y = rng.uniform(-0.2, 0.2), rng.uniform(-0.08, 0.08)
  height, dx, turn = rng.uniform(0.38, 0.5), rng.uniform(-0.06, 0.06), rng.uniform(-0.2, 0.2)
  scale, growth, angle = rng.uniform(0.24, 0.36), rng.uniform(-0.08, 0.08), rng.uniform(0, 2 * np.pi)
  top, stays = rng.uniform(0.45, 0.55), rng.uniform(0.02, 0.28, 2)

  def poses(p: float) -> tuple[Pose]:
    done = np.clip(min(p / (top - stays[0]), (1 - p) / (1 - top - stays[1])), 0, 1)
    up = height * ((3 - 2 * done) * done**2 - 0.5)
    return (Pose(x + dx * (p - 0.5), y - up, scale * np.exp(growth * (p - 0.5)), angle + turn * (p - 0.5)),)

  return poses


def _upside_down(forward: Motion) -> Motion:
  return lambda p: tuple(dataclasses.replace(pose, y=-pose.y) for pose in forward(p))


def _passing(layer: int, rng: np.random.Generator) -> Motion:
  """The first object crosses the place of the second, which rests, from any side to the opposite one."""
  moved, rests = rng.uniform(0.2, 0.24), rng.uniform(0.36, 0.42)
  x, y = rng.uniform(-0.03, 0.03, 2)
  heading, aside = rng.uniform(0, 2 * np.pi), rng.uniform(-0.04, 0.04, 2)
  ahead = np.array([np.cos(heading), np.sin(heading)])
  begin, end = np.array([x, y]) - ahead * rng.uniform(0.34, 0.38), np.array([x, y]) + ahead * rng.uniform(0.34, 0.38)
  begin, end = (point + np.array([-ahead[1], ahead[0]]) * off for point, off in zip((begin, end), aside, strict=True))
  angle, rests_angle = rng.uniform(0, 2 * np.pi, 2)
  turn = rng.uniform(-0.2, 0.2)
  return lambda p: (
    Pose(*(begin + (end - begin) * p), moved, angle + turn * (p - 0.5), layer),
    Pose(x, y, rests, rests_angle),
  )


_MOTIONS = dict(
  zip(
    TEMPLATES,
    (
      *(lambda rng: _mirror(_to_the_right_of(rng)), _to_the_right_of),
      *(lambda rng: _mirror(_tipping_to_the_right(rng)), _tipping_to_the_right),
      *(_onto, lambda rng: _reverse(_onto(rng))),
      *(_pushing, lambda rng: _reverse(_pushing(rng))),
      *(_lifting_and_lowering, lambda rng: _upside_down(_lifting_and_lowering(rng))),
      *(lambda rng: _passing(-1, rng), lambda rng: _passing(1, rng)),
    ),
    strict=True,
  )
)
