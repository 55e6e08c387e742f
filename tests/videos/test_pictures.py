"""A picture is decoded whole and right, or refused by name before memory is taken for it."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.videos import pictures
from gasmcast.videos.pictures import picture_size, read_picture
from gasmcast.videos.transforms import resize


@pytest.fixture
def image():
  """RGB, 60 x 80 pixels: smooth, so that JPEG keeps it to a few levels."""
  noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
  return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 6), None, 0, 255, cv2.NORM_MINMAX)


def encoded(image, kind, *options):
  ok, content = cv2.imencode(kind, image[..., ::-1] if image.ndim == 3 else image, options)
  assert ok
  return content.tobytes()


def chunk(kind, content):
  return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def jpeg_of_size(content, height, width):
  at = content.index(b"\xff\xc0") + 5
  return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


def png_of_size(height, width):
  header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
  return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_a_png_comes_back_bit_for_bit(image, tmp_path):
  path = tmp_path / "a.png"
  path.write_bytes(encoded(image, ".png"))
  np.testing.assert_array_equal(read_picture(path), image)
  assert picture_size(path) == (60, 80)


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_a_jpeg_comes_back_in_rgb(image, tmp_path, options):
  path = tmp_path / "a.jpg"
  path.write_bytes(encoded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 98, *options))
  assert np.abs(read_picture(path).astype(int) - image).mean() < 5  # another order of the channels: about 60
  assert picture_size(path) == (60, 80)


def test_the_kind_of_file_is_told_by_its_content(image, tmp_path):
  path = tmp_path / "a.jpg"
  path.write_bytes(encoded(image, ".png"))
  np.testing.assert_array_equal(read_picture(path), image)


def test_grey_pictures_have_three_equal_channels(image, tmp_path):
  path = tmp_path / "a.png"
  path.write_bytes(encoded(image[..., 0], ".png"))
  np.testing.assert_array_equal(read_picture(path), np.repeat(image[..., :1], 3, axis=2))


@pytest.mark.parametrize(("short_side", "shape"), [(30, (30, 40)), (60, (60, 80)), (100, (60, 80)), (0, (60, 80))])
def test_pictures_are_shrunk_but_never_enlarged(image, tmp_path, short_side, shape):
  path = tmp_path / "a.png"
  path.write_bytes(encoded(image, ".png"))
  np.testing.assert_array_equal(read_picture(path, short_side), resize(image, *shape))


def test_a_jpeg_may_begin_with_long_comments_and_fill_bytes(image, tmp_path):
  content = encoded(image, ".jpg")
  comment = b"\xff\xfe" + struct.pack(">H", 60_000) + b"\xff\xc0\xff\xd9" * 14_999 + b"ab"
  path = tmp_path / "a.jpg"
  path.write_bytes(content[:2] + comment * 3 + b"\xff\xff" + content[2:])
  assert picture_size(path) == (60, 80)
  assert read_picture(path).shape == (60, 80, 3)


def damaged(image, path, name):
  jpeg, png = encoded(image, ".jpg"), encoded(image, ".png")
  if name == "absent":
    return path
  if name == "folder":
    path.mkdir()
  elif name == "pipe":
    os.mkfifo(path)
  else:
    path.write_bytes(
      {
        "empty": b"",
        "text": b"I am a picture, believe me.",
        "GIF": b"GIF89a" + b"\0" * 50,
        "JPEG of 60000 x 60000": jpeg_of_size(jpeg, 60_000, 60_000),
        "JPEG of height 0": jpeg_of_size(jpeg, 0, 80),
        "JPEG with two sizes": jpeg[:2] + 2 * jpeg[jpeg.index(b"\xff\xc0") : jpeg.index(b"\xff\xc4")] + jpeg[2:],
        "JPEG without a size": jpeg[:2] + jpeg[jpeg.index(b"\xff\xda") :],
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "JPEG without its end": jpeg[:-2],
        "header of a JPEG": jpeg[:30],
        "two bytes of a JPEG": jpeg[:2],
        "segment of length 0": jpeg[:2] + b"\xff\xfe\0\0" + jpeg[2:],
        "PNG of 60000 x 60000": png_of_size(60_000, 60_000),
        "PNG of width 0": png_of_size(60, 0),
        "half a PNG": png[: len(png) // 2],
        "PNG without its end": png[:-12],
        "changed byte of a PNG": png[:200] + bytes([png[200] ^ 1]) + png[201:],
        "PNG that begins with its end": png[:8] + chunk(b"IEND", b"") + png[8:],
        "PNG with a short header": png[:8] + chunk(b"IHDR", b"\0\0\0\x10") + chunk(b"IEND", b""),
        "PNG without enough pixels": png_of_size(60, 80),
      }[name]
    )
  return path


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("absent", "is not a file; a frame is read from an existing regular file"),
    ("folder", "is not a file"),
    ("pipe", "is not a file"),
    ("empty", "is no JPEG or PNG file, it begins with b''; convert or replace it"),
    ("text", "is no JPEG or PNG file, it begins with b'I am a pictu'"),
    ("GIF", "it begins with b'GIF89a"),
    ("JPEG of 60000 x 60000", "has 60000 x 60000 pixels; a side must be 1 to 8192"),
    ("JPEG of height 0", "has 80 x 0 pixels"),
    ("JPEG with two sizes", "can't be decoded: it is cut off or damaged; replace it"),
    ("JPEG without a size", "can't be decoded"),
    ("half a JPEG", "can't be decoded"),
    ("JPEG without its end", "can't be decoded"),
    ("header of a JPEG", "can't be decoded"),
    ("two bytes of a JPEG", "can't be decoded"),
    ("segment of length 0", "can't be decoded"),
    ("PNG of 60000 x 60000", "has 60000 x 60000 pixels; a side must be 1 to 8192"),
    ("PNG of width 0", "has 0 x 60 pixels"),
    ("half a PNG", "can't be decoded"),
    ("PNG without its end", "can't be decoded"),
    ("changed byte of a PNG", "can't be decoded"),
    ("PNG that begins with its end", "can't be decoded"),
    ("PNG with a short header", "can't be decoded"),
  ],
)
def test_what_is_no_intact_picture_is_refused_by_name_without_noise(image, tmp_path, capfd, name, message):
  path = damaged(image, tmp_path / "x.jpg", name)
  for read in (read_picture, picture_size):
    with pytest.raises(DataError, match=message) as refusal:
      read(path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
  assert capfd.readouterr().err == ""


def test_a_file_that_no_frame_needs_is_not_read_to_its_end(tmp_path, monkeypatch):
  path = tmp_path / "huge.jpg"
  with open(path, "wb") as file:
    file.truncate(10**12)
  monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
  with pytest.raises(DataError, match="has more than 1,000 bytes, too many for one frame"):
    read_picture(path)


@pytest.mark.reliability
def test_mutated_files_give_a_picture_or_a_data_error(image, tmp_path):
  rng = np.random.default_rng(0)
  intact = {kind: encoded(image, kind) for kind in (".jpg", ".png")}
  outcomes = []
  for number in range(200):
    kind = (".jpg", ".png")[number % 2]
    content = bytearray(intact[kind])
    for at in rng.integers(0, len(content) if number % 3 else 200, 1 + number % 8):
      content[at] = rng.integers(256)
    path = tmp_path / f"{number}{kind}"
    path.write_bytes(content[: rng.integers(1, len(content))] if number % 5 == 0 else content)
    try:
      outcomes.append(read_picture(path).shape[2] == 3)
    except DataError as error:
      assert str(path) in str(error) and "\n" not in str(error)
      outcomes.append(kind)
  assert outcomes.count(".png") >= 95  # checksums
  assert outcomes.count(True) > 10 and outcomes.count(".jpg") > 30
