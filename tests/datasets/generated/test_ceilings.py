"""The ceilings that the tasks state, against going through all clips, and against the best rule on features."""

from fractions import Fraction

import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.datasets.generated.ceilings import VIEWS, WORDS, bayes_accuracy, best_rule, ceiling, count, scenes
from gasmcast.datasets.generated.conjunctions import ConjunctionInPlace, ConjunctionInTime
from gasmcast.datasets.generated.feature_sets import Features, directions, load
from gasmcast.datasets.generated.feature_tasks import Directions, ObjectTrajectory, Scene
from gasmcast.metrics.classification import wilson_interval
from tests.datasets.generated.test_feature_tasks import EACH, SMALL

SETS = {
  "object_trajectory": {"objects": 3, "time": 4, "grid": (2, 2), "pairs_of_trajectories": 2},
  "directions": {"objects": 2, "time": 6, "grid": (4, 4)},
  "conjunction_in_time": {"objects": 3, "time": 4, "grid": (1, 2), "kinds": 2},
  "conjunction_in_place": {"objects": 3, "time": 4, "grid": (2, 2), "kinds": 2},
}
TASKS = dict(zip(SETS, SMALL, strict=True))


@pytest.mark.parametrize("view", VIEWS)
@EACH
def test_what_a_task_states_is_what_going_through_all_clips_gives(task, view):
  assert ceiling(task, view) == count(task, view)


def test_the_numbers_of_the_default_tasks():
  """As the documentation has them."""
  stated = {
    ObjectTrajectory(): {"semantic": 8, "motion": 8, "means": 2, "unsigned time": 2, "unsigned": 2},
    Directions(): {
      "semantic": 4,
      "motion": 8,
      "means": 4,
      "frames": 4,
      "unsigned time": 2,
      "unsigned space": 4,
      "unsigned": 4,
    },
    ConjunctionInTime(): {"semantic": 4, "motion": 8, "means": 2},
    ConjunctionInPlace(): {"semantic": 4, "motion": 8, "means": 2, "frames": 2},
  }
  for task, views in stated.items():
    assert {view: 1 / ceiling(task, view) for view in VIEWS} == {view: views.get(view, 1) for view in VIEWS}
    assert all(reason for _, reason in task.ceilings().values())


def codes_of(features, task, name):
  """Reads the codes off features without noise: along which direction a token is long."""
  count = task.objects if name == "semantic" else task.motion_codes
  along = features.reshape(task.time, -1, features.shape[-1]) @ directions(count, features.shape[-1])[:count].T
  return np.where(along.max(-1) > 1.5, along.argmax(-1) + 1, 0).astype(np.int8)


@pytest.mark.parametrize("name", SETS)
def test_the_best_rule_reaches_its_ceiling_on_features_within_binomial_error(name):
  """It sees features, not codes: so the features hold what the ceilings say, and no more of it for any view."""
  options, task = SETS[name] | {"task": name, "test": 600}, TASKS[name]
  dataset = load("", "test", **options)
  source = Features(dataset, **options)
  seen = [source.read(i) for i in range(600)]
  clips = [Scene(codes_of(x["semantic"], task, "semantic"), codes_of(x["motion"], task, "motion"), -1) for x in seen]
  labels = [example.labels["action"] for example in dataset.examples]
  for view, see in VIEWS.items():
    rule = best_rule(task, view)
    right = sum(rule[see(clip, task.grid)] == label for clip, label in zip(clips, labels, strict=True))
    low, high = wilson_interval(right, 600)
    margin = (high - low) / 2  # four standard errors in place of two: 32 comparisons
    assert low - margin <= ceiling(task, view) <= high + margin, view


def test_every_view_is_named_in_words():
  assert set(VIEWS) == set(WORDS)


def test_bayes_with_little_noise_reaches_the_ceilings():
  task = SMALL[0]
  assert bayes_accuracy(task, 0.05, 400) == 1.0
  for streams in ("semantic", "motion"):
    low, high = wilson_interval(400 * bayes_accuracy(task, 0.05, 400, streams=streams), 400)
    assert low <= ceiling(task, streams) <= high


def test_bayes_for_two_clips_by_hand():
  """Two clips that differ in one patch of one frame: one code or another, at a distance of sqrt(2) lengths. The best
  rule errs where half of that is exceeded by the noise between them: Q(sqrt(2) / 2 / noise)."""

  class Two(ObjectTrajectory):
    def choices(self):
      return {"thing": (0, 1), "patch": (0,), "trajectory": (0,), "change": (2,)}

    def scene(self, thing, patch, trajectory, change):
      semantic = np.zeros((4, 2), np.int8)
      semantic[0, 0] = thing + 1
      return Scene(semantic, np.ones((4, 1), np.int8), self.label(thing, trajectory))

  task = Two(objects=2, time=4, grid=(1, 2), pairs_of_trajectories=1)
  hits = 20_000 * bayes_accuracy(task, 1.0, 20_000)
  low, high = wilson_interval(hits, 20_000)
  assert low <= 0.7602 <= high  # 1 - Q(0.7071)


def test_noise_lowers_what_the_best_rule_reaches():
  reached = [bayes_accuracy(SMALL[3], noise, 1000) for noise in (0.3, 1.0, 3.0)]
  assert reached[0] > reached[1] + 0.1 > reached[2] + 0.2


def test_what_can_not_be_counted_is_refused():
  with pytest.raises(ConfigError, match="'colour' is no view; use one of everything, semantic"):
    ceiling(SMALL[0], "colour")
  with pytest.raises(ConfigError, match="4,014,080 different clips are too many to go through; use a smaller task"):
    next(scenes(ConjunctionInTime()))
  with pytest.raises(ConfigError, match="noise = 0.0: without any the accuracy is known exactly"):
    bayes_accuracy(SMALL[0], 0.0, 10)


def test_a_ceiling_is_a_fraction():
  assert ceiling(ObjectTrajectory(objects=5), "motion") == Fraction(1, 5)
