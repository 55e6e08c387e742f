"""What a video is like: one pass over the file gives the numbers by which unfit clips are found.

A file is read once for its hash and decoded once to its end. The pixels that are looked at are those of sampled pairs
of successive frames: all pairs of a video of up to 32 frames; of longer ones 16 to 32 pairs, spread evenly, the spacing
being a power of two. Sampled frames are halved by averages of 2 x 2 pixels until the shorter side is at most 64, and
turned to luma, so that probing costs little more than decoding, noise of the codec averages out, and the numbers of
videos of different sizes can be compared. A folder of extracted frames is not decoded to its end: of it only the
sampled frames are opened.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from jaxtyping import UInt8

from gasmcast.core.errors import DataError
from gasmcast.core.manifest import hash_file, hash_json
from gasmcast.videos import frame_folder
from gasmcast.videos.decode import Header, Scan, scan_frames

SHORT_SIDE = 64
MAX_PAIRS = 32

_BLACK_LUMA = 16
_BLACK_CONTRAST = 10
_CODEC_NOISE = 4  # largest difference of a shrunk pixel between two encodings of the same picture
_GRADIENT = 2  # a smaller difference of neighbours is noise, not structure


@dataclasses.dataclass(frozen=True)
class Probe:
  """Numbers of a video, or of its part.

  Attributes:
    frames: that decode.
    promised: number of frames by the container's header, None where it doesn't say.
    rate: frames a second, 0 where unknown.
    height: pixels.
    width: pixels.
    codec: its four-character code, "" where unknown or for a folder of frames.
    seconds: frames / rate, 0 where the rate is unknown.
    bytes: of the whole file, or of all files of a folder.
    blake3: of the whole file; of a folder, that of the names and sizes of its files.
    brightness: mean luma, 0 to 255.
    contrast: standard deviation of luma inside a frame, mean over frames.
    sharpness: variance of the Laplacian of luma, median over frames.
    motion: mean absolute difference of luma between successive frames, 0 to 255; 0 for a single frame.
    black: share of frames whose mean luma is below 16 and whose contrast is below 10.
    frozen: share of pairs of successive frames that show the same picture: no shrunk pixel differs by over 4.
    signature: hash of the looks of the first, middle and last sampled frame, 16 hexadecimal digits each: a bit for
      each pixel of 9 x 8 that is brighter than its right neighbour by over 2. It mostly survives another codec or size;
      zeros alone stand for pictures without structure.
  """

  frames: int
  promised: int | None
  rate: float
  height: int
  width: int
  codec: str
  seconds: float
  bytes: int
  blake3: str
  brightness: float
  contrast: float
  sharpness: float
  motion: float
  black: float
  frozen: float
  signature: str


@dataclasses.dataclass(frozen=True)
class QualityConfig:
  """Where a flag begins.

  Attributes:
    min_frames: fewer are "short".
    min_seconds: less is "short", where the rate is known.
    min_side: a shorter side below so many pixels is "small".
    max_black: a larger share of black frames is "black".
    max_frozen: a larger share of pairs without change is "frozen".
    max_miscount: frames more or less than the header promises, beyond which a video is "miscounted".
  """

  min_frames: int = 8
  min_seconds: float = 0.5
  min_side: int = 64
  max_black: float = 0.5
  max_frozen: float = 0.9
  max_miscount: int = 0


def probe(
  path: str | os.PathLike,
  start: float | None = None,
  stop: float | None = None,
  rate: float | None = None,
  digest: str | None = None,
) -> Probe:
  """Probes a video file, or a folder of extracted frames; or the part [start, stop) of it.

  Args:
    path: a file as of `decode.read_frames`, or a folder as of `frame_folder.read_frames`.
    start: first moment in seconds, None for the beginning.
    stop: end in seconds, None for the end.
    rate: frames a second of a folder of frames; None says that `path` is a video file.
    digest: `Probe.blake3` of this path where it is known from another part, so that it isn't computed again.

  Raises:
    DataError: what `read_frames` would refuse.
  """
  sampler = _Sampler()
  if rate is None:
    scan = scan_frames(path, sampler.wants, sampler.take, start, stop)
  else:
    scan = _scan_folder(path, sampler, rate, start, stop)
  try:
    size = pathlib.Path(path).stat().st_size if rate is None else sum(size for _, size in _files(path))
    digest = digest or (hash_file(path) if rate is None else hash_json(list(_files(path))))
  except OSError as error:
    raise DataError(f"{path} can't be read: {error.strerror}.") from error
  header = scan.header
  return Probe(
    frames=scan.frames,
    promised=scan.promised,
    rate=header.rate,
    height=header.height,
    width=header.width,
    codec=header.codec,
    seconds=scan.frames / header.rate if header.rate else 0.0,
    bytes=size,
    blake3=digest,
    **sampler.summary(),
  )


def flags(probe: Probe, config: QualityConfig) -> tuple[str, ...]:
  """What is wrong with a readable video: of "short", "small", "black", "frozen", "miscounted" those that hold."""
  wrong = {
    "short": probe.frames < config.min_frames or (probe.rate > 0 and probe.seconds < config.min_seconds),
    "small": min(probe.height, probe.width) < config.min_side,
    "black": probe.black > config.max_black,
    "frozen": probe.frozen > config.max_frozen,
    "miscounted": probe.promised is not None and abs(probe.frames - probe.promised) > config.max_miscount,
  }
  return tuple(flag for flag, holds in wrong.items() if holds)


@dataclasses.dataclass(frozen=True)
class _Frame:
  """A sampled frame and its difference from the one before it, where that was sampled too."""

  number: int
  luma: UInt8[np.ndarray, "H W"]
  brightness: float
  contrast: float
  sharpness: float
  mean_change: float | None
  max_change: float | None


class _Sampler:
  """Chooses pairs of successive frames while it isn't known how many there will be, and measures them."""

  def __init__(self):
    self._spacing = 1
    self._frames: list[_Frame] = []

  def wants(self, number: int) -> bool:
    return _in_pair(number, self._spacing)

  def take(self, number: int, frame: UInt8[np.ndarray, "H W 3"]) -> None:
    luma = cv2.cvtColor(_shrink(frame), cv2.COLOR_RGB2GRAY)
    before = self._frames[-1] if self._frames and self._frames[-1].number == number - 1 else None
    brightness, contrast = _mean_deviation(luma)
    self._frames.append(
      _Frame(
        number=number,
        luma=luma,
        brightness=brightness,
        contrast=contrast,
        sharpness=_mean_deviation(cv2.Laplacian(luma, cv2.CV_16S))[1] ** 2,
        mean_change=cv2.norm(luma, before.luma, cv2.NORM_L1) / luma.size if before else None,
        max_change=cv2.norm(luma, before.luma, cv2.NORM_INF) if before else None,
      )
    )
    if number >= MAX_PAIRS * self._spacing:
      self._spacing *= 2
      self._frames = [kept for kept in self._frames if _in_pair(kept.number, self._spacing)]

  def summary(self) -> dict[str, float | str]:
    frames = self._frames
    changes = [frame for frame in frames if frame.mean_change is not None]
    return {
      "brightness": _mean(frame.brightness for frame in frames),
      "contrast": _mean(frame.contrast for frame in frames),
      "sharpness": float(np.median([frame.sharpness for frame in frames])),
      "motion": _mean(frame.mean_change for frame in changes),
      "black": _mean(frame.brightness < _BLACK_LUMA and frame.contrast < _BLACK_CONTRAST for frame in frames),
      "frozen": _mean(frame.max_change <= _CODEC_NOISE for frame in changes),
      "signature": "".join(_look(frame.luma) for frame in (frames[0], frames[(len(frames) - 1) // 2], frames[-1])),
    }


def _shrink(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
  """Halved until a side is at most 64: this factor alone is fast. An odd last row or column falls away."""
  while min(frame.shape[:2]) > SHORT_SIDE:
    height, width = frame.shape[0] // 2, frame.shape[1] // 2
    frame = cv2.resize(frame[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
  return frame


def _mean_deviation(values: np.ndarray) -> tuple[float, float]:
  mean, deviation = cv2.meanStdDev(values)
  return float(mean[0, 0]), float(deviation[0, 0])


def _in_pair(number: int, spacing: int) -> bool:
  """Whether a frame belongs to one of the pairs (0, 1), (spacing, spacing + 1), (2 * spacing, ...) ..."""
  return number % spacing <= 1


def _mean(values: Iterable[float]) -> float:
  values = list(values)
  return float(np.mean(values)) if values else 0.0


def _look(luma: UInt8[np.ndarray, "H W"]) -> str:
  small = cv2.resize(luma, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
  return np.packbits(small[:, :-1] - small[:, 1:] > _GRADIENT).tobytes().hex()


def _scan_folder(
  folder: str | os.PathLike, sampler: _Sampler, rate: float, start: float | None, stop: float | None
) -> Scan:
  total = 0

  def choose(frames: int) -> np.ndarray:
    nonlocal total
    total, spacing = frames, 1
    while frames > MAX_PAIRS * spacing:
      spacing *= 2
    return np.array([number for number in range(frames) if _in_pair(number, spacing)], np.int64)

  header: Header = frame_folder.read_header(folder, rate)
  pictures = frame_folder.read_frames(folder, choose, rate, start, stop, 2 * SHORT_SIDE)  # 64 full ones would be large
  for number, picture in zip(choose(total), pictures, strict=True):
    sampler.take(int(number), picture)
  return Scan(header, total, total)


def _files(folder: str | os.PathLike) -> Iterator[tuple[str, int]]:
  """Name and size of each file in a folder, by name."""
  with os.scandir(folder) as entries:
    yield from sorted((entry.name, entry.stat().st_size) for entry in entries if entry.is_file())
