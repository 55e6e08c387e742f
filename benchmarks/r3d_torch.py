"""R3D-18 in PyTorch, with the names that torchvision gives its parts, natively or with temporal strides as dilations.

Tran et al., "A Closer Look at Spatiotemporal Convolutions" (CVPR 2018). Written here because torchvision is not
published for every build of torch.
"""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gasmcast.core.errors import ConfigError
from gasmcast.features.r3d import R3DConfig

_PLANS = {  # of each stage: temporal stride, temporal dilation of its first convolution, of the others
  "native": ((1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1)),
  "atrous": ((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)),
}


def _convolution(inputs: int, outputs: int, strides: tuple[int, int, int], dilation: int) -> nn.Conv3d:
  around = (dilation, 1, 1)
  return nn.Conv3d(inputs, outputs, 3, strides, padding=around, dilation=around, bias=False)


class Block(nn.Module):
  """Two 3x3x3 convolutions around a shortcut."""

  def __init__(self, inputs: int, outputs: int, strides: tuple[int, int, int], dilations: tuple[int, int]):
    super().__init__()
    first, second = (
      _convolution(inputs, outputs, strides, dilations[0]),
      _convolution(outputs, outputs, (1, 1, 1), dilations[1]),
    )
    self.conv1 = nn.Sequential(first, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))
    self.conv2 = nn.Sequential(second, nn.BatchNorm3d(outputs))
    self.relu = nn.ReLU(inplace=True)
    self.downsample = None
    if strides != (1, 1, 1) or inputs != outputs:
      shortcut = nn.Conv3d(inputs, outputs, 1, strides, bias=False)
      self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(outputs))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    shortcut = x if self.downsample is None else self.downsample(x)
    return self.relu(self.conv2(self.conv1(x)) + shortcut)


class R3D(nn.Module):
  """[B, 3, T, H, W] -> (last stage [B, D, S, h, w], logits [B, classes] in the native mode with a classifier or None).

  Raises:
    ConfigError: a mode or an option that this network does not have.
  """

  def __init__(self, config: R3DConfig):
    super().__init__()
    if config.mode not in _PLANS or config.norm != "batch" or config.differences:
      raise ConfigError(
        f"mode = {config.mode!r}, norm = {config.norm!r}, differences = {config.differences}: the peer in torch has "
        f"the modes {' and '.join(_PLANS)} with batch norm, without differences."
      )
    stride, width = config.stem_stride, config.widths[0]
    stem = nn.Conv3d(3, width, (3, 7, 7), (1, stride, stride), (1, 3, 3), bias=False)
    self.stem = nn.Sequential(stem, nn.BatchNorm3d(width), nn.ReLU(inplace=True))
    for stage, (temporal, first, rest) in enumerate(_PLANS[config.mode]):
      blocks = []
      for block in range(config.blocks[stage]):
        space = 2 if stage and block == 0 else 1
        strides = (temporal if block == 0 else 1, space, space)
        blocks.append(Block(width, config.widths[stage], strides, (first if block == 0 else rest, rest)))
        width = config.widths[stage]
      setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
    self.fc = nn.Linear(width, config.classes) if config.classes else None
    self.native = config.mode == "native"

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
    return x, self.fc(x.mean((2, 3, 4))) if self.fc is not None and self.native else None


@torch.no_grad()
def draw_weights(module: R3D, frames: torch.Tensor) -> None:
  """Weights at random, in place; the batch norms' statistics become those of `frames` [B, 3, T, H, W], so that
  activations stay of the order of 1 through the depth, as they do in a trained network."""
  for part in module.modules():
    if isinstance(part, nn.Conv3d):
      nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(part, nn.BatchNorm3d):
      nn.init.normal_(part.weight, 1.0, 0.1)
      nn.init.normal_(part.bias, 0.0, 0.1)
      part.momentum = 1.0
  module.train()(frames)
  for part in module.modules():
    if isinstance(part, nn.BatchNorm3d):
      part.momentum = 0.1
  module.eval()


def fold_batch_norms(module: R3D) -> R3D:
  """A copy for inference in which every batch norm is part of the convolution before it."""
  module = copy.deepcopy(module).eval()
  for part in list(module.modules()):
    if isinstance(part, nn.Sequential) and isinstance(part[0], nn.Conv3d):
      part[0], part[1] = fuse_conv_bn_eval(part[0], part[1]), nn.Identity()
  return module
