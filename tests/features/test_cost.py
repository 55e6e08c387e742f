"""Operations by hand and from published figures."""

import dataclasses

import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.features.cost import cost
from gasmcast.features.dinov3 import DINOv3Config
from gasmcast.features.r3d import R3DConfig

NATIVE = R3DConfig(mode="native")


def test_a_small_transformer_by_hand():
  """Two frames of 1 x 2 patches with 1 register, so 4 tokens: multiply-accumulates of a frame."""
  config = DINOv3Config(width=8, depth=3, heads=2, mlp_width=16, patch=4, registers=1, image_size=8)
  patches = 2 * (3 * 4 * 4) * 8
  block = 4 * (8 * 24 + 8 * 8) + 2 * (4 * 4 * 8) + 4 * (8 * 16 + 16 * 8)
  assert cost(config, (2, 1, 4, 8)).forward == 2 * 2 * (patches + 3 * block)
  gated = cost(dataclasses.replace(config, gated_mlp=True), (2, 1, 4, 8))
  assert gated.forward == 2 * 2 * (patches + 3 * (block + 4 * 8 * 16))
  assert gated.gradient == 3 * gated.forward - 2 * 2 * patches


def test_vit_b_16_takes_36_gflop_a_frame():
  assert cost(DINOv3Config(), (1, 1, 224, 224)).forward / 1e9 == pytest.approx(35.86, abs=0.01)
  one, clips = (cost(DINOv3Config(), (batch, 4, 224, 224)).forward for batch in (1, 3))
  assert clips == 3 * one == 12 * cost(DINOv3Config(), (1, 1, 224, 224)).forward


def test_a_small_3d_network_by_hand():
  """4 frames of 8 x 8; one block a stage. Outputs x kernel x channels in x channels out of each convolution."""
  config = R3DConfig(widths=(2, 2, 3, 4), blocks=(1, 1, 1, 1), mode="native")
  stem = 4 * 4 * 4 * (3 * 49) * 3 * 2
  stage1 = 4 * 4 * 4 * 27 * (2 * 2 + 2 * 2)
  stage2 = 2 * 2 * 2 * (2 * 2 + 27 * (2 * 2 + 2 * 2))  # the shortcut has a stride
  stage3 = 1 * (2 * 3 + 27 * (2 * 3 + 3 * 3))
  stage4 = 1 * (3 * 4 + 27 * (3 * 4 + 4 * 4))
  found = cost(config, (1, 4, 8, 8))
  assert found.forward == 2 * (stem + stage1 + stage2 + stage3 + stage4)
  assert found.first == 2 * stem


@pytest.mark.parametrize(
  ("config", "frames", "gflop"),
  [(NATIVE, 8, 40.70), (NATIVE, 16, 81.39), (R3DConfig(mode="atrous"), 16, 105.80)],
  ids=["8 frames", "16 frames", "atrous"],
)
def test_r3d_18_takes_what_is_known(config, frames, gflop):
  """torchvision states 40.697 GFLOPS for 16 frames, counting a multiply-accumulate as one."""
  assert cost(config, (1, frames, 112, 112)).forward / 1e9 == pytest.approx(gflop, abs=0.005)


def test_windows_are_networks_of_their_own():
  windowed = cost(R3DConfig(mode="windowed"), (2, 16, 112, 112))
  assert windowed.forward == 2 * 8 * cost(NATIVE, (1, 8, 112, 112)).forward


def test_a_network_without_a_formula_is_refused():
  with pytest.raises(ConfigError, match="str has no formula of its cost; there is one for DINOv3Config, R3DConfig"):
    cost("dinov3", (1, 1, 224, 224))
