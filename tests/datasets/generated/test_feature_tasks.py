import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.datasets.generated.ceilings import scenes
from gasmcast.datasets.generated.conjunctions import ConjunctionInPlace, ConjunctionInTime
from gasmcast.datasets.generated.feature_tasks import MIRRORED, REVERSED, Directions, ObjectTrajectory

SMALL = (
  ObjectTrajectory(objects=3, time=4, grid=(2, 2), pairs_of_trajectories=2),
  Directions(objects=2, time=6, grid=(4, 4)),
  ConjunctionInTime(objects=3, time=4, grid=(1, 2), kinds=2),
  ConjunctionInPlace(objects=3, time=4, grid=(2, 2), kinds=2),
)
EACH = pytest.mark.parametrize("task", SMALL, ids=lambda task: type(task).__name__)


def test_a_trajectory_and_its_reversal_by_hand():
  task = ObjectTrajectory(objects=2, time=4, grid=(1, 2), pairs_of_trajectories=1)
  forth = task.scene(thing=1, patch=0, trajectory=0, change=1)
  back = task.scene(thing=1, patch=0, trajectory=1, change=1)
  assert forth.semantic.tolist() == back.semantic.tolist() == [[2, 0]] * 4
  assert forth.motion.ravel().tolist() == [1, 2, 2, 2]
  assert back.motion.ravel().tolist() == [2, 2, 2, 1]
  assert (task.classes[forth.label], task.classes[back.label]) == (
    "object 1 trajectory 0 forth",
    "object 1 trajectory 0 back",
  )


def test_a_direction_by_hand():
  task = Directions(objects=2, time=6, grid=(3, 3))
  scene = task.scene(thing=0, patch=4, direction=0, row=0, column=0)
  assert task.classes[scene.label] == "object 0 to the north-east"
  assert scene.motion.argmax(1).tolist() == [6, 6, 4, 4, 2, 2]  # from the south-west corner to the north-east one
  assert scene.motion.sum(1).tolist() == [1] * 6


def test_a_conjunction_in_time_by_hand():
  """Object 2 in frames 0 and 3, object 0 in the others; the segments move while object 0 is there."""
  task = ConjunctionInTime(objects=3, time=4, grid=(1, 2), kinds=2)
  scene = task.scene(objects=(2, 0), mover=1, kind=1, frames=(0, 3), first_patch=0, second_patch=1)
  assert scene.semantic.tolist() == [[3, 0], [0, 1], [0, 1], [3, 0]]
  assert scene.motion.ravel().tolist() == [1, 3, 3, 1]
  assert task.classes[scene.label] == "object 0 moves in way 1"


def test_a_conjunction_in_place_by_hand():
  task = ConjunctionInPlace(objects=3, time=4, grid=(1, 3), kinds=2)
  scene = task.scene(objects=(2, 0), mover=0, kind=0, places=(1, 2))
  assert scene.semantic.tolist() == [[0, 3, 1]] * 4
  assert scene.motion.tolist() == [[0, 1, 0]] * 4
  assert task.classes[scene.label] == "object 2 moves in way 0"


@EACH
def test_all_classes_are_equally_likely_and_codes_are_in_range(task):
  every = list(scenes(task))
  counts = np.bincount([scene.label for scene in every], minlength=len(task.classes))
  assert len(set(counts.tolist())) == 1 and len(counts) == len(task.classes) == len(set(task.classes))
  for scene in every:
    assert scene.semantic.shape == (task.time, task.patches) and scene.motion.shape == (task.time, task.cells)
    assert scene.semantic.min() >= 0 and scene.semantic.max() <= task.objects
    assert scene.motion.min() >= 0 and scene.motion.max() <= task.motion_codes


@EACH
def test_random_clips_are_among_those_that_there_are_and_reproducible(task):
  known = {(scene.semantic.tobytes(), scene.motion.tobytes(), scene.label) for scene in scenes(task)}
  drawn = [task.draw(np.random.default_rng(i)) for i in range(200)]
  assert {(scene.semantic.tobytes(), scene.motion.tobytes(), scene.label) for scene in drawn} <= known
  assert len({scene.label for scene in drawn}) == len(task.classes)
  again = task.draw(np.random.default_rng(0))
  assert again.label == drawn[0].label and again.semantic.tolist() == drawn[0].semantic.tolist()


def flipped(task, scene, kind):
  """Semantic and motion codes of the clip backwards, or of its mirror image."""
  arrays = [scene.semantic, scene.motion]
  if kind == REVERSED:
    return [x[::-1] for x in arrays]
  grids = [x.reshape(task.time, *task.grid)[:, :, ::-1] for x in arrays]
  return [x.reshape(task.time, -1) for x in grids]


@EACH
def test_what_turns_a_class_of_a_pair_around_is_the_other_class(task):
  by_codes = {(scene.semantic.tobytes(), scene.motion.tobytes()): scene.label for scene in scenes(task)}
  for kind, pairs in task.pairs().items():
    other = dict(pairs) | {b: a for a, b in pairs}
    assert set(other) == set(range(len(task.classes)))
    for scene in scenes(task):
      turned = tuple(np.ascontiguousarray(x).tobytes() for x in flipped(task, scene, kind))
      assert by_codes[turned] == other[scene.label]


def test_the_pairs_there_are():
  assert {kind: len(pairs) for kind, pairs in SMALL[0].pairs().items()} == {REVERSED: 6}
  assert {kind: len(pairs) for kind, pairs in SMALL[1].pairs().items()} == {MIRRORED: 4, REVERSED: 4}
  assert SMALL[2].pairs() == SMALL[3].pairs() == {}


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: ObjectTrajectory(objects=1), "objects = 1: to tell them apart takes at least 2."),
    (lambda: ObjectTrajectory(time=5), "time = 5: it has two halves; use an even number of at least 4."),
    (lambda: ObjectTrajectory(pairs_of_trajectories=0), "pairs_of_trajectories = 0: use 1 or more."),
    (lambda: ConjunctionInPlace(grid=(1, 1)), "grid = (1, 1): give rows and columns, of 2 patches or more."),
    (lambda: ConjunctionInTime(kinds=0), "kinds = 0: use 1 or more."),
    (lambda: Directions(grid=(2, 4)), "grid = (2, 4): a diagonal of three cells needs 3 rows and 3 columns."),
  ],
)
def test_what_can_not_be_is_refused(make, message):
  with pytest.raises(ConfigError) as error:
    make()
  assert str(error.value) == message
