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


def prepare(
  frames: UInt8[Array, "B T H W 3"], size: int, normalisation: Normalisation
) -> Float[Array, "B T size size 3"]:
  """Scales to 0..1, resizes the short side to `size` (bilinear, antialiased), takes the centre, normalises; float32.

  Frames that are `size` x `size` already are only scaled and normalised.
  """
  x = frames.astype(jnp.float32) / 255
  height, width = x.shape[2:4]
  short = min(height, width)
  if short != size:
    height, width = round(height * size / short), round(width * size / short)
    x = jax.image.resize(x, (*x.shape[:2], height, width, 3), "bilinear", antialias=True)
  top, left = (height - size) // 2, (width - size) // 2
  x = x[:, :, top : top + size, left : left + size]
  return (x - jnp.asarray(normalisation.mean)) / jnp.asarray(normalisation.std)
