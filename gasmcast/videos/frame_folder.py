"""From a folder of extracted frames to the frames that were asked for, uint8 [T, H, W, 3] in RGB.

A folder holds one video: JPEG or PNG files whose names differ in a number alone, frame_0000000001.jpg, img_00001.jpg,
000001.png, 1.jpg. The numbers begin with 0 or 1; the first frame is shown during [0, 1 / rate) seconds. Other files and
hidden ones are ignored. A folder is listed once and again when its time of change is another.
"""

import dataclasses
import functools
import math
import os
import pathlib
import re
from collections.abc import Callable

import numpy as np
from jaxtyping import Int, UInt8

from gasmcast.core.errors import DataError
from gasmcast.videos.decode import MAX_FRAMES, Header
from gasmcast.videos.pictures import picture_size, read_picture
from gasmcast.videos.sample import frame_range

_NAME = re.compile(r"(.*?)([0-9]{1,15})(\.(?:jpe?g|png))", re.IGNORECASE | re.DOTALL)
_LISTINGS = 256  # folders whose listing is remembered: each is a few numbers a gap


@dataclasses.dataclass(frozen=True)
class _Listing:
  """The frames of a folder.

  Attributes:
    prefix: what stands before the number in every name.
    digits: of the number at least, filled up with zeros.
    suffix: what stands after it.
    numbers: int64 [runs, 2], the numbers that are there as intervals [from, to), ascending and not touching.
  """

  prefix: str
  digits: int
  suffix: str
  numbers: Int[np.ndarray, "runs 2"]

  @property
  def first(self) -> int:
    return int(self.numbers[0, 0])

  @property
  def frames(self) -> int:
    """From the first to the last, with those that are missing between."""
    return int(self.numbers[-1, 1]) - self.first

  def name(self, frame: int) -> str:
    return f"{self.prefix}{self.first + frame:0{self.digits}d}{self.suffix}"

  def missing(self, first: int, last: int) -> int | None:
    """The first of the frames [first, last) that isn't there; `last` is at most `frames`."""
    run = np.searchsorted(self.numbers[:, 0], self.first + first, side="right") - 1
    there = int(self.numbers[run, 1]) - self.first
    return max(first, there) if there < last else None


def read_header(folder: str | os.PathLike, rate: float) -> Header:
  """What `decode.read_header` tells of a video file; the size is that of the first frame.

  Raises:
    DataError: as `read_frames`, apart from what only decoding can show.
  """
  listing = _listing_now(folder, rate)
  height, width = picture_size(pathlib.Path(folder, listing.name(0)))
  return Header(frames=listing.frames, rate=rate, height=height, width=width)


def read_frames(
  folder: str | os.PathLike,
  choose: Callable[[int], Int[np.ndarray, "T"]],
  rate: float,
  start: float | None = None,
  stop: float | None = None,
  short_side: int = 0,
) -> UInt8[np.ndarray, "T H W 3"]:
  """The chosen frames of a folder, or of its part [start, stop): what `decode.read_frames` gives for the same video.

  Args:
    folder: holds the frames of one video.
    choose: frame count of the folder (or part) -> frame numbers in it, in any order, repeats allowed.
    rate: frames a second.
    start: first moment in seconds, None for the beginning.
    stop: end in seconds, None for the last frame.
    short_side: frames whose shorter side is larger are shrunk to this many pixels; 0 keeps all as they are.

  Raises:
    DataError: no such folder, no frames in it or of several name patterns, over 1,000,000, numbers that begin with
      neither 0 nor 1, a number that is missing in the part, no frame in the part, frames of different sizes, a frame
      that can't be read. The message names the path and what was seen.
  """
  listing = _listing_now(folder, rate)
  first, last = _part(folder, listing, rate, start, stop)
  indices = choose(last - first)
  frames = {
    index: read_picture(pathlib.Path(folder, listing.name(first + index)), short_side)
    for index in sorted(set(indices.tolist()))
  }
  _check_sizes(folder, {listing.name(first + index): frame.shape for index, frame in frames.items()})
  return np.stack([frames[index] for index in indices.tolist()])


