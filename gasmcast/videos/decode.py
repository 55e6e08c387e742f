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
import re
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

# Only containers that hold their own frames: a playlist or an image pattern would make FFmpeg open other files, and a
# session description (SDP) other machines. FFmpeg finds the latter in any file with a line "c=IN", unless the file is
# clearly of another kind; so for each kind the marks that leave FFmpeg no doubt are asked for.
_BEGIN = 4096
# OpenCV reports an end at each packet that can't be decoded and goes on behind it when it is asked again.
_TRIES_AFTER_END = 100
_CONTAINERS = {
  "WebM/Matroska": re.compile(rb"\x1aE\xdf\xa3.*?\x42\x82.{1,8}?(webm|matroska)", re.DOTALL),
  "MP4/MOV": re.compile(rb".{4}(ftyp|moov|mdat|free|wide|pnot)", re.DOTALL),
  "AVI": re.compile(rb"RIFF.{4}AVI[ X\x19]", re.DOTALL),
}
# A name with one of these characters and the ending of an image is to FFmpeg a pattern of names of images.
_PATTERN_CHARACTERS = "%*?{"
_ENDINGS = (".webm", ".mkv", ".mp4", ".m4v", ".mov", ".avi")


@dataclasses.dataclass(frozen=True)
class Header:
  """What a video's container says of it.

  Attributes:
    frames: number of frames, None where the container doesn't say; it may be wrong by a few.
    rate: frames a second, 0 where unknown.
    height: pixels.
    width: pixels.
    codec: its four-character code, "" where unknown.
  """

  frames: int | None
  rate: float
  height: int
  width: int
  codec: str = ""


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
      indices = _chosen(choose, expected) if expected else np.empty(0, np.int64)
      clip, count = _decode(path, capture, first, last, indices, short_side)
    _check_shortfall(path, first, expected, count)
    if count != expected:
      indices = _chosen(choose, count)
      with _opened(path) as (capture, _):
        clip, again = _decode(path, capture, first, first + int(max(indices)) + 1, indices, short_side)
      if again <= max(indices):
        raise DataError(f"{path} had {count} frames and then {again}; it changes while it is read.")
    return clip
  except cv2.error as error:
    raise DataError(f"{path}: OpenCV failed while decoding it: {error.err}.") from error


@dataclasses.dataclass(frozen=True)
class Scan:
  """What decoding a video (or part) to its end has shown.

  Attributes:
    header: of the file.
    promised: frames of the part by the header, None where it doesn't say.
    frames: frames that decode.
  """

  header: Header
  promised: int | None
  frames: int


