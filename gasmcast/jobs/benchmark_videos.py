"""The videos that job benchmark decodes: rendered and encoded once in a process, or files of a folder."""

import atexit
import dataclasses
import functools
import importlib
import pathlib
import shutil
import tempfile
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8

from gasmcast.core.config import require
from gasmcast.core.errors import ConfigError
from gasmcast.core.rng import generator
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets.generated import motions, objects, rendering
from gasmcast.jobs.benchmark_peers import INSTALL

SUFFIXES = {"vp9": ".webm", "h264": ".mp4"}
CLASSES = {"action": ("Moving something",)}


@dataclasses.dataclass(frozen=True)
class Videos:
  """Which videos.

  Attributes:
    codec: "vp9" in WebM or "h264" in MP4.
    count: videos.
    frames: of each.
    height, width: pixels; H.264 leaves out the last column or row of an odd number.
    rate: frames a second.
    bits: a second; Something-Something-V2 has about 180,000.
    encoder: function that writes a video, "module:function"; without its library OpenCV writes the VP9.
    folder: of videos that are taken in place of rendered ones, the first `count` by name; "" renders.
  """

  codec: Literal["vp9", "h264"] = "vp9"
  count: int = 6
  frames: int = 48
  height: int = 240
  width: int = 427
  rate: int = 12
  bits: int = 180_000
  encoder: str = "benchmarks.decode_peers:encode"
  folder: str = ""

  def __post_init__(self):
    for name in ("count", "rate", "bits"):
      require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)}: it must be at least 1.")
    require(self.frames >= 2, f"frames = {self.frames}: a video that shows a motion has at least 2.")
    require(min(self.height, self.width) >= 32, f"{self.width} x {self.height} pixels: at least 32 x 32 are needed.")

  @property
  def described(self) -> str:
    """In words."""
    where = f"of {self.folder}" if self.folder else f"of {self.frames} frames {self.width} x {self.height}"
    return f"{self.count} videos {where}, {self.codec.upper()}"


def paths(videos: Videos) -> tuple[str, ...]:
  """The files.

  Raises:
    ConfigError: the folder holds fewer videos.
    ModuleNotFoundError: no encoder of this codec is installed.
  """
  if not videos.folder:
    return _rendered(videos)
  found = sorted(pathlib.Path(videos.folder).glob(f"*{SUFFIXES[videos.codec]}"))[: videos.count]
  if len(found) < videos.count:
    raise ConfigError(f"{videos.folder} holds {len(found)} files *{SUFFIXES[videos.codec]}; {videos.count} are needed.")
  return tuple(map(str, found))


def dataset(videos: Videos, repeats: int = 1) -> Dataset:
  """The videos, each `repeats` times, as examples of one class. Errors: see `paths`."""
  files = paths(videos) * repeats
  examples = tuple(Example(str(number), path, {"action": 0}) for number, path in enumerate(files))
  return Dataset("benchmark", "train", examples, CLASSES, "benchmark")


def scratch_folder() -> str:
  """An empty folder that is removed when the process ends."""
  folder = tempfile.mkdtemp(prefix="gasmcast-benchmark-")
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  return folder


@functools.cache
def _rendered(videos: Videos) -> tuple[str, ...]:
  """Kept until the process ends: cases share them."""
  encode, folder = _encoder(videos), scratch_folder()
  files = [f"{folder}/{number}{SUFFIXES[videos.codec]}" for number in range(videos.count)]
  for number, file in enumerate(files):
    encode(file, _render(videos, number), videos.codec, videos.rate, videos.bits)
  return tuple(files)


def _render(videos: Videos, number: int) -> UInt8[np.ndarray, "T H W 3"]:
  rng = generator(0, "benchmark", number)
  kinds = objects.split_kinds(0, {"train": 1.0})["train"]
  template = motions.TEMPLATES[number % len(motions.TEMPLATES)]
  chosen = rng.choice(len(kinds), motions.objects_needed(template), replace=False)
  sprites = tuple(objects.draw(kinds[kind], rng) for kind in chosen)
  return rendering.render(motions.motion(template, rng), sprites, videos.frames, videos.height, videos.width, rng)


def _encoder(videos: Videos):
  module, _, function = videos.encoder.partition(":")
  try:
    return getattr(importlib.import_module(module), function)()
  except ImportError as error:
    if videos.codec == "vp9":
      return _encode_vp9
    raise ModuleNotFoundError(
      f"no encoder of H.264 ({error}); {INSTALL} adds one, or name a folder of MP4 files in videos.folder"
    ) from error


def _encode_vp9(path: str, frames: UInt8[np.ndarray, "T H W 3"], codec: str, rate: int, bits: int) -> None:
  """By OpenCV, which chooses the bits itself."""
  writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"VP90"), rate, frames.shape[2:0:-1])
  for frame in frames:
    writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
  writer.release()
