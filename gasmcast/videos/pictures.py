"""One picture from a JPEG or PNG file, uint8 [H, W, 3] in RGB.

The size is read from the file's own header before anything is decoded, so that a file of a few bytes that promises
60,000 x 60,000 pixels is refused before memory is taken for it. Files that are cut off are refused; so are changed
bytes in a PNG, which has checksums. JPEG has none: changed bytes in its pixels show as wrong colours.
"""

import os
import pathlib
import struct
import zlib

import cv2
import numpy as np
from jaxtyping import UInt8

from gasmcast.core.errors import DataError
from gasmcast.videos.transforms import resize, short_side_shape

MAX_SIDE = 8192
MAX_BYTES = 1 << 28  # over that of 8192 x 8192 pixels without compression

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_JPEG_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_JPEG_SIZES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_PIXELS, _JPEG_END = 0xDA, 0xD9


def read_picture(path: str | os.PathLike, short_side: int = 0) -> UInt8[np.ndarray, "H W 3"]:
  """Decodes a file, turned as its EXIF orientation says, and shrinks it as `decode.read_frames` does.

  Args:
    path: a JPEG or PNG file, told by its content.
    short_side: a picture whose shorter side is larger is shrunk to this many pixels; 0 keeps it as it is.

  Raises:
    DataError: no such regular file, another format, over 256 MiB, a side over 8192 pixels, cut off or damaged. The
      message names the path and what was seen.
  """
  content = _content(path)
  _checked_size(path, content)
  try:
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
  except cv2.error as error:
    raise DataError(f"{path}: OpenCV failed while decoding it: {error.err}.") from error
  if picture is None:
    raise DataError(f"{path} can't be decoded: it is cut off or damaged; replace it.")
  if 0 < short_side < min(picture.shape[:2]):
    picture = resize(picture, *short_side_shape(*picture.shape[:2], short_side))
  return picture


def picture_size(path: str | os.PathLike) -> tuple[int, int]:
  """(height, width) in pixels by the header, as stored. Raises as `read_picture`, apart from damaged pixels."""
  return _checked_size(path, _content(path))


def _content(path: str | os.PathLike) -> bytes:
  file = pathlib.Path(path)
  if not file.is_file():
    raise DataError(f"{path} is not a file; a frame is read from an existing regular file.")
  try:
    with open(file, "rb") as stream:
      content = stream.read(MAX_BYTES + 1)
  except OSError as error:
    raise DataError(f"{path} can't be read: {error.strerror}.") from error
  if len(content) > MAX_BYTES:
    raise DataError(f"{path} has more than {MAX_BYTES:,} bytes, too many for one frame; replace it.")
  return content


def _checked_size(path: str | os.PathLike, content: bytes) -> tuple[int, int]:
  if content.startswith(_PNG):
    size = _png_size(content)
  elif content.startswith(_JPEG):
    size = _jpeg_size(content)
  else:
    raise DataError(f"{path} is no JPEG or PNG file, it begins with {content[:12]!r}; convert or replace it.")
  if size is None:
    raise DataError(f"{path} can't be decoded: it is cut off or damaged; replace it.")
  height, width = size
  if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
    raise DataError(f"{path} has {width} x {height} pixels; a side must be 1 to {MAX_SIDE}.")
  return size


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
  """(height, width), None where the segments before the pixels, or the mark at the end, are not as they must be."""
  at, size = 2, None
  while at + 4 <= len(content) and content[at] == 0xFF:
    marker = content[at + 1]
    if marker == 0xFF or marker in _JPEG_ALONE:
      at += 1 if marker == 0xFF else 2
      continue
    (length,) = struct.unpack_from(">H", content, at + 2)
    if marker in _JPEG_SIZES:
      if size is not None or at + 9 > len(content):
        return None
      size = struct.unpack_from(">HH", content, at + 5)
    if marker == _JPEG_PIXELS:  # in the pixels the mark of the end stands nowhere else
      return size if content.find(bytes([0xFF, _JPEG_END]), at) >= 0 else None
    if marker == _JPEG_END or length < 2:
      return None
    at += 2 + length
  return None


def _png_size(content: bytes) -> tuple[int, int] | None:
  """(height, width), None where a chunk is cut off or its checksum wrong, or the first or last one is another."""
  at, size = len(_PNG), None
  while at + 12 <= len(content):
    length, kind = struct.unpack_from(">I4s", content, at)
    end = at + 12 + length
    if end > len(content) or (size is None) != (kind == b"IHDR"):
      return None
    if zlib.crc32(memoryview(content)[at + 4 : end - 4]) != struct.unpack_from(">I", content, end - 4)[0]:
      return None
    if kind == b"IHDR":
      if length != 13:
        return None
      width, height = struct.unpack_from(">II", content, at + 8)
      size = height, width
    if kind == b"IEND":
      return size
    at = end
  return None
