"""From a video file to the frames that were asked for, uint8 [T, H, W, 3] in RGB.

Decoding is by OpenCV (FFmpeg) with one thread a video: parallelism is over videos, and nearly all time is spent in the
codec. Every frame is decoded (`grab`), only the wanted ones are converted to pixels (`retrieve`); seeking to each
wanted frame would decode from the last key frame again and again.

How many frames a video has: OpenCV's frame count comes from the container's header and is at times wrong (of 253 real
files it was too large in 5: by 1 for four of six AVI files with B-frames, by 3 of 98 for one MP4; it was right for 240
of 240 WebM files). Frames that decode are the truth. So a video is decoded once to its end with the frames that the
header's count asks for; if the count turns out to be another, the frames are chosen again from the true one and the
video is decoded a second time. A file that yields far fewer frames than its header promises is damaged, because FFmpeg
reports the end of a truncated file as an ordinary end: see `_check_shortfall`.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Iterator

# Read by OpenCV when it first opens a video. A damaged file is reported by a DataError, not by lines on stderr.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
from jaxtyping import Int, UInt8

from gasmcast.core.errors import DataError
from gasmcast.videos.sample import frame_range
from gasmcast.videos.transforms import resize, short_side_shape

cv2.setNumThreads(0)  # several videos are read at once; a pool of threads inside each call would only compete
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

MAX_SIDE = 8192
MAX_FRAMES = 1_000_000
# A seek decodes up to one group of pictures twice; below this many frames it is cheaper to grab from the beginning.
SEEK_FROM = 250

# Only containers that hold their own frames: a playlist or an image pattern would make FFmpeg open other files.
_CONTAINERS = (
  ("WebM/Matroska", 0, (b"\x1aE\xdf\xa3",)),
  ("MP4/MOV", 4, (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")),
  ("AVI", 0, (b"RIFF",)),
)


@dataclasses.dataclass(frozen=True)
class Header:
  """What a video's container says of it.

  Attributes:
    frames: number of frames, None where the container doesn't say; it may be wrong by a few.
    rate: frames a second, 0 where unknown.
    height: pixels.
    width: pixels.
  """

  frames: int | None
  rate: float
  height: int
  width: int


def read_header(path: str | os.PathLike) -> Header:
  """Opens the file without decoding a frame.

  Raises:
    DataError: as `read_frames`, apart from what only decoding can show.
  """
  with _opened(path) as (_, header):
    return header


def read_frames(
  path: str | os.PathLike,
  choose: Callable[[int], Int[np.ndarray, "T"]],
  start: float | None = None,
  stop: float | None = None,
  short_side: int = 0,
) -> UInt8[np.ndarray, "T H W 3"]:
  """The chosen frames of a video, or of its part [start, stop).

  Args:
    path: a WebM/Matroska, MP4/MOV or AVI file.
    choose: frame count of the video (or part) -> frame numbers in it, in any order, repeats allowed. It may be called
      twice (with the header's count, then with the true one), so equal counts must give equal numbers.
    start: first moment in seconds, None for the beginning.
    stop: end in seconds, None for the end of the video.
    short_side: frames whose shorter side is larger are shrunk to this many pixels; 0 keeps all as they are.

  Raises:
    DataError: no such regular file, another container, an absurd size (a side over 8192 pixels, over 1,000,000
      frames), no frame in the part, undecodable frames. The message names the path and what was seen.
  """
  try:
    with _opened(path) as (capture, header):
      first, last = _part(path, header, start, stop)
      expected = _expected(header, first, last)
      indices = choose(expected) if expected else np.empty(0, np.int64)
      frames, count = _decode(path, capture, first, last, indices, short_side)
    _check_shortfall(path, first, expected, count)
    if count != expected:
      indices = choose(count)
      with _opened(path) as (capture, _):
        frames, _ = _decode(path, capture, first, first + int(max(indices)) + 1, indices, short_side)
    return np.stack([frames[index] for index in indices.tolist()])
  except cv2.error as error:
    raise DataError(f"{path}: OpenCV failed while decoding it: {error.err}.") from error


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[cv2.VideoCapture, Header]]:
  _check_container(path)
  capture = cv2.VideoCapture(*_source(path))
  try:
    if not capture.isOpened():
      raise DataError(f"{path} can't be opened as a video: its header is damaged or its codec unknown; replace it.")
    yield capture, _header(path, capture)
  finally:
    capture.release()


def _source(path: str | os.PathLike) -> tuple[str, int, list[int]]:
  """Arguments of VideoCapture. An absolute path, so that a file name ("concat:a") is never a protocol of FFmpeg."""
  return str(pathlib.Path(path).absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]


def _check_container(path: str | os.PathLike) -> None:
  file = pathlib.Path(path)
  if not file.is_file():
    raise DataError(f"{path} is not a file; a video is read from an existing regular file.")
  try:
    with open(file, "rb") as stream:
      begin = stream.read(12)
  except OSError as error:
    raise DataError(f"{path} can't be read: {error.strerror}.") from error
  if not any(begin[offset:].startswith(marks) for _, offset, marks in _CONTAINERS):
    names = ", ".join(name for name, _, _ in _CONTAINERS)
    raise DataError(f"{path} is no {names} file, it begins with {begin!r}; convert or replace it.")


def _header(path: str | os.PathLike, capture: cv2.VideoCapture) -> Header:
  frames, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
  height, width = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
  if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
    raise DataError(f"{path} has frames of {width} x {height} pixels; a side must be 1 to {MAX_SIDE}.")
  if frames > MAX_FRAMES:
    raise DataError(f"{path} promises {frames:.0f} frames, more than {MAX_FRAMES:,}; cut it into pieces.")
  usable = math.isfinite(rate) and rate > 0
  return Header(frames=int(frames) if frames >= 1 else None, rate=rate if usable else 0.0, height=height, width=width)


def _part(path: str | os.PathLike, header: Header, start: float | None, stop: float | None) -> tuple[int, int | None]:
  if start is None and stop is None:
    return 0, None
  begin = 0.0 if start is None else start
  end = math.inf if stop is None else stop
  if not 0 <= begin < end:
    raise DataError(f"{path}: the part [{start}, {stop}) seconds is empty; 0 <= start < stop is needed.")
  if not header.rate:
    raise DataError(f"{path} has no frame rate, so its part [{start}, {stop}) seconds can't be found; re-encode it.")
  return frame_range(start, stop, header.rate)


def _expected(header: Header, first: int, last: int | None) -> int:
  """Frames in [first, last) if the header is right; 0 where it doesn't say or says that there are none."""
  if header.frames is None:
    return 0
  return max(0, (header.frames if last is None else min(last, header.frames)) - first)


def _decode(
  path: str | os.PathLike,
  capture: cv2.VideoCapture,
  first: int,
  last: int | None,
  indices: Int[np.ndarray, "T"],
  short_side: int,
) -> tuple[dict[int, UInt8[np.ndarray, "H W 3"]], int]:
  """Decodes [first, last) to its end: the frames `indices` (counted from `first`) and how many frames there were."""
  _go_to(path, capture, first)
  wanted, frames, count = set(indices.tolist()), {}, 0
  while (last is None or first + count < last) and capture.grab():
    if count in wanted:
      frames[count] = _retrieve(path, capture, first + count, short_side)
    count += 1
    if count > MAX_FRAMES:
      raise DataError(f"{path} has more than {MAX_FRAMES:,} frames; cut it into pieces.")
  return frames, count


def _go_to(path: str | os.PathLike, capture: cv2.VideoCapture, first: int) -> None:
  """Makes `first` the next frame of a fresh capture; where the seek went elsewhere, by grabbing all before it."""
  if first >= SEEK_FROM:
    capture.set(cv2.CAP_PROP_POS_FRAMES, first)
    if capture.get(cv2.CAP_PROP_POS_FRAMES) == first:
      return
    capture.open(*_source(path))
  for _ in range(first):
    if not capture.grab():
      return


def _retrieve(
  path: str | os.PathLike, capture: cv2.VideoCapture, number: int, short_side: int
) -> UInt8[np.ndarray, "H W 3"]:
  ok, frame = capture.retrieve()
  if not ok:
    raise DataError(f"{path}: frame {number} can't be converted to pixels; replace the file.")
  if 0 < short_side < min(frame.shape[:2]):
    frame = resize(frame, *short_side_shape(*frame.shape[:2], short_side))
  return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _check_shortfall(path: str | os.PathLike, first: int, expected: int, count: int) -> None:
  """Refuses a damaged video: one that ends earlier than its header promises by over 1 frame and one in 25 (10 at most).

  Intact files ended up to 1 of 49 and 3 of 98 frames early; one that is cut off in the middle does by far more.
  """
  if count == 0:
    raise DataError(
      f"{path}: no frame could be decoded{_from(first)} (its header promises {expected}); replace the file."
    )
  if count < expected - 1 - min((first + expected) // 25, 10):
    raise DataError(
      f"{path}: only {count} of {expected} frames could be decoded{_from(first)}; the file is cut off, damaged or of "
      "varying frame rate: replace it or encode it again."
    )


def _from(first: int) -> str:
  return f" from frame {first} on" if first else ""
