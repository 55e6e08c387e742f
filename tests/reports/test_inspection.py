import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.reports.inspection import Backbone, Inspection, inspection_figure, measurements, patch_colours, table
from gasmcast.reports.theme import LIGHT, raster


def inspection(**changes):
  generator = np.random.default_rng(0)
  fields = {
    "name": "209415.webm",
    "frames": generator.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8),
    "moments": [f"{t / 4:.2f} s" for t in range(8)],
    "semantic": Backbone("dinov3_vitb16, 32 x 32 pixels", "facebook/dinov3", random=False),
    "motion": Backbone("r3d_18, atrous, 16 x 16 pixels", "r3d.safetensors", random=False),
    "tokens": generator.standard_normal((4, 2, 3, 5)).astype(np.float32),
    "segments": generator.random((4, 6)).astype(np.float32),
    "energy": np.array([0.1, 0.2, 0.0, 0.4]),
  }
  return Inspection(**fields | changes)


def written(figure):
  return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_the_figure_says_what_was_looked_at_through_what():
  texts = written(inspection_figure(inspection()))
  assert "209415.webm" in texts
  assert "semantic: dinov3_vitb16, 32 x 32 pixels, weights: facebook/dinov3" in texts
  assert "motion: r3d_18, atrous, 16 x 16 pixels, weights: r3d.safetensors" in texts
  assert {"1  (0.00 s)", "4  (1.50 s)", "motion segment, 2 frames each", "%", "grey levels"} <= set(texts)
  assert not any("RANDOM" in text for text in texts)


@pytest.mark.parametrize(
  ("semantic", "motion", "title"),
  [
    (True, False, "RANDOM WEIGHTS (semantic): 209415.webm"),
    (False, True, "RANDOM WEIGHTS (motion): 209415.webm"),
    (True, True, "RANDOM WEIGHTS (semantic and motion): 209415.webm"),
  ],
)
def test_random_weights_are_in_the_title(semantic, motion, title):
  one = inspection(semantic=Backbone("a", "random", semantic), motion=Backbone("b", "random", motion))
  assert title in written(inspection_figure(one))
  assert [measurements(one)[kind]["random"] for kind in ("semantic", "motion")] == [semantic, motion]


def test_bars_are_energy_in_percent_and_pixel_change():
  one = inspection()
  bars = {axes.get_ylabel(): [bar.get_height() for bar in axes.patches] for axes in inspection_figure(one).axes}
  np.testing.assert_allclose(bars["%"], [10, 20, 0, 40])
  np.testing.assert_allclose(bars["grey levels"], one.pixel_change)


def test_matrices_show_their_own_range_with_numbers_or_a_legend():
  figure = inspection_figure(inspection(segments=np.array([[1.0, 0], [0, 1], [1, 1], [1, 0]])))
  axes = next(axes for axes in figure.axes if axes.get_ylabel() == "motion segment")
  (image,) = axes.images
  assert image.get_clim() == (0, 1)
  assert [text.get_text() for text in axes.texts][:4] == ["1.00", "0.00", "0.71", "1.00"]
  long = np.eye(2)[np.arange(12) % 2]
  frames = np.zeros((24, 8, 8, 3), np.uint8)
  many = inspection(frames=frames, moments=[""] * 24, segments=long, energy=np.zeros(12), tokens=np.ones((12, 2, 2, 4)))
  axes = next(axes for axes in inspection_figure(many).axes if axes.get_ylabel() == "motion segment")
  assert not axes.texts and axes.get_xlabel() == "motion segment (white: 0.00, blue: 1)"


def test_at_most_eight_frames_are_shown_from_the_middle_of_equal_parts():
  frames = np.zeros((48, 8, 8, 3), np.uint8)
  moments = [f"frame {t}" for t in range(48)]
  tokens = np.random.default_rng(0).random((24, 2, 2, 4))
  many = inspection(frames=frames, moments=moments, tokens=tokens)
  titles = [text for text in written(inspection_figure(many)) if "(frame" in text]
  assert titles[:2] == ["2  (frame 2)", "5  (frame 8)"] and len(titles) == 8


