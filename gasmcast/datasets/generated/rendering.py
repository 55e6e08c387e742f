"""From poses to frames: textured background, sprites, camera jitter and sensor noise."""

import cv2
import numpy as np

from gasmcast.datasets.generated.motions import Motion, Pose
from gasmcast.datasets.generated.objects import SPRITE

_JITTER = 0.012  # standard deviation of the camera's wander, in image heights
_NOISE = 2.0  # standard deviation of the sensor noise, in grey levels
_MARGIN = 0.1  # background around the image, in image heights, for the camera to wander over


def render(
  motion: Motion, sprites: tuple[np.ndarray, ...], frames: int, height: int, width: int, rng: np.random.Generator
) -> np.ndarray:
  """A clip of the motion, uint8 [T, height, width, 3] in RGB order; `sprites` in the order of the poses."""
  margin = int(_MARGIN * height)
  scene = _background(height + 2 * margin, width + 2 * margin, rng)
  phases, camera = _phases(frames, rng), _camera_path(frames, rng) * height
  noise = rng.normal(0, _NOISE, (height + 32, width + 32, 3)).astype(np.float32)
  clip = np.empty((frames, height, width, 3), np.uint8)
  for t in range(frames):
    shift = np.clip(camera[t], 1 - margin, margin - 1)
    view = np.float32([[1, 0, shift[0] - margin], [0, 1, shift[1] - margin]])
    image = cv2.warpAffine(scene, view, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    for pose, sprite in zip(motion(phases[t]), sprites, strict=True):
      _paste(image, sprite, pose, shift)
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


def _camera_path(frames: int, rng: np.random.Generator) -> np.ndarray:
  """A smooth wander [T, 2] around its own mean."""
  path = np.cumsum(rng.normal(0, 1, (frames, 2)), 0)
  path = cv2.GaussianBlur(path, (1, 5), 0) if frames >= 5 else path
  path -= path.mean(0)
  return path / (path.std() + 1e-6) * _JITTER


def _background(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  """Muted clouds over a base colour with a finer grain, float32 [height, width, 3] in 0..255."""
  base = rng.uniform(70, 185) + rng.uniform(-22, 22, 3)
  scene = np.broadcast_to(base, (height, width, 3)).astype(np.float32)
  for cells, strength in ((4, 22.0), (11, 12.0), (30, 7.0)):
    coarse = rng.normal(0, strength, (cells, cells, 3)) * 0.4 + rng.normal(0, strength, (cells, cells, 1)) * 0.6
    scene = scene + cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
  return scene


def _paste(image: np.ndarray, sprite: np.ndarray, pose: Pose, shift: np.ndarray) -> None:
  """Draws the sprite into the float image, in place, over what is already there."""
  height, width = image.shape[:2]
  zoom = pose.scale * height / SPRITE
  c, s = np.cos(pose.angle) * zoom, np.sin(pose.angle) * zoom
  x, y = width / 2 + pose.x * height + shift[0], height / 2 + pose.y * height + shift[1]
  middle = SPRITE / 2
  matrix = np.float32([[c, -s, x - (c - s) * middle], [s, c, y - (s + c) * middle]])
  reach = int(np.ceil(pose.scale * height / 2 * np.sqrt(2))) + 2
  left, top = max(0, int(x) - reach), max(0, int(y) - reach)
  right, bottom = min(width, int(x) + reach), min(height, int(y) + reach)
  if right <= left or bottom <= top:
    return
  matrix[:, 2] -= (left, top)
  drawn = cv2.warpAffine(sprite, matrix, (right - left, bottom - top), flags=cv2.INTER_AREA).astype(np.float32)
  alpha = drawn[..., 3:] / 255
  region = image[top:bottom, left:right]
  region += alpha * (drawn[..., :3] - region)
