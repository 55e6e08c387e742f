"""Job inspect: looks at real clips through two backbones, one picture and one file of numbers a clip.

Writes to <workdir>/inspection: <clip>.png, <clip>.json and, with config.inspect.save_features, <clip>.npz. It needs no
system and no training; see reports/inspection.py for what the picture shows.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.table import Table

from gasmcast import features
from gasmcast.core.config import require, to_dict
from gasmcast.core.errors import DataError
from gasmcast.core.manifest import atomic_file, hash_file, write_json
from gasmcast.datasets.generated import moving_objects
from gasmcast.features.backbones import BACKBONES, FAMILIES
from gasmcast.features.network import RANDOM, Network
from gasmcast.jobs import records
from gasmcast.jobs.run import Run
from gasmcast.metrics.feature_quality import held_still, relative_change
from gasmcast.reports.inspection import Backbone, Inspection, inspection_figure, measurements, table, title
from gasmcast.reports.theme import LIGHT, raster
from gasmcast.videos.decode import read_frames, read_header
from gasmcast.videos.sample import centre_frames, frame_range
from gasmcast.videos.transforms import ResizeCentreCrop

RENDERED = "rendered"  # in place of a path: a clip made by datasets/generated
_RENDERED_RECIPE = moving_objects.Recipe(train=12, validation=12, test=12)
_SUFFIXES = (".webm", ".mkv", ".mp4", ".m4v", ".mov", ".avi")
_DPI = 130


@dataclasses.dataclass(frozen=True)
class NetworkChoice:
  """A backbone as `features.load` takes it.

  Attributes:
    name: key of `BACKBONES`.
    weights: None for the published default, "random", or a file, folder or Hugging Face id.
    options: fields of the family's config.
  """

  name: str
  weights: str | None = None
  options: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class InspectConfig:
  """What is looked at, and through what.

  Attributes:
    video: a file, a folder whose videos are looked at one by one, or "rendered" for a clip made here.
    semantic: gives patch tokens of every second frame.
    motion: gives segments of all frames.
    frames: of the clip, spread evenly; even.
    start, stop: the part of the video in seconds; None for its beginning, its end.
    save_features: writes everything that the networks return, as <clip>.npz.
  """

  video: str | None
  semantic: NetworkChoice
  motion: NetworkChoice
  frames: int = 16
  start: float | None = None
  stop: float | None = None
  save_features: bool = False

  def __post_init__(self):
    require(bool(self.video), "config.inspect.video is not set; give the path of a video or of a folder with videos.")
    require(
      self.frames >= 2 and self.frames % 2 == 0,
      f"config.inspect.frames = {self.frames}: the semantic network sees every second one; use an even number.",
    )
    for stream in ("semantic", "motion"):
      known = [name for name, one in BACKBONES.items() if FAMILIES[one.family].stream == stream]
      name = getattr(self, stream).name
      require(
        name in known,
        f"config.inspect.{stream}.name = {name!r} is no {stream} backbone; use one of {', '.join(known)}.",
      )


class Setup(Run):
  """A run with the section `inspect`.

  Raises:
    ConfigError: a field is unknown or impossible.
  """

  def __init__(
    self, config: Mapping[str, Any], workdir: str | os.PathLike, command: str, console: Console | None = None
  ):
    super().__init__(config, workdir, command, console)
    self.inspect = self.only_section("inspect", InspectConfig)


SETUP = Setup


def check(setup: Setup) -> None:
  """Refuses a path without a video before any weights are loaded."""
  if setup.inspect.video != RENDERED:
    find_videos(setup.inspect.video)


def run(setup: Setup) -> None:
  """Looks at every video. One that can't be read is left out, and the job fails after the others.

  Raises:
    DataError: a video can't be read.
    WeightsError: the weights of a network can't be had.
  """
  config, folder = setup.inspect, setup.workdir / "inspection"
  videos = _render(setup.workdir) if config.video == RENDERED else find_videos(config.video)
  networks = [
    features.load(choice.name, choice.weights, **choice.options) for choice in (config.semantic, config.motion)
  ]
  unreadable = []
  for name, video in _names(videos).items():
    try:
      clip = read_clip(video, config, max(network.config.image_size for network in networks))
    except DataError as error:
      unreadable.append(str(error))
      continue
    outputs, inspection = look(video.name, clip, *networks)
    with records.writing(folder):
      _write(folder / name, setup, video, clip, networks, outputs, inspection)
    _say(setup.console, inspection, folder / f"{name}.png")
  if unreadable:
    many = f"{len(unreadable)} of {len(videos)} videos could not be read: " if len(videos) > 1 else ""
    raise DataError(many + " ".join(unreadable))


def find_videos(path: str | os.PathLike) -> list[pathlib.Path]:
  """The video itself, or the videos of a folder in the order of their names.

  Raises:
    DataError: there is none.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise DataError(f"config.inspect.video = {str(path)!r} does not exist; give a video or a folder with videos.")
  if not path.is_dir():
    return [path]
  videos = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
  if not videos:
    raise DataError(f"{path} holds no video ({', '.join(_SUFFIXES)}); give a video or a folder with videos.")
  return videos


