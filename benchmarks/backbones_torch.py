"""The peers of the backbones in PyTorch: DINOv3 of transformers, and R3D-18 under torchvision's names.

A peer is made from the configuration of our own network, draws its weights at random and gives them under their
published names, so that ours computes with the same ones; see `gasmcast.jobs.benchmark_backbones.Peer`.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import torch_library as library
from benchmarks.r3d_torch import R3D, draw_weights, fold_batch_norms
from gasmcast.core.timing import Side
from gasmcast.features.dinov3 import DINOv3Config
from gasmcast.features.r3d import R3DConfig

Outputs = Mapping[str, torch.Tensor]
_EXPLICIT = "explicit attention"  # softmax(q k) v written out, in place of torch's fused attention


@dataclasses.dataclass(frozen=True)
class TorchPeer:
  """A module with its weights.

  Attributes:
    module: in float32, in evaluation mode, on the device that it is to run on.
    read: what the module takes, from normalised frames [B, T, H, W, 3].
    outputs: our names -> tensors in our shapes, from what the module returns for frames of a shape.
    for_inference: a copy of the module in its fastest exact form, with the options of a side's name.
    options: that `for_inference` heeds.
  """

  module: nn.Module
  read: Callable[[torch.Tensor], torch.Tensor]
  outputs: Callable[[Any, tuple[int, ...]], Outputs]
  for_inference: Callable[[nn.Module, frozenset[str]], nn.Module]
  options: frozenset[str] = frozenset()

  @property
  def tensors(self) -> dict[str, np.ndarray]:
    """All weights and buffers under their published names."""
    return {name: library.numpy_of(tensor) for name, tensor in self.module.state_dict().items()}

  def forward_side(self, name: str, frames: np.ndarray, dtype: str) -> Side:
    """The forward pass of frames [B, T, H, W, 3] in one of the ways that `torch_library` names."""
    _, wanted = library.split_name(name)
    module = self.for_inference(self.module, wanted & self.options).to(getattr(torch, dtype))
    named = lambda result: self.outputs(result, frames.shape)
    arrays = lambda result: {key: library.numpy_of(tensor) for key, tensor in named(result).items()}
    return library.forward_side(name, module, self._input(frames, dtype), self.options, arrays)

  def gradient_side(self, name: str, frames: np.ndarray, dtype: str, output: str) -> Side:
    """The gradient of the mean square of an output, in training mode; its arrays bear the names of `tensors`."""
    module = copy.deepcopy(self.module).to(getattr(torch, dtype))
    loss = lambda result: self.outputs(result, frames.shape)[output].float().square().mean()
    arrays = lambda gradients: {key: library.numpy_of(tensor) for key, tensor in gradients.items()}
    return library.gradient_side(name, module, self._input(frames, dtype), loss, arrays)

  def _input(self, frames: np.ndarray, dtype: str) -> torch.Tensor:
    where = next(self.module.parameters()).device
    return self.read(torch.from_numpy(frames).to(where)).to(getattr(torch, dtype))


def dinov3(config: DINOv3Config, platform: str) -> TorchPeer:
  """DINOv3 of transformers; every parameter drawn, so that none can be forgotten unnoticed."""
  from transformers import DINOv3ViTConfig, DINOv3ViTModel

  sizes = DINOv3ViTConfig(
    hidden_size=config.width,
    num_hidden_layers=config.depth,
    num_attention_heads=config.heads,
    intermediate_size=config.mlp_width,
    patch_size=config.patch,
    num_register_tokens=config.registers,
    use_gated_mlp=config.gated_mlp,
    hidden_act="silu" if config.gated_mlp else "gelu",
    image_size=config.image_size,
    pos_embed_rescale=None,  # no augmentation of the positions where a gradient is taken
  )
  module = DINOv3ViTModel(sizes)
  _draw_vectors(module)

  def outputs(result: Any, shape: tuple[int, ...]) -> Outputs:
    x = result.last_hidden_state.unflatten(0, shape[:2])
    first = 1 + config.registers
    return {"tokens": x[:, :, first:], "cls": x[:, :, 0], "registers": x[:, :, 1:first]}

  return TorchPeer(
    module.eval().to(library.device(platform)),
    lambda frames: frames.flatten(0, 1).permute(0, 3, 1, 2),
    outputs,
    _with_attention,
    frozenset([_EXPLICIT]),
  )


@torch.no_grad()
def _draw_vectors(module: nn.Module) -> None:
  """Noise on biases, norms and scales, which are constants at first."""
  for parameter in module.parameters():
    if parameter.dim() == 1:
      parameter += 0.1 * torch.randn_like(parameter)


def _with_attention(module: nn.Module, options: frozenset[str]) -> nn.Module:
  module = copy.deepcopy(module)
  module.set_attn_implementation("eager" if _EXPLICIT in options else "sdpa")
  return module


def r3d(config: R3DConfig, platform: str) -> TorchPeer:
  """R3D-18, or a network of its kind, in mode "native" or "atrous"; batch norms are folded for inference."""
  module = R3D(config)
  draw_weights(module, torch.randn(2, 3, config.clip, config.image_size, config.image_size))

  def outputs(result: tuple[torch.Tensor, torch.Tensor | None], shape: tuple[int, ...]) -> Outputs:
    last, logits = result
    segments = last.mean((3, 4)).transpose(1, 2)
    named = {"grid": last.permute(0, 2, 3, 4, 1), "segments": segments, "pooled": segments.mean(1)}
    return named if logits is None else {**named, "logits": logits}

  return TorchPeer(
    module.to(library.device(platform)),
    lambda frames: frames.permute(0, 4, 1, 2, 3),
    outputs,
    lambda module, options: fold_batch_norms(module),
  )
