"""What lies behind the objects of rendered videos: families of muted textures, float32 [height, width, 3] in 0..255.

All families share their base colours, their strength and a fine grain, by which a moving camera can be seen on any of
them. Where a recipe asks for families, no family stands in two splits.
"""

from collections.abc import Callable

import cv2
import numpy as np

from gasmcast.core.rng import generator

Background = Callable[[int, int, np.random.Generator], np.ndarray]  # height and width in pixels

_CONTRAST = (16.0, 30.0)  # between the two tones of a texture, in grey levels


def split_families(seed: int, counts: dict[str, int]) -> dict[str, tuple[str, ...]]:
  """The names of all families, shuffled and dealt to the splits, so many to each."""
  names = [str(name) for name in generator(seed, "background families").permutation(list(FAMILIES))]
  stops = np.cumsum(list(counts.values()))
  return {split: tuple(names[stop - counts[split] : stop]) for split, stop in zip(counts, stops, strict=True)}


def clouds(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  """Muted clouds over a base colour with a finer grain."""
  base = rng.uniform(70, 185) + rng.uniform(-22, 22, 3)
  scene = np.broadcast_to(base, (height, width, 3)).astype(np.float32)
  for cells, strength in ((4, 22.0), (11, 12.0), (30, 7.0)):
    scene = scene + _noise(height, width, (cells, cells), strength, rng)
  return scene


def _noise(height: int, width: int, cells: tuple[int, int], strength: float, rng: np.random.Generator) -> np.ndarray:
  """Smooth noise of so many cells across and down, more grey than coloured; `strength` in grey levels."""
  coarse = rng.normal(0, strength, (*cells, 3)) * 0.4 + rng.normal(0, strength, (*cells, 1)) * 0.6
  return cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def _toned(pattern: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A pattern [height, width] of -1..1 in two tones of a base colour, with the grain."""
  base = rng.uniform(70, 185) + rng.uniform(-22, 22, 3)
  tone = rng.choice([-1, 1]) * (rng.uniform(*_CONTRAST) + rng.uniform(-8, 8, 3))
  scene = base + tone * pattern[..., None]
  return scene.astype(np.float32) + _noise(*pattern.shape, (30, 30), 7.0, rng)


def _grid(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """Coordinates [height, width] along two axes at right angles, turned at random; the shorter side is about 1 long."""
  y, x = np.mgrid[:height, :width] / min(height, width)
  angle = rng.uniform(0, 2 * np.pi)
  return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _hard(wave: np.ndarray, softness: float) -> np.ndarray:
  """A wave of -1..1 with flatter tops and steeper sides: a step, where `softness` goes to 0."""
  return np.tanh(wave / softness)


def _stripes(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  along, _ = _grid(height, width, rng)
  return _toned(_hard(np.sin(2 * np.pi * rng.uniform(2.5, 6) * along), rng.uniform(0.2, 1)), rng)


def _checks(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  u, v = _grid(height, width, rng)
  waves = np.pi * rng.uniform(3, 7)
  return _toned(_hard(np.sin(waves * u) * np.sin(waves * v), 0.2), rng)


def _gradient(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  """One slope from side to side, twice as strong as the tones of the others, because it changes so slowly."""
  along, _ = _grid(height, width, rng)
  return _toned(4 * (along - along.min()) / np.ptp(along) - 2, rng)


def _bricks(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  """Courses of bricks, each of its own tone, every other course moved by half a brick, with mortar between."""
  u, v = _grid(height, width, rng)
  rows = rng.uniform(4, 8)
  row = np.floor(v * rows).astype(int)
  column = u * rows / 2 + 0.5 * (row % 2)
  tones = rng.uniform(-0.6, 1, (97, 89))[row % 97, np.floor(column).astype(int) % 89]
  mortar = (np.mod(v * rows, 1) < 0.14) | (np.mod(column, 1) < 0.07)
  return _toned(np.where(mortar, -1.0, tones), rng)


def _stones(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  """Voronoi cells, each of its own tone, with dark joints."""
  u, v = _grid(height, width, rng)
  count = int(rng.integers(14, 40))
  centres = rng.uniform(0, 1, (count, 2)) * (np.ptp(u), np.ptp(v)) + (u.min(), v.min())
  distances = np.hypot(u[..., None] - centres[:, 0], v[..., None] - centres[:, 1])
  nearest = np.partition(distances, 1, -1)[..., :2]
  tones = rng.uniform(-0.6, 1, count)[distances.argmin(-1)]
  return _toned(np.where(nearest[..., 1] - nearest[..., 0] < 0.02, -1.0, tones), rng)


def _spots(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  """Round soft spots of different sizes."""
  y, x = np.mgrid[:height, :width] / min(height, width)
  pattern = np.full((height, width), -1.0)
  for _ in range(int(rng.integers(12, 30))):
    radius, cx, cy = rng.uniform(0.03, 0.12), rng.uniform(0, width / min(height, width)), rng.uniform(0, 1.0)
    pattern = np.maximum(pattern, np.tanh(4 * (1 - np.hypot(x - cx, y - cy) / radius)))
  return _toned(pattern, rng)


def _ripples(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  """Rings about a point anywhere in or near the image."""
  y, x = np.mgrid[:height, :width] / min(height, width)
  cx, cy = rng.uniform(-0.5, 1.5, 2)
  return _toned(np.sin(2 * np.pi * rng.uniform(3, 6) * np.hypot(x - cx, y - cy)), rng)


def _plaid(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  """Bands of several widths crossing at right angles."""
  waves = [
    sum(np.sin(2 * np.pi * (rng.uniform(1, 7) * axis + rng.uniform())) for _ in range(3))
    for axis in _grid(height, width, rng)
  ]
  return _toned((_hard(waves[0], 0.5) + _hard(waves[1], 0.5)) / 2, rng)


def _grained_wood(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
  """Long wavy lines, closer together in some places than in others."""
  u, v = _grid(height, width, rng)
  bend = 0.08 * np.sin(2 * np.pi * (rng.uniform(0.5, 1.2) * u + rng.uniform()))
  drift = 0.15 * np.sin(2 * np.pi * (rng.uniform(0.6, 1.2) * v + rng.uniform()))
  return _toned(np.sin(2 * np.pi * rng.uniform(5, 9) * (v + bend + drift)), rng)


FAMILIES: dict[str, Background] = {
  "clouds": clouds,
  "stripes": _stripes,
  "checks": _checks,
  "gradient": _gradient,
  "bricks": _bricks,
  "stones": _stones,
  "spots": _spots,
  "ripples": _ripples,
  "plaid": _plaid,
  "wood": _grained_wood,
}
