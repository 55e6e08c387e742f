"""Writes torchvision_seeded.npz: what torchvision's networks answer when every weight is generated from its name.

    python -m tests.golden.make_torchvision_seeded

Made with torchvision 0.28 and torch 2.13, on a CPU. For r3d_18 (174 outputs), resnet50 and resnet18 (5 outputs), each
in inference mode on one input: "logits" in float32 and in float64; of each stage the "mean_over_batch_and_pos"
[channels], the "shape" and the "corner" (first image, first four channels, first two positions of each axis); and
"tensors", lines such as "conv1.weight 64 3 7 7". Input and weights are made again by whoever reads it.
"""

import pathlib
import zlib

import numpy as np

FILE = pathlib.Path(__file__).with_name("torchvision_seeded.npz")
NETWORKS = {  # outputs, shape of the input, stages
  "r3d_18": (174, (2, 3, 8, 56, 56), ("stem", "layer1", "layer2", "layer3", "layer4", "avgpool")),
  "resnet50": (5, (2, 3, 96, 96), ("maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool")),
  "resnet18": (5, (2, 3, 96, 96), ("maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool")),
}


def read(network: str) -> dict[str, np.ndarray]:
  """The numbers of one network, by what they are: "logits", "layer1/shape", ..."""
  with np.load(FILE) as file:
    return {name.removeprefix(f"{network}/"): file[name] for name in file.files if name.startswith(f"{network}/")}


def weights(network: str) -> dict[str, np.ndarray]:
  """Every tensor of one network under its published name."""
  lines = [line.split() for line in read(network)["tensors"]]
  return {name: draw(name, tuple(map(int, shape))) for name, *shape in lines}


def inputs(network: str) -> np.ndarray:
  """float32 [B, C, (T,) H, W]."""
  return np.random.default_rng(7).standard_normal(NETWORKS[network][1]).astype(np.float32)


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  if name.endswith("num_batches_tracked"):
    return np.zeros(shape, np.int64)
  if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)
  values = rng.standard_normal(shape)
  return (values * (0.1 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[1:])))).astype(np.float32)


def _answers(network: str, module) -> dict[str, np.ndarray]:
  """Numbers of a torchvision module with the weights of its names."""
  import torch

  state = module.state_dict()
  module.load_state_dict({name: torch.from_numpy(draw(name, tuple(tensor.shape))) for name, tensor in state.items()})
  module.eval()
  numbers = {"tensors": np.array([" ".join([name, *map(str, tensor.shape)]) for name, tensor in state.items()])}

  def note(stage: str, x: torch.Tensor) -> None:
    numbers[f"{stage}/mean_over_batch_and_pos"] = x.mean((0, *range(2, x.ndim))).numpy()
    numbers[f"{stage}/shape"] = np.array(x.shape)
    numbers[f"{stage}/corner"] = x[(0, slice(4), *[slice(2)] * (x.ndim - 2))].numpy()

  _, shape, stages = NETWORKS[network]
  hooks = [
    module.get_submodule(stage).register_forward_hook(lambda _, __, x, stage=stage: note(stage, x)) for stage in stages
  ]
  x = torch.from_numpy(inputs(network))
  with torch.no_grad():
    numbers |= {"input_seed7_shape": np.array(shape), "logits": module(x).numpy()}
    for hook in hooks:
      hook.remove()
    numbers["logits_f64"] = module.double()(x.double()).numpy()
  return numbers


def main() -> None:
  import torchvision

  numbers = {}
  for network, (classes, _, _) in NETWORKS.items():
    module = torchvision.models.get_model(network, weights=None, num_classes=classes)
    numbers |= {f"{network}/{name}": value for name, value in _answers(network, module).items()}
  np.savez_compressed(FILE, **numbers)


if __name__ == "__main__":
  main()
