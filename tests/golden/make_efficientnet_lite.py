"""Writes efficientnet_lite.npz: what EfficientNet-Lite0 answers when every weight is generated from its name.

    python -m tests.golden.make_efficientnet_lite

Made with efficientnet_lite_pytorch 0.1.0 (PyPI, Apache-2.0) and torch 2.13, on a CPU, for 5 outputs and two images of
odd height, so that the padding differs between the axes: "logits" in float32 and float64, "head" [B, D, h, w] after the
last convolution as its mean over positions [B, D] and its corner [B, 4, h, w], and "tensors", lines such as
"_fc.weight 5 1280". Input and weights are made again by whoever reads it, as in make_torchvision_seeded.py.
"""

import pathlib

import numpy as np

from tests.golden.make_torchvision_seeded import draw

FILE = pathlib.Path(__file__).with_name("efficientnet_lite.npz")
SHAPE = (2, 3, 75, 96)


def weights() -> dict[str, np.ndarray]:
  """Every tensor under its published name."""
  with np.load(FILE) as file:
    lines = [line.split() for line in file["tensors"]]
  return {name: draw(name, tuple(map(int, shape))) for name, *shape in lines}


def inputs() -> np.ndarray:
  """float32 [B, C, H, W]."""
  return np.random.default_rng(7).standard_normal(SHAPE).astype(np.float32)


def main() -> None:
  import efficientnet_lite_pytorch
  import torch

  net = efficientnet_lite_pytorch.EfficientNet.from_name("efficientnet-lite0", image_size=SHAPE[2:], num_classes=5)
  state = net.state_dict()
  net.load_state_dict({name: torch.from_numpy(draw(name, tuple(tensor.shape))) for name, tensor in state.items()})
  net.eval()
  x = torch.from_numpy(inputs())
  with torch.no_grad():
    head = net.extract_features(x)
    logits = net._fc(head.mean((2, 3)))
    net.double()
    logits_f64 = net._fc(net.extract_features(x.double()).mean((2, 3)))
  np.savez_compressed(
    FILE,
    tensors=np.array([" ".join([name, *map(str, tensor.shape)]) for name, tensor in state.items()]),
    logits=logits.numpy(),
    logits_f64=logits_f64.numpy(),
    head_mean=head.mean((2, 3)).numpy(),
    head_corner=head[:, :4].numpy(),
  )


if __name__ == "__main__":
  main()
