"""A folder of frames gives what the video gives, and a folder that can't be trusted says why."""

import dataclasses
import os

import cv2
import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.videos import decode, frame_folder
from gasmcast.videos.frame_folder import read_frames, read_header
from gasmcast.videos.sample import centre_frames

RATE = 12.0


def extract(folder, frames, name="frame_{:010d}.png", first=1):
  """Writes RGB frames under their numbers, without loss where the name ends in png."""
  folder.mkdir(exist_ok=True)
  for number, frame in enumerate(frames):
    assert cv2.imwrite(str(folder / name.format(number + first)), frame[:, :, ::-1])
  return folder


def greys(levels, height=8, width=8):
  return [np.full((height, width, 3), level, np.uint8) for level in levels]


def levels(frames):
  return frames[:, 0, 0, 0].tolist()


@pytest.fixture(scope="module")
def extracted(videos, tmp_path_factory):
  """Name -> the folder of a video's frames."""
  root = tmp_path_factory.mktemp("extracted")
  return {
    name: extract(root / name, decode.read_frames(videos[name], np.arange)) for name in ("short", "clip", "portrait")
  }


@pytest.fixture
def ten(tmp_path):
  """A folder of ten frames that show 0, 10, .. 90."""
  return extract(tmp_path / "ten", greys(range(0, 100, 10)))


@pytest.mark.parametrize("name", ["short", "clip", "portrait"])
@pytest.mark.parametrize("short_side", [0, 24, 500])
@pytest.mark.parametrize(
  "part",
  [(None, None), (0.25, 0.75), (0.3, 0.31), (None, 0.5), (0.5, None), (0.25, 99.0), (1 / 12, 2 / 12), (0.0, 0.001)],
)
def test_frames_are_those_of_the_video(videos, extracted, name, short_side, part):
  totals = []

  def choose(total):
    totals.append(total)
    return centre_frames(total, 5)

  expected = decode.read_frames(videos[name], choose, *part, short_side)
  frames = read_frames(extracted[name], choose, RATE, *part, short_side)
  np.testing.assert_array_equal(frames, expected)
  assert totals[0] == totals[1] and len(totals) == 2


def test_the_header_is_that_of_the_video(videos, extracted):
  for name, folder in extracted.items():
    assert read_header(folder, RATE) == dataclasses.replace(decode.read_header(videos[name]), codec="")


def test_frames_come_in_the_order_asked_for_and_may_repeat(ten):
  assert levels(read_frames(ten, lambda total: np.array([9, 0, 0, 4, 9]), 1.0)) == [90, 0, 0, 40, 90]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
  "name",
  [
    "frame_{:010d}.png",
    "img_{:05d}.png",
    "{:06d}.png",
    "{}.png",
    "2020-05-{:02d}.PNG",
    "take 3, {:03d}.png",
    "{:01d}.png",
  ],
)
def test_any_numbering_from_0_or_1_is_read(tmp_path, name, first):
  folder = extract(tmp_path / "frames", greys(range(12)), name, first)
  assert levels(read_frames(folder, np.arange, 4.0)) == list(range(12))
  assert levels(read_frames(folder, np.arange, 4.0, 0.5, 1.0)) == [2, 3]


def test_numbers_may_outgrow_their_zeros(tmp_path):
  folder = extract(tmp_path / "frames", greys(range(102)), "{:02d}.png", 0)
  assert levels(read_frames(folder, np.arange, 1.0, 98.0)) == [98, 99, 100, 101]


def test_jpeg_frames_are_read(tmp_path):
  folder = extract(tmp_path / "frames", greys([10, 100, 200]), "img_{:05d}.jpg")
  assert levels(read_frames(folder, np.arange, 1.0)) == pytest.approx([10, 100, 200], abs=2)


def test_other_and_hidden_files_are_ignored(ten):
  for name in ("labels.csv", ".frame_0000000011.png", "._frame_0000000001.png", "Thumbs.db", "cover.png"):
    (ten / name).write_bytes(b"x")
  (ten / "masks").mkdir()
  assert len(read_frames(ten, np.arange, 1.0)) == 10


def test_frames_that_are_added_are_seen(ten):
  assert len(read_frames(ten, np.arange, 1.0)) == 10
  changed = ten.stat().st_mtime_ns
  extract(ten, greys([100]), first=11)
  os.utime(ten, ns=(changed + 10, changed + 10))  # the clock of a file system may be coarse
  assert len(read_frames(ten, np.arange, 1.0)) == 11


def test_a_folder_is_listed_once_while_it_stays_as_it_is(ten, monkeypatch):
  listed, real = [], os.scandir
  monkeypatch.setattr(frame_folder.os, "scandir", lambda folder: listed.append(folder) or real(folder))
  for _ in range(3):
    read_frames(ten, np.arange, 1.0)
  assert len(listed) == 1


