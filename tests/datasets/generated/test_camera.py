"""How the camera pans and zooms: as far as asked, smoothly, in any direction, and centred in time."""

import numpy as np
import pytest

from gasmcast.core.rng import generator
from gasmcast.datasets.generated import camera
from gasmcast.datasets.generated.camera import View


def _views(seed, pan=0.15, zoom=0.1, frames=21):
  move = camera.moving(pan, zoom, generator(seed, "camera"))
  views = [move(time) for time in np.linspace(0, 1, frames)]
  return np.array([(view.x, view.y, view.zoom) for view in views]).T


def test_without_pan_and_zoom_the_camera_stands_still():
  move = camera.moving(0.0, 0.0, generator(0, "camera"))
  assert all(move(time) == camera.still(time) == View(0, 0, 1) for time in (0.0, 0.3, 1.0))


def test_it_goes_as_far_as_asked_and_looks_straight_in_the_middle():
  for seed in range(10):
    x, y, zoom = _views(seed)
    assert np.hypot(x[-1] - x[0], y[-1] - y[0]) == pytest.approx(0.15)
    assert max(zoom[-1] / zoom[0], zoom[0] / zoom[-1]) == pytest.approx(1.1)
    np.testing.assert_allclose((x[10], y[10], zoom[10]), (0, 0, 1), atol=1e-12)


def test_it_never_turns_back_and_never_jumps():
  for seed in range(10):
    x, y, zoom = _views(seed)
    steps = np.diff(x) * (x[-1] - x[0]) + np.diff(y) * (y[-1] - y[0])  # along the way
    assert steps.min() > 0 and steps.max() < 1.6 * steps.mean()
    assert len(set(np.sign(np.diff(zoom)))) == 1


def test_all_directions_are_equally_likely():
  ends = np.array([_views(seed, frames=2)[:2, 1] for seed in range(4000)])
  eighths = np.histogram(np.arctan2(ends[:, 1], ends[:, 0]), bins=8, range=(-np.pi, np.pi))[0]
  assert np.abs(eighths - 500).max() < 100  # 4.8 standard deviations
  grows = [zoom[-1] > zoom[0] for _, _, zoom in (_views(seed, frames=2) for seed in range(500))]
  assert 0.4 < np.mean(grows) < 0.6