def test_colours_are_the_principal_components():
  """Three independent directions of different size, each with a rare bright side: 1/4 of the patches, and all of it
  in a rotated and shifted basis. Colours are the directions themselves, 0 or 1, in the order of their variance."""
  cells = np.array([[x, y, z] for x in (0, 0, 0, 1) for y in (0, 0, 0, 1) for z in (0, 0, 0, 1)], float)
  rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0][:3]
  tokens = ((cells * [2, 4, 1]) @ rotation + 3).reshape(4, 4, 4, 6).astype(np.float32)
  colours, shares = patch_colours(tokens)
  np.testing.assert_allclose(colours.reshape(-1, 3), cells[:, [1, 0, 2]], atol=1e-5)
  np.testing.assert_allclose(shares, [16 / 21, 4 / 21, 1 / 21], rtol=1e-5)
  turned, _ = patch_colours(-tokens)
  np.testing.assert_allclose(turned, colours, atol=1e-5)  # the sign is that of the rarer side, not of the basis


def test_one_outlier_does_not_darken_all_other_patches():
  tokens = np.random.default_rng(0).random((1, 20, 20, 3))
  tokens[0, 0, 0] = 1000
  colours, _ = patch_colours(tokens)
  assert (colours.reshape(-1, 3).std(0) > 0.1).all() and colours.min() == 0 and colours.max() == 1


def test_patches_that_do_not_vary_are_grey():
  colours, shares = patch_colours(np.full((2, 2, 2, 2), 7.0))
  assert (colours == 0.5).all() and shares.tolist() == [0, 0, 0]


def test_measurements_are_what_the_picture_shows():
  one = inspection()
  numbers = measurements(one)
  assert numbers["semantic"]["tokens"]["shape"] == [4, 2, 3, 5]
  assert numbers["semantic"]["mean_token"]["shape"] == [4, 5]
  assert numbers["motion"]["segments"]["shape"] == [4, 6]
  assert numbers["motion"]["energy"] == [0.1, 0.2, 0.0, 0.4]
  assert numbers["pixel_change"] == one.pixel_change.tolist() and numbers["moments"][1] == "0.25 s"
  assert np.shape(numbers["semantic"]["self_similarity"]) == np.shape(numbers["motion"]["self_similarity"]) == (4, 4)
  assert sum(numbers["semantic"]["variance_of_components"]) < 1


def test_the_table_has_a_column_for_each_kind_of_feature():
  lines = {line[0]: line[1:] for line in table(inspection())}
  assert lines[""] == ("patch tokens", "mean token", "segments")
  assert lines["shape"] == ("4 x 2 x 3 x 5", "4 x 5", "4 x 6")
  assert lines["all finite"] == ("yes", "yes", "yes")
  assert [text.split(" of ")[1] for text in lines["effective rank"]] == ["5", "3", "3"]


def test_the_picture_is_a_png_and_equal_inspections_give_equal_bytes():
  pictures = [raster(inspection_figure(inspection(name="$x <b>")), LIGHT, "png", dpi=40) for _ in range(2)]
  assert pictures[0].startswith(b"\x89PNG") and pictures[0] == pictures[1]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"tokens": np.full((4, 2, 3, 5), np.nan)},
      "209415.webm: 120 of 120 values of the patch tokens are NaN or infinite",
    ),
    ({"segments": np.full((4, 6), np.inf)}, "24 of 24 values of the motion segments"),
    (
      {"tokens": np.ones((3, 2, 3, 5))},
      "8 frames need as many moments, tokens of every second .*; there are 8, 3, 4, 4",
    ),
    ({"energy": np.ones(3)}, "there are 8, 4, 4, 3"),
    ({"moments": ["0 s"]}, "there are 1, 4, 4, 4"),
    ({"segments": np.ones((5, 6)), "energy": np.ones(5)}, "one energy a segment of two or more frames.*8, 4, 5, 5"),
  ],
)
def test_what_does_not_belong_together_is_refused(changes, message):
  with pytest.raises(DataError, match=message):
    inspection(**changes)
