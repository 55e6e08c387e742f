import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.reports.attention import AttentionExample, attention_figure
from gasmcast.reports.theme import DARK, LIGHT, raster


def example(**changes):
  generator = np.random.default_rng(0)
  fields = {
    "id": "209415",
    "frames": generator.integers(0, 256, (4, 16, 24, 3), dtype=np.uint8),
    "patch_attention": generator.random((4, 2, 3)),
    "segment_attention": np.array([0.1, 0.2, 0.3, 0.4]),
    "time_attention": {"layer 1": np.eye(4), "layer 2": np.full((4, 4), 0.25)},
    "true": "opening a door",
    "predictions": (("opening a door", 0.75), ("closing a door", 0.25)),
  }
  return AttentionExample(**fields | changes)


def written(figure):
  return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_the_figure_says_what_was_predicted():
  texts = written(attention_figure(example()))
  assert "209415: predicted “opening a door” (75 %), correct" in texts
  assert {"frame 1", "frame 4", "layer 1", "layer 2", "closing a door  25.0 %"} <= set(texts)
  wrong = written(attention_figure(example(true="closing a door")))
  assert "209415: predicted “opening a door” (75 %)\ntrue “closing a door”" in wrong
  assert "209415: predicted “opening a door” (75 %)" in written(attention_figure(example(true=None)))


def test_bars_are_the_shares_of_frames_and_segments():
  patches = np.ones((4, 2, 3))
  patches[0] = 3  # frame 1 gets 18 of 36
  figure = attention_figure(example(patch_attention=patches))
  bars = next(axes for axes in figure.axes if axes.get_ylabel() == "share, %")
  heights = [[bar.get_height() for bar in container] for container in bars.containers]
  np.testing.assert_allclose(heights, [[50, 50 / 3, 50 / 3, 50 / 3], [10, 20, 30, 40]])


def test_overlays_share_one_scale_and_lie_on_the_frame():
  patches = np.ones((4, 2, 3))
  patches[2, 1, 0] = 25  # 24 patches: the average is 2, so this one is the full scale and all others are below
  figure = attention_figure(example(patch_attention=patches))
  overlays = [axes.images[1] for axes in figure.axes if len(axes.images) == 2]
  assert [overlay.get_array().max() for overlay in overlays] == [0.0, 0.0, 1.0, 0.0]
  assert overlays[0].get_extent() == [-0.5, 23.5, 15.5, -0.5]


def test_matrices_of_all_layers_share_one_scale():
  figure = attention_figure(example())
  matrices = [axes.images[0] for axes in figure.axes if axes.get_xlabel() == "motion segment"]
  assert [matrix.get_clim() for matrix in matrices] == [(0, 1), (0, 1)]


def test_no_layers_leave_the_scores_alone():
  assert not any("motion" in axes.get_xlabel() for axes in attention_figure(example(time_attention={})).axes)


def test_pictures_of_both_themes():
  light = raster(attention_figure(example(id="$x <b>")), LIGHT, "png", dpi=30)
  dark = raster(attention_figure(example(), DARK), DARK, "webp", dpi=30)
  assert light.startswith(b"\x89PNG")
  assert dark[8:12] == b"WEBP"


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"patch_attention": np.ones((3, 2, 2))}, r"patch_attention has shape \(3, 2, 2\), 4 frames need \(4, 2, 2\)"),
    ({"segment_attention": np.ones(8)}, r"segment_attention has shape \(8,\), 4 frames need \(4,\)"),
    ({"time_attention": {"layer 1": np.ones((4, 8))}}, r"time_attention\['layer 1'\] has shape \(4, 8\)"),
    ({"segment_attention": np.array([1, -1, 0, 0])}, "segment_attention must hold finite weights >= 0"),
    ({"patch_attention": np.full((4, 2, 2), np.nan)}, "patch_attention must hold finite weights >= 0"),
    ({"patch_attention": np.zeros((4, 2, 2))}, "that are not all zero"),
    ({"predictions": ()}, "'209415' has no prediction"),
  ],
)
def test_impossible_examples_are_refused(changes, message):
  with pytest.raises(DataError, match=message):
    example(**changes)
