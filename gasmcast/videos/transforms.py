"""Geometry and colour of a clip: uint8 [T, H, W, 3] in, uint8 [T, size, size, 3] out.

Every random transform takes ONE decision for the whole clip, so that motion between frames stays what it was, and
draws it from the generator that it is handed. Normalisation is not done here: uint8 crosses to the device.
"""

import dataclasses
import math
from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Int, UInt8

Clip = UInt8[np.ndarray, "T H W 3"]

# Luma of ITU-R BT.601, the weights of "grey" in the definitions of contrast and saturation.
_LUMA = np.array([0.299, 0.587, 0.114])
_CROP_ATTEMPTS = 10


def resize(image: UInt8[np.ndarray, "H W 3"], height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
  """Area average where neither side grows (anti-aliased), bilinear otherwise."""
  if image.shape[:2] == (height, width):
    return image
  shrinks = height <= image.shape[0] and width <= image.shape[1]
  return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def short_side_shape(height: int, width: int, short_side: int) -> tuple[int, int]:
  """(height, width) with the shorter side `short_side` and the proportions kept, the longer one rounded half up."""
  short = min(height, width)
  return (2 * height * short_side + short) // (2 * short), (2 * width * short_side + short) // (2 * short)


@dataclasses.dataclass(frozen=True)
class ResizeCentreCrop:
  """Resizes the shorter side to `size` and cuts the square in the middle: the transform of evaluation."""

  size: int

  def __call__(self, clip: Clip) -> Clip:
    height, width = short_side_shape(*clip.shape[1:3], self.size)
    top, left = (height - self.size) // 2, (width - self.size) // 2
    cropped = np.empty((len(clip), self.size, self.size, 3), np.uint8)
    for frame, target in zip(clip, cropped, strict=True):
      target[:] = resize(frame, height, width)[top : top + self.size, left : left + self.size]
    return cropped


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
  """A random box, resized to a square (Szegedy et al. 2015, section 6; arXiv 1409.4842).

  Attributes:
    size: side of the square in pixels.
    scale: bounds of the box's share of the frame's area, drawn uniformly.
    ratio: bounds of the box's width / height, drawn log-uniformly. A box that does not fit into the frame is drawn
      again; after 10 attempts it is the largest centred box whose ratio is within the bounds.
  """

  size: int
  scale: tuple[float, float]
  ratio: tuple[float, float]

  def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
    top, left, height, width = self.box(*clip.shape[1:3], rng)
    cropped = np.empty((len(clip), self.size, self.size, 3), np.uint8)
    for frame, target in zip(clip, cropped, strict=True):
      target[:] = resize(frame[top : top + height, left : left + width], self.size, self.size)
    return cropped

  def box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a box inside a frame of this height and width, in pixels."""
    for _ in range(_CROP_ATTEMPTS):
      area = height * width * rng.uniform(*self.scale)
      ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
      box_height, box_width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
      if 0 < box_height <= height and 0 < box_width <= width:
        top, left = rng.integers(0, height - box_height + 1), rng.integers(0, width - box_width + 1)
        return int(top), int(left), box_height, box_width
    ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
    box_height, box_width = min(height, round(width / ratio)), min(width, round(height * ratio))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


@dataclasses.dataclass(frozen=True)
class ColourJitter:
  """Brightness, then contrast, then saturation, each by a factor drawn uniformly from [1 - strength, 1 + strength].

  Brightness multiplies, contrast moves away from the clip's mean grey, saturation away from each pixel's own grey.
  The three are affine maps of RGB and are applied as one, so values are rounded and clipped to [0, 255] only once.
  """

  brightness: float
  contrast: float
  saturation: float

  def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
    brightness, contrast, saturation = (
      rng.uniform(1 - strength, 1 + strength) for strength in (self.brightness, self.contrast, self.saturation)
    )
    if brightness == contrast == saturation == 1:
      return clip
    rows = clip.reshape(-1, clip.shape[2], 3)
    grey = float(_LUMA @ cv2.mean(rows)[:3])
    mixing = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    offset = np.full((3, 1), (1 - contrast) * brightness * grey)  # grey, so the saturation leaves it alone
    return cv2.transform(rows, np.hstack([brightness * contrast * mixing, offset])).reshape(clip.shape)


@dataclasses.dataclass(frozen=True)
class HorizontalFlip:
  """Mirrors the clip with the given probability and replaces each label by the class of the mirrored action.

  Attributes:
    probability: of mirroring.
    class_maps: label name -> the class after mirroring, by class (`datasets.labels.flip_map`). Labels that are not
      named stay.
  """

  probability: float
  class_maps: Mapping[str, Int[np.ndarray, "classes"]]

  def __call__(self, clip: Clip, labels: Mapping[str, int], rng: np.random.Generator) -> tuple[Clip, Mapping[str, int]]:
    if rng.random() >= self.probability:
      return clip, labels
    mirrored = {name: int(mapped[labels[name]]) for name, mapped in self.class_maps.items() if name in labels}
    rows = clip.reshape(-1, clip.shape[2], 3)  # one call of cv2.flip is ten times as fast as a copy by numpy
    return cv2.flip(rows, 1).reshape(clip.shape), {**labels, **mirrored}
