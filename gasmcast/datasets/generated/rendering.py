"""From poses to frames: background, distractors, actors, camera and sensor noise."""

import dataclasses

import cv2
import numpy as np

from gasmcast.datasets.generated.backgrounds import Background, clouds
from gasmcast.datasets.generated.camera import Camera, View, jitter, still
from gasmcast.datasets.generated.motions import Motion, Path, Pose
from gasmcast.datasets.generated.objects import SPRITE

_NOISE = 2.0  # standard deviation of the sensor noise, in grey levels
_MARGIN = 0.1  # background around the image, in image heights, for the camera to wander over


@dataclasses.dataclass(frozen=True)
class Surroundings:
  """What there is besides the actors.

  Attributes:
    background: draws what lies behind everything.
    distractors: objects that take no part: the pose of each over the time (0 at the first frame, 1 at the last), and
      its sprite.
    camera: how it moves, apart from its wander.
  """

  background: Background = clouds
  distractors: tuple[tuple[Path, np.ndarray], ...] = ()
  camera: Camera = still


_PLAIN = Surroundings()


def render(
  motion: Motion,
  sprites: tuple[np.ndarray, ...],
  frames: int,
  height: int,
  width: int,
  rng: np.random.Generator,
  surroundings: Surroundings = _PLAIN,
) -> np.ndarray:
  """A clip of the motion, uint8 [T, height, width, 3] in RGB order; `sprites` in the order of the poses."""
  times = np.arange(frames) / (frames - 1)
  views, wander = [surroundings.camera(time) for time in times], int(_MARGIN * height)
  margin = wander + _overhang(views, height, width)
  scene = surroundings.background(height + 2 * margin, width + 2 * margin, rng)
  phases, path = _phases(frames, rng), jitter(frames, rng) * height
  noise = rng.normal(0, _NOISE, (height + 32, width + 32, 3)).astype(np.float32)
  clip = np.empty((frames, height, width, 3), np.uint8)
  for t in range(frames):
    shift = np.clip(path[t], 1 - wander, wander - 1) + np.array([views[t].x, views[t].y]) * height
    image = _look(scene, height, width, shift, views[t].zoom)
    others = [(pose(times[t]), sprite) for pose, sprite in surroundings.distractors]
    actors = sorted(zip(motion(phases[t]), sprites, strict=True), key=lambda actor: actor[0].layer)
    for pose, sprite in (*others, *actors):
      _paste(image, sprite, pose, shift, views[t].zoom)
    row, column = rng.integers(0, 32, 2)
    image += noise[row : row + height, column : column + width]
    clip[t] = np.clip(image + 0.5, 0, 255)
  return clip


def _phases(frames: int, rng: np.random.Generator) -> np.ndarray:
  """Phase of each frame [T]: rest, smooth start, smooth stop, rest."""
  begin, end = rng.uniform(0, 0.12), 1 - rng.uniform(0, 0.12)
  linear = np.clip((np.arange(frames) / (frames - 1) - begin) / (end - begin), 0, 1)
  ease = rng.uniform(0, 0.6)
  return (1 - ease) * linear + ease * (3 - 2 * linear) * linear**2


def _overhang(views: list[View], height: int, width: int) -> int:
  """How many pixels of background the views need around the image, besides those for the wander."""
  far = max(max(abs(view.x), abs(view.y)) for view in views) * height
  out = min(view.zoom for view in views)
  side = max(height, width) / 2 + _MARGIN * height
  return int(np.ceil((side + far) / min(out, 1.0) - side))


def _look(scene: np.ndarray, height: int, width: int, shift: np.ndarray, zoom: float) -> np.ndarray:
  """The part of the scene that the camera sees, float32 [height, width, 3]; `shift` in pixels."""
  middle = np.array([scene.shape[1], scene.shape[0]]) / 2
  margin = middle - (width / 2, height / 2)
  x, y = shift - margin + (1 - zoom) * middle
  view = np.float32([[zoom, 0, x], [0, zoom, y]])
  return cv2.warpAffine(scene, view, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _paste(image: np.ndarray, sprite: np.ndarray, pose: Pose, shift: np.ndarray, zoom: float) -> None:
  """Draws the sprite into the float image, in place, over what is already there."""
  height, width = image.shape[:2]
  unit = height * zoom  # an image height of the scene, in pixels
  c, s = np.cos(pose.angle) * (pose.scale * unit / SPRITE), np.sin(pose.angle) * (pose.scale * unit / SPRITE)
  x, y = width / 2 + pose.x * unit + shift[0], height / 2 + pose.y * unit + shift[1]
  middle = SPRITE / 2
  matrix = np.float32([[c, -s, x - (c - s) * middle], [s, c, y - (s + c) * middle]])
  reach = int(np.ceil(pose.scale * unit / 2 * np.sqrt(2))) + 2
  left, top = max(0, int(x) - reach), max(0, int(y) - reach)
  right, bottom = min(width, int(x) + reach), min(height, int(y) + reach)
  if right <= left or bottom <= top:
    return
  matrix[:, 2] -= (left, top)
  drawn = cv2.warpAffine(sprite, matrix, (right - left, bottom - top), flags=cv2.INTER_AREA).astype(np.float32)
  alpha = drawn[..., 3:] / 255
  region = image[top:bottom, left:right]
  region += alpha * (drawn[..., :3] - region)
