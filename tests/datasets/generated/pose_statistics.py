"""What random instances of a motion template have in common: numbers of poses, and how far two samples lie apart."""

from collections.abc import Callable

import numpy as np

from gasmcast.core.rng import generator
from gasmcast.datasets.generated import templates
from gasmcast.datasets.generated.motions import Motion

PHASES = (0.0, 0.2, 0.5, 0.8, 1.0)
SAMPLES = 400
ALIKE = 0.175  # two samples of 400 of one distribution exceed it once in 100,000 (Kolmogorov and Smirnov)


def sample(template: str, stream: str, change: Callable[[Motion], Motion] = lambda motion: motion) -> np.ndarray:
  """[SAMPLES, numbers]: of the poses at `PHASES`, of how they differ from the first phase and from the first object.

  Args:
    template: what is drawn.
    stream: samples of two streams are independent.
    change: what is done to each motion before it is looked at.
  """
  rows = []
  for i in range(SAMPLES):
    motion = change(templates.motion(template, generator(0, stream, i)))
    poses = np.array(
      [[(p.x, p.y, p.scale, np.cos(p.angle), np.sin(p.angle), p.layer) for p in motion(phase)] for phase in PHASES]
    )  # [phases, objects, numbers]
    moved, apart = poses - poses[:1], poses - poses[:, :1]
    lengths = [np.hypot(part[..., 0], part[..., 1]) for part in (moved, apart)]
    rows.append(np.concatenate([part.ravel() for part in (poses, moved, apart, *lengths)]))
  return np.round(rows, 9)


def distance(first: np.ndarray, second: np.ndarray) -> float:
  """The greatest distance of Kolmogorov and Smirnov of any number, 0 to 1; 1 where the numbers of objects differ."""
  if first.shape[1] != second.shape[1]:
    return 1.0
  return max(_steps_apart(*columns) for columns in zip(first.T, second.T, strict=True))


def _steps_apart(first: np.ndarray, second: np.ndarray) -> float:
  every = np.concatenate([first, second])
  below = [np.searchsorted(np.sort(part), every, side="right") / len(part) for part in (first, second)]
  return float(np.abs(below[0] - below[1]).max())