def scan_frames(
  path: str | os.PathLike,
  wanted: Callable[[int], bool],
  take: Callable[[int, UInt8[np.ndarray, "H W 3"]], None],
  start: float | None = None,
  stop: float | None = None,
  short_side: int = 0,
) -> Scan:
  """Decodes a video, or its part [start, stop), once to its end, holding one frame at a time.

  Args:
    wanted: frame number in the part -> whether `take` is to get this frame.
    take: is called with number and frame, in order.
    path, start, stop, short_side: as of `read_frames`, and so are the errors.
  """
  try:
    with _opened(path) as (capture, header):
      first, last = _part(path, header, start, stop)
      count = 0
      for count, frame in enumerate(_frames(path, capture, first, last, wanted, short_side), start=1):
        if frame is not None:
          take(count - 1, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    expected = _expected(header, first, last)
    _check_shortfall(path, first, expected, count)
    return Scan(header, None if header.frames is None else expected, count)
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
  try:
    if not pathlib.Path(path).is_file():
      raise DataError(f"{path} is not a file; a video is read from an existing regular file.")
    with open(path, "rb") as stream:
      begin = stream.read(_BEGIN)
  except OSError as error:
    raise DataError(f"{path} can't be read: {error.strerror}.") from error
  if not any(marks.match(begin) for marks in _CONTAINERS.values()):
    names = ", ".join(_CONTAINERS)
    raise DataError(f"{path} is no {names} file, it begins with {begin[:12]!r}; convert or replace it.")
  source, *_ = _source(path)
  if any(character in source for character in _PATTERN_CHARACTERS) and not source.lower().endswith(_ENDINGS):
    raise DataError(f"{path} may be taken for a pattern of names; rename it to end in {', '.join(_ENDINGS)}.")


def _header(path: str | os.PathLike, capture: cv2.VideoCapture) -> Header:
  frames, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
  height, width = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
  if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
    raise DataError(f"{path} has frames of {width} x {height} pixels; a side must be 1 to {MAX_SIDE}.")
  if frames > MAX_FRAMES:
    raise DataError(f"{path} promises {frames:.0f} frames, more than {MAX_FRAMES:,}; cut it into pieces.")
  usable = math.isfinite(rate) and rate > 0
  code = (int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF).to_bytes(4, "little").decode("latin-1").strip(" \0")
  return Header(
    frames=int(frames) if frames >= 1 else None,
    rate=rate if usable else 0.0,
    height=height,
    width=width,
    codec=code if code.isascii() and code.isprintable() else "",
  )


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


def _chosen(choose: Callable[[int], Int[np.ndarray, "T"]], total: int) -> Int[np.ndarray, "T"]:
  indices = choose(total)
  if not len(indices) or min(indices) < 0 or max(indices) >= total:
    raise ValueError(f"frames {indices} of {total}: at least one must be chosen, and none beyond the end.")
  return indices


def _decode(
  path: str | os.PathLike,
  capture: cv2.VideoCapture,
  first: int,
  last: int | None,
  indices: Int[np.ndarray, "T"],
  short_side: int,
) -> tuple[UInt8[np.ndarray, "T H W 3"] | None, int]:
  """Decodes [first, last) to its end: the frames `indices` (counted from `first`) and how many frames there were.

  Each frame is converted straight into its place: to touch memory that is new to the process costs more than to
  convert, and a copy of every frame on the way would do so three times. Rows whose frame did not come are not set.
  """
  rows: dict[int, list[int]] = {}
  for row, number in enumerate(indices.tolist()):
    rows.setdefault(number, []).append(row)
  clip, count = None, 0
  for count, frame in enumerate(_frames(path, capture, first, last, rows.__contains__, short_side), start=1):
    if frame is None:
      continue
    if clip is None:
      clip = np.empty((len(indices), *frame.shape), np.uint8)
    if frame.shape != clip.shape[1:]:
      raise DataError(
        f"{path}: frame {first + count - 1} has {frame.shape[1]} x {frame.shape[0]} pixels and an earlier one "
        f"{clip.shape[2]} x {clip.shape[1]}; encode it again with frames of one size."
      )
    row, *others = rows[count - 1]
    cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=clip[row])
    for other in others:
      clip[other] = clip[row]
  return clip, count


def _frames(
  path: str | os.PathLike,
  capture: cv2.VideoCapture,
  first: int,
  last: int | None,
  wanted: Callable[[int], bool],
  short_side: int,
) -> Iterator[UInt8[np.ndarray, "H W 3"] | None]:
  """Each frame of [first, last): blue, green, red in memory that the next one takes over; None where not wanted."""
  _go_to(path, capture, first)
  count, memory = 0, None
  while (last is None or first + count < last) and capture.grab():
    frame = None
    if wanted(count):
      ok, memory = capture.retrieve(memory)
      if not ok:
        raise DataError(f"{path}: frame {first + count} can't be converted to pixels; replace the file.")
      frame = memory
      if 0 < short_side < min(frame.shape[:2]):
        frame = resize(frame, *short_side_shape(*frame.shape[:2], short_side))
    yield frame
    count += 1
    if count > MAX_FRAMES:
      raise DataError(f"{path} has more than {MAX_FRAMES:,} frames; cut it into pieces.")
  if (last is None or first + count < last) and any(capture.grab() for _ in range(_TRIES_AFTER_END)):
    raise DataError(f"{path}: frames follow after {first + count} and a gap that can't be decoded; replace the file.")


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
