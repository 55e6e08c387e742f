"""From poses to frames: what stays as it was, who hides whom, and what a moving camera moves."""

import cv2
import numpy as np

from gasmcast.core.rng import generator
from gasmcast.datasets.generated.camera import View
from gasmcast.datasets.generated.motions import Pose
from gasmcast.datasets.generated.objects import SPRITE
from gasmcast.datasets.generated.rendering import Surroundings, render
from tests.datasets.generated import make_rendered_clips

HEIGHT, WIDTH, FRAMES = 48, 56, 9
RED, GREEN = (np.full((SPRITE, SPRITE, 4), (*colour, 255), np.uint8) for colour in ((250, 0, 0), (0, 250, 0)))


def _waves(height, width, rng):
  """A background that depends on the place relative to the centre alone."""
  y, x = np.mgrid[:height, :width] - np.array([height, width])[:, None, None] / 2
  return (128 + 40 * np.sin(x / 3) + 40 * np.cos(y / 4))[..., None].repeat(3, -1).astype(np.float32)


def _render(*poses, sprites=(RED, GREEN), **around):
  surroundings = Surroundings(background=_waves, **around)
  return render(
    lambda phase: poses, sprites[: len(poses)], FRAMES, HEIGHT, WIDTH, generator(0, "render"), surroundings
  ).astype(int)


def test_recipes_without_the_harder_settings_give_the_pixels_that_they_always_gave():
  """Not by a hash: OpenCV with and without Intel's library, and numpy with and without FMA, differ by a grey level in a
  few pixels. One random number more or less changes them all."""
  with np.load(make_rendered_clips.FILE) as file:
    frames, annotations = file["frames"].astype(int), file["annotations"]
  now = make_rendered_clips.rendered()
  apart = np.abs(now["frames"] - frames)
  assert np.mean(apart > 0) < 1e-3 and np.mean(apart > 2) < 1e-4
  assert now["annotations"].tolist() == annotations.tolist()


def test_the_later_object_is_on_top_unless_its_layer_is_lower():
  centre = (slice(None), HEIGHT // 2, WIDTH // 2)
  first, second = Pose(0, 0, 0.3, 0), Pose(0, 0, 0.3, 0)
  assert np.all(_render(first, second)[centre][:, 1] > 200)
  assert np.all(_render(first, Pose(0, 0, 0.3, 0, layer=-1))[centre][:, 0] > 200)
  assert np.all(_render(Pose(0, 0, 0.3, 0, layer=1), second)[centre][:, 0] > 200)


def test_distractors_lie_behind_the_actors_and_follow_the_time():
  def crossing(time):
    return Pose(0.3 * time, 0, 0.3, 0)

  clip = _render(Pose(0, 0, 0.3, 0), distractors=((crossing, GREEN),))
  assert np.all(clip[:, HEIGHT // 2, WIDTH // 2, 0] > 200)
  right = WIDTH // 2 + int(0.3 * HEIGHT)
  assert clip[-1, HEIGHT // 2, right, 1] > 200 and clip[-1, HEIGHT // 2, right, 0] < 50
  assert abs(clip[0, HEIGHT // 2, right, 0] - clip[0, HEIGHT // 2, right, 1]) < 30  # nothing but background as yet


def test_a_pan_moves_actors_distractors_and_background_together():
  """By 8 pixels to the right and 4 up at the last frame; what is left is noise, whose difference is 2.3 grey levels."""
  scene = {"distractors": ((lambda time: Pose(-0.3, 0.1, 0.15, 0.5), GREEN),)}
  still = _render(Pose(0.1, 0, 0.3, 0.4), **scene)
  pixel = 1 / HEIGHT
  panned = _render(Pose(0.1, 0, 0.3, 0.4), **scene, camera=lambda time: View(8 * pixel * time, -4 * pixel * time, 1.0))
  assert np.abs(panned[0] - still[0]).mean() < 0.1
  assert np.abs(panned[-1, :-4, 8:] - still[-1, 4:, :-8]).mean() < 3
  assert np.abs(panned[-1] - still[-1]).mean() > 20


def test_a_zoom_enlarges_actors_distractors_and_background_about_the_centre():
  """As resampling the image does, but for noise and edges that are not drawn sharp by resampling."""
  scene = {"distractors": ((lambda time: Pose(-0.25, 0.2, 0.15, 0.5), GREEN),)}
  still = _render(Pose(0.2, -0.2, 0.25, 0.4), **scene)[-1]
  for zoom in (0.8, 1.25):
    zoomed = _render(Pose(0.2, -0.2, 0.25, 0.4), **scene, camera=lambda time, zoom=zoom: View(0.0, 0.0, zoom))[-1]
    about = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 0, zoom)
    expected = cv2.warpAffine(still.astype(np.float32), about, (WIDTH, HEIGHT))
    inside = np.s_[6:-6, 7:-7]  # of what the smaller image shows
    assert np.abs(zoomed - expected)[inside].mean() < 6 < 15 < np.abs(zoomed - still)[inside].mean()


def test_no_border_shows_however_far_the_camera_goes():
  """The scene is as large as the views need: its edge, which this background marks, is never seen."""

  def framed(height, width, rng):
    scene = np.full((height, width, 3), 100, np.float32)
    scene[[0, -1]] = scene[:, [0, -1]] = 255
    return scene

  for x, y, zoom in ((0.125, 0, 1.0), (-0.1, 0.08, 0.9), (0, -0.125, 0.89), (0, 0, 1.12)):
    view = View(x, y, zoom)
    surroundings = Surroundings(background=framed, camera=lambda time, view=view: view)
    assert render(lambda phase: (), (), FRAMES, HEIGHT, WIDTH, generator(0, "render"), surroundings).max() < 150
