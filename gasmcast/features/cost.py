"""Floating point operations of a backbone by hand formula: two for every multiply-accumulate of a matrix product or a
convolution, taps that read padding included; norms, activations, biases and softmax not.

Time steps and frames of a convolution with kernel k, stride s and padding p along a side n: (n + 2p - k) // s + 1.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from gasmcast.core.errors import ConfigError
from gasmcast.features.dinov3 import DINOv3Config
from gasmcast.features.r3d import R3DConfig


@dataclasses.dataclass(frozen=True)
class Cost:
  """Operations of a call.

  Attributes:
    forward: of the network.
    first: of those, in the layer that reads the frames, whose gradient nobody asks for.
    formula: in words.
  """

  forward: float
  first: float
  formula: str

  @property
  def gradient(self) -> float:
    """Of the network and the gradient for its parameters: each product once forwards and twice backwards."""
    return 3 * self.forward - self.first


def cost(config: Any, shape: tuple[int, int, int, int]) -> Cost:
  """Operations on frames of the shape (B, T, H, W).

  Raises:
    ConfigError: there is no formula for networks of this kind.
  """
  formula = _FORMULAS.get(type(config))
  if formula is None:
    known = ", ".join(kind.__name__ for kind in _FORMULAS)
    raise ConfigError(f"{type(config).__name__} has no formula of its cost; there is one for {known}.")
  return formula(config, shape)


def _dinov3(config: DINOv3Config, shape: tuple[int, int, int, int]) -> Cost:
  batch, time, height, width = shape
  patches = (height // config.patch) * (width // config.patch)
  tokens, wide, hidden = patches + 1 + config.registers, config.width, config.mlp_width
  block = 4 * tokens * wide**2 + 2 * tokens**2 * wide + (3 if config.gated_mlp else 2) * tokens * wide * hidden
  first = 2 * batch * time * patches * 3 * config.patch**2 * wide
  forward = first + 2 * batch * time * config.depth * block
  mlp = "3 N D F" if config.gated_mlp else "2 N D F"
  return Cost(forward, first, f"2 B T (depth (4 N D^2 + 2 N^2 D + {mlp}) + patches 3 p^2 D), N = {tokens} tokens")


def _r3d(config: R3DConfig, shape: tuple[int, int, int, int]) -> Cost:
  """Every convolution has stride s and padding d (k - 1) / 2, so a side n becomes (n - 1) // s + 1, dilated or not."""
  batch, time, *frame = shape
  if config.mode == "windowed":  # one window of 8 frames for every second frame
    batch, time = batch * -(-time // 2), 8
  temporal = (1, 2, 2, 2) if config.mode in ("native", "windowed") else (1, 2, 1, 1)
  convolution = lambda channels, kernel, features: 2 * batch * time * math.prod(frame) * channels * kernel * features
  frame = [(side - 1) // config.stem_stride + 1 for side in frame]
  channels = config.widths[0]
  total = first = convolution(6 if config.differences else 3, 3 * 7 * 7, channels)
  for stage, (features, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
    for block in range(blocks):
      strides = (temporal[stage], 2 if stage else 1) if block == 0 else (1, 1)
      time, frame = (time - 1) // strides[0] + 1, [(side - 1) // strides[1] + 1 for side in frame]
      if strides != (1, 1) or channels != features:
        total += convolution(channels, 1, features)
      total += convolution(channels, 27, features) + convolution(features, 27, features)
      channels = features
  return Cost(total, first, "sum over convolutions of 2 (outputs) (kernel) (channels in) (channels out)")


_FORMULAS: Mapping[type, Callable[[Any, tuple[int, int, int, int]], Cost]] = {DINOv3Config: _dinov3, R3DConfig: _r3d}
