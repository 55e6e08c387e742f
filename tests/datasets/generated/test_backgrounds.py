"""Backgrounds: ten families, dealt to the splits, of like strength, on all of which a moving camera can be seen."""

import numpy as np
import pytest

from gasmcast.core.rng import generator
from gasmcast.datasets.generated import backgrounds

COUNTS = {"train": 6, "validation": 2, "test": 2}


def _scenes(family):
  return [backgrounds.FAMILIES[family](90, 104, generator(seed, "background")) for seed in range(12)]


def test_every_family_goes_to_one_split():
  dealt = backgrounds.split_families(0, COUNTS)
  assert {split: len(names) for split, names in dealt.items()} == COUNTS
  assert set().union(*dealt.values()) == set(backgrounds.FAMILIES)
  assert dealt == backgrounds.split_families(0, COUNTS)
  assert len({backgrounds.split_families(seed, COUNTS)["test"] for seed in range(10)}) > 3


@pytest.mark.parametrize("family", backgrounds.FAMILIES)
def test_backgrounds_are_muted_and_differ_from_clip_to_clip(family):
  scenes = _scenes(family)
  for scene in scenes:
    assert scene.shape == (90, 104, 3) and scene.dtype == np.float32
    assert 20 < scene.mean() < 235 and 8 < scene.std(axis=(0, 1)).mean() < 45
  assert min(np.abs(scenes[0] - scene).mean() for scene in scenes[1:]) > 8


@pytest.mark.parametrize("family", backgrounds.FAMILIES)
def test_a_small_shift_can_be_seen_along_both_axes(family):
  """Above the sensor noise, which differs by 2.3 grey levels from frame to frame."""
  for scene in _scenes(family):
    assert np.abs(scene[:, 6:] - scene[:, :-6]).mean() > 3
    assert np.abs(scene[6:] - scene[:-6]).mean() > 3