def _names(videos: list[pathlib.Path]) -> dict[str, pathlib.Path]:
  """What is written of each video is named after it, without its ending where that is enough to tell them apart."""
  stems = [video.stem for video in videos]
  return {video.stem if stems.count(video.stem) == 1 else video.name: video for video in videos}


def _render(workdir: pathlib.Path) -> list[pathlib.Path]:
  root = workdir / "rendered"
  moving_objects.generate(root, _RENDERED_RECIPE, 1)
  return sorted((root / "videos").iterdir())[:1]


@dataclasses.dataclass(frozen=True)
class Clip:
  """Frames of a video, uint8 [F, H, W, 3], their numbers in it, and its rate (0 where unknown)."""

  frames: UInt8[np.ndarray, "F H W 3"]
  numbers: tuple[int, ...]
  rate: float

  @property
  def moments(self) -> list[str]:
    """When each frame is shown, or its number where the video has no rate."""
    return [f"{number / self.rate:.2f} s" if self.rate else f"frame {number}" for number in self.numbers]


def read_clip(video: pathlib.Path, config: InspectConfig, short_side: int) -> Clip:
  """Frames from the middle of equal parts of the video.

  Raises:
    DataError: the video can't be read, or has no such part.
  """
  chosen = []

  def choose(total: int) -> np.ndarray:
    chosen[:] = centre_frames(total, config.frames).tolist()
    return np.asarray(chosen)

  frames = read_frames(video, choose, config.start, config.stop, short_side)
  rate = read_header(video).rate
  first = frame_range(config.start, config.stop, rate)[0] if rate else 0
  return Clip(frames, tuple(first + number for number in chosen), rate)


Outputs = dict[str, Float[np.ndarray, "..."]]


def look(name: str, clip: Clip, semantic: Network, motion: Network) -> tuple[dict[str, Outputs], Inspection]:
  """What the networks return for the clip, by stream and without the batch axis, and what the picture needs of it.

  Raises:
    DataError: the networks return values that are not finite.
  """
  seen = ResizeCentreCrop(semantic.config.image_size)(clip.frames)
  moving = ResizeCentreCrop(motion.config.image_size)(clip.frames)
  outputs = {"semantic": _outputs(semantic, seen[::2]), "motion": _outputs(motion, moving)}
  segments = outputs["motion"]["segments"]
  still = (_outputs(motion, held_still(moving, s, len(segments)))["segments"] for s in range(len(segments)))
  energy = np.array([relative_change(changed, segments) for changed in still])
  tokens = outputs["semantic"]["tokens"]
  return outputs, Inspection(
    name=name,
    frames=seen,
    moments=clip.moments,
    semantic=_backbone(semantic),
    motion=_backbone(motion),
    tokens=tokens.reshape(len(tokens), *semantic.config.grid, -1),
    segments=segments,
    energy=energy,
  )


def _outputs(network: Network, frames: UInt8[np.ndarray, "T H W 3"]) -> Outputs:
  return {name: np.asarray(output[0]) for name, output in network(frames[None]).items()}


def _backbone(network: Network) -> Backbone:
  size, mode = network.config.image_size, getattr(network.config, "mode", "")
  name = f"{network.name}{mode and f', {mode}'}, {size} x {size} pixels"
  return Backbone(name, network.origin, network.origin == RANDOM)


def _write(
  base: pathlib.Path,
  setup: Setup,
  video: pathlib.Path,
  clip: Clip,
  networks: list[Network],
  outputs: dict[str, Outputs],
  inspection: Inspection,
) -> None:
  numbers = measurements(inspection)
  for stream, network in zip(("semantic", "motion"), networks, strict=True):
    numbers[stream] |= {"options": to_dict(network.config), "fingerprint": network.fingerprint}
  path = lambda suffix: base.with_name(base.name + suffix)
  with atomic_file(path(".png")) as file:
    file.write(raster(inspection_figure(inspection), LIGHT, "png", _DPI))
  if setup.inspect.save_features:
    flat = {f"{stream}/{name}": array for stream, named in outputs.items() for name, array in named.items()}
    with atomic_file(path(".npz")) as file:
      np.savez_compressed(file, **flat)
  source = {"path": str(video), "blake3": hash_file(video), "frames": list(clip.numbers), "rate": clip.rate}
  meta = {"command": setup.command, "config": setup.raw, "versions": records.versions()}
  write_json(path(".json"), {"video": source, **numbers, "meta": meta})


def _say(console: Console, inspection: Inspection, picture: pathlib.Path) -> None:
  """The table of the picture, and where it is."""
  head, *lines = table(inspection)
  printed = Table(title=title(inspection), title_justify="left")
  for column in head:
    printed.add_column(column, justify="right" if column else "left")
  for line in lines:
    printed.add_row(*line)
  console.print(printed)
  console.print(f"picture  {picture}", soft_wrap=True)
