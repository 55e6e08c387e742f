"""How often the best rule is right that sees no more of a clip than a certain view: exact numbers, and the rule.

A model that can be written as a function of a view is never better, however it is trained: clips that share a view get
one answer, and the best answer is the label that most of them have. So its ceiling is, over all clips that there are,

    sum over views v of  max over labels y of  number of clips with view v and label y   /   number of clips

`ceiling` gives the number that a task states with its reason; `count` finds it by going through all clips, which is
how the tests check the statements. Noise on features can only lower what a rule reaches, so the numbers hold with
noise too; `bayes_accuracy` estimates what the best rule of all reaches then.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator
from fractions import Fraction

import numpy as np

from gasmcast.core.config import require
from gasmcast.core.rng import generator
from gasmcast.datasets.generated.feature_tasks import Scene, Task

_MOST = 300_000  # clips that are gone through
_AT_ONCE = 256


def _both(scene: Scene, grid: tuple[int, int]) -> Hashable:
  return scene.semantic.tobytes(), scene.motion.tobytes()


def _orbit(scene: Scene, grid: tuple[int, int], time: bool, space: bool) -> Hashable:
  """One name for all clips that reversal in time or flips in space turn into each other."""
  rows, columns = grid
  semantic = scene.semantic.reshape(-1, rows, columns)
  motion = scene.motion.reshape((-1, rows, columns) if scene.motion.shape[1] > 1 else (-1, 1, 1))
  names = []
  for ways in itertools.product(*((1, -1) if wanted else (1,) for wanted in (time, space, space))):
    flip = tuple(slice(None, None, way) for way in ways)
    names.append((semantic[flip].tobytes(), motion[flip].tobytes()))
  return min(names)


def _counts(codes: np.ndarray) -> Hashable:
  return tuple(sorted(Counter(codes.ravel().tolist()).items()))


VIEWS: dict[str, Callable[[Scene, tuple[int, int]], Hashable]] = {
  "everything": _both,
  "semantic": lambda scene, grid: scene.semantic.tobytes(),
  "motion": lambda scene, grid: scene.motion.tobytes(),
  "means": lambda scene, grid: (_counts(scene.semantic), _counts(scene.motion)),
  "frames": lambda scene, grid: tuple(
    (_counts(frame), _counts(segment)) for frame, segment in zip(scene.semantic, scene.motion, strict=True)
  ),
  "unsigned time": lambda scene, grid: _orbit(scene, grid, time=True, space=False),
  "unsigned space": lambda scene, grid: _orbit(scene, grid, time=False, space=True),
  "unsigned": lambda scene, grid: _orbit(scene, grid, time=True, space=True),
}
WORDS = {
  "everything": "all of both streams",
  "semantic": "the semantic stream alone",
  "motion": "the motion stream alone",
  "means": "each stream's mean over time and space, or any function of it",
  "frames": "each stream's mean over space, frame by frame",
  "unsigned time": "no difference between a clip and its reversal in time",
  "unsigned space": "no difference between a clip and its flip to the side or upside down",
  "unsigned": "neither of these two",
}


def ceiling(task: Task, view: str) -> Fraction:
  """The accuracy that no rule exceeds that sees no more than the view.

  Raises:
    ConfigError: an unknown view.
  """
  require(view in VIEWS, f"{view!r} is no view; use one of {', '.join(VIEWS)}.")
  stated = task.ceilings()
  return stated[view].accuracy if view in stated else Fraction(1)


def scenes(task: Task) -> Iterator[Scene]:
  """All clips that there are, each equally likely.

  Raises:
    ConfigError: they are too many to go through.
  """
  choices = task.choices()
  total = np.prod([len(values) for values in choices.values()], dtype=object)
  require(total <= _MOST, f"{total:,} different clips are too many to go through; use a smaller task.")
  for values in itertools.product(*choices.values()):
    yield task.scene(**dict(zip(choices, values, strict=True)))


def best_rule(task: Task, view: str) -> dict[Hashable, int]:
  """What a view looks like -> the label that most of the clips have that look so, the least of equals."""
  return {name: max(sorted(labels), key=labels.get) for name, labels in _labels(task, view).items()}


def count(task: Task, view: str) -> Fraction:
  """The accuracy of the best rule over all clips, by going through them."""
  by_view = _labels(task, view)
  return Fraction(sum(max(labels.values()) for labels in by_view.values()), sum(map(Counter.total, by_view.values())))


def _labels(task: Task, view: str) -> dict[Hashable, Counter]:
  see, found = VIEWS[view], defaultdict(Counter)
  for scene in scenes(task):
    found[see(scene, task.grid)][scene.label] += 1
  return found


def bayes_accuracy(task: Task, noise: float, clips: int, seed: int = 0, streams: str = "both") -> float:
  """What the best rule reaches that knows the task and sees features with noise, estimated on random clips.

  It adds up, for each clip that there is, how likely these features are if it is that one, and takes the label with the
  largest sum. Backgrounds tell nothing, as they lie across the codes.

  Args:
    noise: standard deviation of the noise in each direction, in lengths of a code.
    clips: to estimate it on.
    streams: "both", "semantic" or "motion".

  Raises:
    ConfigError: there are too many different clips to go through, or no noise, which `ceiling` is for.
  """
  require(noise > 0, f"noise = {noise}: without any the accuracy is known exactly, see `ceiling`.")
  known, rng, right = list(scenes(task)), generator(seed, "bayes", streams), 0
  labels = np.array([scene.label for scene in known])
  shown = {"both": ("semantic", "motion")}.get(streams, (streams,))
  codes = {"semantic": task.objects, "motion": task.motion_codes}
  present = {name: _one_hot(np.stack([getattr(scene, name) for scene in known]), codes[name]) for name in shown}
  for chosen in np.array_split(rng.integers(len(known), size=clips), -(-clips // _AT_ONCE)):
    evidence = np.zeros((len(chosen), len(known)))
    for array in present.values():
      seen = array[chosen] + noise * rng.standard_normal((len(chosen), array.shape[1]))
      evidence += (seen - 0.5) @ array.T / noise**2  # log N(seen; code, noise) less that of no code
    by_label = [np.logaddexp.reduce(evidence[:, labels == label], axis=1) for label in range(len(task.classes))]
    right += int((np.argmax(by_label, 0) == labels[chosen]).sum())
  return right / clips


def _one_hot(codes: np.ndarray, count: int) -> np.ndarray:
  """Codes [S, T, N] as the presence of each code beside 0, [S, T * N * count]."""
  return (codes[..., None] == np.arange(1, count + 1)).reshape(len(codes), -1).astype(float)