def _part(
  folder: str | os.PathLike, listing: _Listing, rate: float, start: float | None, stop: float | None
) -> tuple[int, int]:
  """[start, stop) in frames, none of which is missing."""
  end = math.inf if stop is None else stop
  if not 0 <= (0.0 if start is None else start) < end or (stop is not None and math.isinf(end)):
    raise DataError(f"{folder}: the part [{start}, {stop}) seconds is empty; 0 <= start < stop is needed.")
  first, last = frame_range(start, stop, rate)
  last = listing.frames if last is None else min(last, listing.frames)
  if first >= last:
    raise DataError(
      f"{folder}: no frame in the part [{start}, {stop}) seconds: it begins with frame {first}, and there are "
      f"{listing.frames} at {rate:g} frames a second; extract the rest or correct the rate."
    )
  missing = listing.missing(first, last)
  if missing is not None:
    raise DataError(f"{folder}: {listing.name(missing)} is missing between other frames; extract it again.")
  return first, last


def _listing_now(folder: str | os.PathLike, rate: float) -> _Listing:
  if not (math.isfinite(rate) and rate > 0):
    raise DataError(f"{folder}: a rate of {rate} frames a second; it must be above 0.")
  try:
    if not pathlib.Path(folder).is_dir():
      raise DataError(f"{folder} is not a folder; an example with a rate is a folder of extracted frames.")
    return _listing(os.fspath(folder), pathlib.Path(folder).stat().st_mtime_ns)
  except OSError as error:
    raise DataError(f"{folder} can't be listed: {error.strerror}.") from error


@functools.lru_cache(maxsize=_LISTINGS)
def _listing(folder: str, changed: int) -> _Listing:
  """A function of the folder and of its time of change; errors are not remembered."""
  del changed
  patterns: dict[tuple[str, str], list[str]] = {}
  count = 0
  with os.scandir(folder) as entries:
    for entry in entries:
      match = None if entry.name.startswith(".") else _NAME.fullmatch(entry.name)
      if match:
        patterns.setdefault((match[1], match[3]), []).append(match[2])
        count += 1
        if count > MAX_FRAMES:
          raise DataError(f"{folder} has more than {MAX_FRAMES:,} frames; cut it into pieces.")
  if not patterns:
    raise DataError(f"{folder} holds no frames: no file there is named like frame_0000000001.jpg or 000001.png.")
  if len(patterns) > 1:
    names = ", ".join(sorted(f"{prefix}{min(numbers)}{suffix}" for (prefix, suffix), numbers in patterns.items())[:4])
    raise DataError(f"{folder} holds frames of {len(patterns)} kinds ({names}); keep one video in a folder.")
  (((prefix, suffix), numbers),) = patterns.items()
  return _checked(folder, prefix, suffix, numbers)


def _checked(folder: str, prefix: str, suffix: str, written: list[str]) -> _Listing:
  digits = min(map(len, written))
  numbers = np.sort(np.array([int(number) for number in written], np.int64))
  if any(number != f"{int(number):0{digits}d}" for number in written):
    raise DataError(f"{folder} numbers its frames with and without zeros before; name all of them in one way.")
  if numbers[0] > 1:
    raise DataError(
      f"{folder} begins with {prefix}{int(numbers[0]):0{digits}d}{suffix}; frame numbers must begin with 0 or 1, or no "
      "moment in seconds can be found: extract the frames before it."
    )
  ends = np.flatnonzero(np.diff(numbers) > 1)
  first = numbers[np.concatenate([[0], ends + 1])]
  last = numbers[np.concatenate([ends, [-1]])] + 1
  return _Listing(prefix, digits, suffix, np.stack([first, last], axis=1))


def _check_sizes(folder: str | os.PathLike, shapes: dict[str, tuple[int, ...]]) -> None:
  first, expected = next(iter(shapes.items()), ("", ()))
  for name, shape in shapes.items():
    if shape != expected:
      raise DataError(
        f"{folder}: {first} has {expected[1]} x {expected[0]} pixels and {name} {shape[1]} x {shape[0]}; frames of one "
        "video must have one size: extract them again."
      )
