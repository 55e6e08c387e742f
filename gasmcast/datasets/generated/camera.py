"""Where the camera looks: a small wander in every clip, and a pan and zoom over the whole clip where a recipe asks.

A pan or zoom moves the whole image, actors, distractors and background alike, so a class stays what it is: the motion
of its objects relative to the scene. How the camera moves is drawn without knowing the class.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

MAX_PAN = 0.25  # image heights: the shortest way of an object that tells a class is 0.3 (one that is pushed)
MAX_ZOOM = 0.25  # what comes towards the camera or goes away changes its size by a factor of at least 2.1
_JITTER = 0.012  # standard deviation of the wander, in image heights


@dataclasses.dataclass(frozen=True)
class View:
  """What the camera makes of a point of the scene: zoom * point + (x, y), in image heights from the image centre."""

  x: float
  y: float
  zoom: float


Camera = Callable[[float], View]  # of the time, 0 at the first frame and 1 at the last


def still(time: float) -> View:
  """No pan, no zoom."""
  return View(0.0, 0.0, 1.0)


def moving(pan: float, zoom: float, rng: np.random.Generator) -> Camera:
  """A smooth pan and zoom over the whole clip; in the middle of its way the camera looks where it would without.

  Args:
    pan: how far the image moves in all, in image heights; in any direction.
    zoom: by what share the scene is larger at one end of the clip than at the other; which end is tossed.
    rng: of the direction, of the end, and of how softly the camera starts and stops.
  """
  direction, growth = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1]) * np.log1p(zoom)
  ease = rng.uniform(0, 1)

  def view(time: float) -> View:
    way = (1 - ease) * time + ease * (3 - 2 * time) * time**2 - 0.5
    return View(pan * np.cos(direction) * way, pan * np.sin(direction) * way, np.exp(growth * way))

  return view


def jitter(frames: int, rng: np.random.Generator) -> np.ndarray:
  """A smooth wander [T, 2] around its own mean, in image heights."""
  path = np.cumsum(rng.normal(0, 1, (frames, 2)), 0)
  path = cv2.GaussianBlur(path, (1, 5), 0) if frames >= 5 else path
  path -= path.mean(0)
  return path / (path.std() + 1e-6) * _JITTER