def test_what_is_remembered_of_a_folder_does_not_grow_with_its_frames(tmp_path, monkeypatch):
  class Entry:
    def __init__(self, number):
      self.name = f"frame_{number:010d}.jpg"

  class Entries(list):
    __enter__ = lambda self: self
    __exit__ = lambda *_: None

  numbers = [number for number in range(1, 100_001) if number not in (40_000, 70_000, 70_001)]
  monkeypatch.setattr(frame_folder.os, "scandir", lambda folder: Entries(map(Entry, numbers)))
  listing = frame_folder._listing_now(tmp_path, 60.0)
  assert listing.numbers.tolist() == [[1, 40_000], [40_001, 70_000], [70_002, 100_001]]
  assert listing.frames == 100_000
  assert listing.missing(0, 39_999) is None and listing.missing(0, 40_000) == 39_999
  assert listing.missing(39_999, 40_000) == 39_999 and listing.missing(40_000, 69_999) is None
  assert listing.missing(70_000, 80_000) == 70_000 and listing.missing(70_001, 100_000) is None


def test_a_missing_frame_fails_the_parts_that_hold_it(ten):
  (ten / "frame_0000000005.png").unlink()
  for start, stop in ((None, None), (0.0, 5.0), (4.0, 5.0), (4.5, None)):
    with pytest.raises(DataError, match="ten: frame_0000000005.png is missing between other frames; extract it again"):
      read_frames(ten, lambda total: np.array([0]), 1.0, start, stop)
  assert levels(read_frames(ten, np.arange, 1.0, 0.0, 4.0)) == [0, 10, 20, 30]
  assert levels(read_frames(ten, np.arange, 1.0, 5.0)) == [50, 60, 70, 80, 90]


@pytest.mark.parametrize(
  ("prepare", "message"),
  [
    (lambda ten: [file.unlink() for file in ten.iterdir()], "ten holds no frames: no file there is named like frame_"),
    (
      lambda ten: (ten / "img_00001.jpg").touch(),
      r"holds frames of 2 kinds \(frame_0.+1.png, img_00001.jpg\); keep one",
    ),
    (lambda ten: (ten / "frame_0000000011.jpg").touch(), "holds frames of 2 kinds"),
    (lambda ten: (ten / "frame_11.png").touch(), "numbers its frames with and without zeros before; name all of them"),
    (lambda ten: (ten / "frame_0000000001.png").unlink(), "begins with frame_0000000002.png; frame numbers must begin"),
    (lambda ten: extract(ten, greys([5], 8, 10), first=5), "0001.png has 8 x 8 pixels and frame_0000000005.png 10 x 8"),
    (
      lambda ten: (ten / "frame_0000000003.png").write_bytes(b""),
      "0003.png is no JPEG or PNG file, it begins with b''",
    ),
    (
      lambda ten: (ten / "frame_0000000003.png").write_bytes((ten / "frame_0000000003.png").read_bytes()[:-20]),
      "0003.png can't be decoded: it is cut off or damaged; replace it",
    ),
  ],
)
def test_a_folder_that_can_not_be_trusted_is_refused_by_name(ten, prepare, message):
  prepare(ten)
  with pytest.raises(DataError, match=message) as refusal:
    read_frames(ten, np.arange, 1.0)
  assert str(ten) in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
  ("rate", "start", "stop", "message"),
  [
    (1.0, 3.0, 3.0, r"the part \[3.0, 3.0\) seconds is empty; 0 <= start < stop is needed"),
    (1.0, -1.0, None, r"the part \[-1.0, None\) seconds is empty"),
    (1.0, float("nan"), None, "seconds is empty"),
    (1.0, None, float("inf"), "seconds is empty"),
    (1.0, float("inf"), None, "seconds is empty"),
    (
      1.0,
      10.0,
      12.0,
      r"no frame in the part \[10.0, 12.0\) seconds: it begins with frame 10, and there are 10 at 1 fr",
    ),
    (0.0, None, None, "a rate of 0.0 frames a second; it must be above 0"),
    (float("nan"), None, None, "a rate of nan frames a second"),
  ],
)
def test_a_part_without_frames_is_refused(ten, rate, start, stop, message):
  with pytest.raises(DataError, match=message):
    read_frames(ten, np.arange, rate, start, stop)


def test_a_path_that_is_no_folder_is_refused(ten):
  for path in (ten / "frame_0000000001.png", ten / "absent"):
    with pytest.raises(DataError, match="is not a folder; an example with a rate is a folder of extracted frames"):
      read_frames(path, np.arange, 1.0)


def test_a_folder_that_may_not_be_listed_is_refused(ten, monkeypatch):
  def refuse(folder):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(frame_folder.os, "scandir", refuse)
  with pytest.raises(DataError, match="ten can't be listed: Permission denied"):
    read_frames(ten, np.arange, 1.0)


def test_more_frames_than_the_limit_are_refused(ten, monkeypatch):
  monkeypatch.setattr(frame_folder, "MAX_FRAMES", 9)
  with pytest.raises(DataError, match="has more than 9 frames; cut it into pieces"):
    read_frames(ten, np.arange, 1.0)
