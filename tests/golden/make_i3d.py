"""Writes i3d.npz: what I3D answers when every weight is generated from its name, by a second implementation.

    python -m tests.golden.make_i3d

Made on a CPU with jax.lax's own 3-D convolution and pooling, whose "SAME" is TensorFlow's, straight from the published
names and without any module of gasmcast: "grid" [1, S, h, w, D] and "logits" [1, classes] for one clip, whose height
becomes odd on the way, so that the padding differs between the axes; the head averages what there is in space.
"tensors" holds lines such as "params|Conv3d_1a_7x7|Conv_0|kernel 7 7 7 3 64". Input and weights are made again by
whoever reads it.
"""

import pathlib
import zlib
from collections.abc import Mapping

import numpy as np

FILE = pathlib.Path(__file__).with_name("i3d.npz")
SHAPE = (1, 16, 66, 96, 3)
CLASSES = 5
# Branches of each Mixed block: 1x1x1; 1x1x1, 3x3x3; 1x1x1, 3x3x3; 1x1x1 after the pool.
BLOCKS = {
  "3b": (64, 96, 128, 16, 32, 32),
  "3c": (128, 128, 192, 32, 96, 64),
  "4b": (192, 96, 208, 16, 48, 64),
  "4c": (160, 112, 224, 24, 64, 64),
  "4d": (128, 128, 256, 24, 64, 64),
  "4e": (112, 144, 288, 32, 64, 64),
  "4f": (256, 160, 320, 32, 128, 128),
  "5b": (256, 160, 320, 32, 128, 128),
  "5c": (384, 192, 384, 48, 128, 128),
}


def weights() -> dict[str, np.ndarray]:
  """Every tensor under its published name."""
  with np.load(FILE) as file:
    lines = [line.split() for line in file["tensors"]]
  return {name: draw(name, tuple(map(int, shape))) for name, *shape in lines}


def inputs() -> np.ndarray:
  """float32 [B, T, H, W, C]."""
  return np.random.default_rng(7).standard_normal(SHAPE).astype(np.float32)


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  if name.endswith("|var"):
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)
  values = rng.standard_normal(shape)
  return (values * (np.sqrt(2 / np.prod(shape[:-1])) if name.endswith("|kernel") else 0.1)).astype(np.float32)


def shapes() -> dict[str, tuple[int, ...]]:
  """Published name -> shape, of the whole file."""
  found = {}

  def unit(path: str, size: int, inputs: int, features: int) -> None:
    found[f"params|{path}|Conv_0|kernel"] = (size, size, size, inputs, features)
    found[f"params|{path}|BatchNorm_0|bias"] = (features,)
    for name in ("mean", "var"):
      found[f"batch_stats|{path}|BatchNorm_0|{name}"] = (1, 1, 1, 1, features)

  unit("Conv3d_1a_7x7", 7, 3, 64)
  unit("Conv3d_2b_1x1", 1, 64, 64)
  unit("Conv3d_2c_3x3", 3, 64, 192)
  channels = 192
  for block, (a0, a1, b1, a2, b2, b3) in BLOCKS.items():
    branches = (("0/Conv3d_0a_1x1", 1, channels, a0), ("1/Conv3d_0a_1x1", 1, channels, a1))
    branches += (("1/Conv3d_0b_3x3", 3, a1, b1), ("2/Conv3d_0a_1x1", 1, channels, a2))
    branches += (("2/Conv3d_0b_3x3", 3, a2, b2), ("3/Conv3d_0b_1x1", 1, channels, b3))
    for branch, *sizes in branches:
      unit(f"Mixed_{block}|Branch_{branch}", *sizes)
    channels = a0 + b1 + b2 + b3
  found["params|Logits/Conv3d_0c_1x1|Conv_0|kernel"] = (1, 1, 1, channels, CLASSES)
  found["params|Logits/Conv3d_0c_1x1|Conv_0|bias"] = (CLASSES,)
  return found


def answer(tensors: Mapping[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
  """The network after Carreira & Zisserman (CVPR 2017), Figure 3, one published layer a line."""
  import jax
  import jax.numpy as jnp
  from jax import lax

  def conv(x, path, stride=1):
    kernel = tensors[f"params|{path}|Conv_0|kernel"]
    order = ("NDHWC", "DHWIO", "NDHWC")
    x = lax.conv_general_dilated(x, kernel, (stride,) * 3, "SAME", dimension_numbers=order)
    mean, var = (tensors[f"batch_stats|{path}|BatchNorm_0|{name}"] for name in ("mean", "var"))
    return jax.nn.relu((x - mean) / jnp.sqrt(var + 1e-3) + tensors[f"params|{path}|BatchNorm_0|bias"])

  def pool(x, window, strides):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), "SAME")

  def mixed(x, block):
    branch = f"Mixed_{block}|Branch_"
    ends = [
      conv(x, f"{branch}0/Conv3d_0a_1x1"),
      conv(conv(x, f"{branch}1/Conv3d_0a_1x1"), f"{branch}1/Conv3d_0b_3x3"),
      conv(conv(x, f"{branch}2/Conv3d_0a_1x1"), f"{branch}2/Conv3d_0b_3x3"),
      conv(pool(x, (3, 3, 3), (1, 1, 1)), f"{branch}3/Conv3d_0b_1x1"),
    ]
    return jnp.concatenate(ends, -1)

  x = conv(x, "Conv3d_1a_7x7", 2)
  x = pool(x, (1, 3, 3), (1, 2, 2))
  x = conv(conv(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
  x = pool(x, (1, 3, 3), (1, 2, 2))
  x = mixed(mixed(x, "3b"), "3c")
  x = pool(x, (3, 3, 3), (2, 2, 2))
  for block in ("4b", "4c", "4d", "4e", "4f"):
    x = mixed(x, block)
  x = pool(x, (2, 2, 2), (2, 2, 2))
  grid = mixed(mixed(x, "5b"), "5c")
  window = (1, 2, *grid.shape[2:4], 1)
  x = lax.reduce_window(grid, 0.0, lax.add, window, (1,) * 5, "VALID") / np.prod(window)
  kernel, bias = (tensors[f"params|Logits/Conv3d_0c_1x1|Conv_0|{name}"] for name in ("kernel", "bias"))
  logits = jnp.einsum("bthwc,cd->bthwd", x, kernel[0, 0, 0]) + bias
  return {"grid": np.asarray(grid), "logits": np.asarray(logits.mean((1, 2, 3)))}


def main() -> None:
  tensors = {name: draw(name, shape) for name, shape in shapes().items()}
  lines = [" ".join([name, *map(str, tensor.shape)]) for name, tensor in tensors.items()]
  np.savez_compressed(FILE, tensors=np.array(lines), **answer(tensors, inputs()))


if __name__ == "__main__":
  main()
