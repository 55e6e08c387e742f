"""Random objects for rendered videos: a shape, a colour and a texture, drawn once as a sprite.

Every object shows which way it is turned (it is stretched, and shaded from one end to the other), because a
rotation that can't be seen can't be learned.
"""

import colorsys
import dataclasses
import itertools

import cv2
import numpy as np

from gasmcast.core.rng import generator

SPRITE = 96  # side of a sprite in pixels; the object's largest radius is half of it, less the outline
_SUPERSAMPLING = 2

SHAPES = ("triangle", "square", "pentagon", "star", "blob", "cross")
TEXTURES = ("plain", "striped", "checked", "dotted", "ringed")
HUES = {
  "red": 0.0,
  "orange": 0.07,
  "yellow": 0.15,
  "lime": 0.24,
  "green": 0.36,
  "cyan": 0.5,
  "blue": 0.6,
  "violet": 0.73,
  "magenta": 0.83,
  "pink": 0.92,
}


@dataclasses.dataclass(frozen=True, order=True)
class ObjectKind:
  """What makes an object another object. No kind stands in two splits."""

  colour: str
  texture: str
  shape: str

  def __str__(self) -> str:
    return f"{self.colour} {self.texture} {self.shape}"


def split_kinds(seed: int, shares: dict[str, float]) -> dict[str, tuple[ObjectKind, ...]]:
  """All 300 kinds, shuffled and dealt to the splits in proportion to `shares` (which add up to 1)."""
  kinds = [ObjectKind(*kind) for kind in itertools.product(HUES, TEXTURES, SHAPES)]
  order = generator(seed, "object kinds").permutation(len(kinds))
  splits, start, total = {}, 0, 0.0
  for name, share in shares.items():
    total += share
    stop = round(total * len(kinds))
    splits[name] = tuple(kinds[i] for i in order[start:stop])
    start = stop
  return splits


def draw(kind: ObjectKind, rng: np.random.Generator) -> np.ndarray:
  """One sprite of the kind, uint8 [SPRITE, SPRITE, 4] (RGB, alpha), turned as it happens to be drawn."""
  side = SPRITE * _SUPERSAMPLING
  axis = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
  y, x = np.meshgrid(axis, axis, indexing="ij")
  stretch = rng.uniform(1.5, 2.0)
  inside = _distance(kind.shape, x, y * stretch, rng)
  first, second = _colours(kind.colour, rng)
  pattern = _pattern(kind.texture, x, y, rng)[..., None]
  shade = np.clip(0.35 + 0.65 * (x + 0.8) / 1.4, 0.35, 1)[..., None]  # dark at one end: it has a direction
  colour = (first * (1 - pattern) + second * pattern) * shade
  outline = ((inside < 1.0) & (inside > 0.9))[..., None]
  colour = np.where(outline, np.float32(rng.choice([0.05, 0.97])), colour)
  alpha = (inside < 1.0).astype(np.float32)[..., None]
  sprite = np.concatenate([colour, alpha], -1)
  sprite = cv2.resize(sprite, (SPRITE, SPRITE), interpolation=cv2.INTER_AREA)
  return np.clip(sprite * 255 + 0.5, 0, 255).astype(np.uint8)


def _distance(shape: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A star-shaped outline: radius over outline radius, below 1 inside."""
  angle, radius = np.arctan2(y, x), np.hypot(x, y)
  if shape in ("triangle", "square", "pentagon"):
    sides = {"triangle": 3, "square": 4, "pentagon": 5}[shape]
    sector = 2 * np.pi / sides
    outline = np.cos(sector / 2) / np.cos(np.mod(angle, sector) - sector / 2)
  elif shape == "star":
    points = int(rng.integers(5, 8))
    wave = np.abs(np.mod(angle * points / (2 * np.pi), 1.0) - 0.5) * 2
    outline = 0.55 + 0.45 * wave
  elif shape == "cross":
    arm = rng.uniform(0.3, 0.42)
    c, s = np.abs(np.cos(angle)) + 1e-6, np.abs(np.sin(angle)) + 1e-6
    outline = np.minimum(1.0, np.maximum(np.minimum(1 / c, arm / s), np.minimum(1 / s, arm / c)))
  else:
    outline = np.full_like(angle, 0.8)
    for harmonic in (2, 3, 5):
      outline += rng.uniform(0.03, 0.11) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi)).astype(np.float32)
    outline /= outline.max()
  return radius / (0.97 * outline)


def _colours(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  hue = HUES[name] + rng.uniform(-0.02, 0.02)
  bright = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.75, 1.0), rng.uniform(0.85, 1.0))
  other = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.2, 0.9), rng.uniform(0.25, 0.45))
  return np.array(bright, np.float32), np.array(other, np.float32)


def _pattern(texture: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """0 where the first colour shows, 1 where the second does, [H, W]."""
  if texture == "plain":
    return (x < -0.35).astype(np.float32)  # a cap at one end
  angle, waves = rng.uniform(0, np.pi), rng.uniform(2.0, 3.5)
  u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
  if texture == "striped":
    wave = np.sin(np.pi * waves * u)
  elif texture == "checked":
    wave = np.sin(np.pi * waves * u) * np.sin(np.pi * waves * v)
  elif texture == "dotted":
    wave = np.cos(np.pi * waves * u) + np.cos(np.pi * waves * v) - 0.8
  else:
    wave = np.sin(2 * np.pi * waves * np.hypot(x - 0.3, y))
  return (wave > 0).astype(np.float32)
