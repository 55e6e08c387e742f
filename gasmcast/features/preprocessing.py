"""From uint8 frames to what a backbone was trained on, inside jit: uint8 crosses to the device, nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


@dataclasses.dataclass(frozen=True)
class Normalisation:
  """Per-channel mean and standard deviation, on the scale 0..1, RGB."""

  mean: tuple[float, float, float]
  std: tuple[float, float, float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KINETICS = Normalisation((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
SYMMETRIC = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # -1..1


def with_margin(size: int) -> int:
  """The short side that frames are resized to before their centre is taken, 8/7 of it: 256 for 224, 128 for 112, 292
  for 256, as most networks were evaluated by their authors."""
  return size * 8 // 7


def prepare(
  frames: UInt8[Array, "B T H W 3"], size: int, normalisation: Normalisation, short_side: int | None = None
) -> Float[Array, "B T size size 3"]:
  """Scales to 0..1, resizes (bilinear, antialiased), takes the centre, normalises; float32.

  Args:
    size: of the square that comes out. Frames of exactly this size are neither resized nor cropped.
    short_side: what the short side is resized to; None for `size`.
  """
  x = frames.astype(jnp.float32) / 255
  height, width = x.shape[2:4]
  if (height, width) != (size, size):
    scale = (short_side or size) / min(height, width)
    height, width = round(height * scale), round(width * scale)
    if (height, width) != x.shape[2:4]:
      x = jax.image.resize(x, (*x.shape[:2], height, width, 3), "bilinear", antialias=True)
  top, left = (height - size) // 2, (width - size) // 2
  x = x[:, :, top : top + size, left : left + size]
  return (x - jnp.asarray(normalisation.mean)) / jnp.asarray(normalisation.std)
