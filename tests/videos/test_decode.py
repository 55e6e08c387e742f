"""The frames that come out are the ones that were asked for, and what can't be read says why."""

import os
import pathlib
import struct

import cv2
import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.videos import decode
from gasmcast.videos.decode import read_frames, read_header
from gasmcast.videos.sample import centre_frames

DURATION = b"\x44\x89\x88"  # element id of a WebM file's duration and its length, eight bytes of milliseconds follow


def asking(count):
  """A choice of `count` centre frames that remembers the totals it was asked with."""
  totals = []

  def choose(total):
    totals.append(total)
    return centre_frames(total, count)

  return choose, totals


def with_duration(path, target, seconds):
  content = bytearray(pathlib.Path(path).read_bytes())
  at = content.index(DURATION) + len(DURATION)
  content[at : at + 8] = struct.pack(">d", 1000 * seconds)
  target.write_bytes(content)
  return target


def test_every_chosen_frame_is_the_right_one(videos, numbers):
  choose, totals = asking(16)
  frames = read_frames(videos["clip"], choose)
  assert frames.shape == (16, 48, 64, 3) and frames.dtype == np.uint8
  assert numbers(frames) == centre_frames(48, 16).tolist()
  assert totals == [48]


def test_frames_come_in_the_order_asked_for_and_may_repeat(videos, numbers):
  assert numbers(read_frames(videos["short"], lambda total: np.array([9, 0, 0, 4, 9]))) == [9, 0, 0, 4, 9]


@pytest.mark.parametrize("indices", [[0, 10], [-1, 3], []])
def test_frames_that_are_not_there_can_not_be_chosen(videos, indices):
  with pytest.raises(ValueError, match="of 10: at least one must be chosen, and none beyond the end"):
    read_frames(videos["short"], lambda total: np.array(indices, np.int64))


def test_colours_are_rgb(tmp_path, write_video):
  frame = np.zeros((32, 32, 3), np.uint8)
  frame[:, :, 2] = 255  # red in OpenCV's order
  path = write_video(tmp_path / "red.webm", [frame] * 4)
  red, green, blue = read_frames(path, np.arange).mean((0, 1, 2))
  assert red > 240 and green < 15 and blue < 15


def test_the_header_is_read_without_decoding(videos):
  header = read_header(videos["portrait"])
  assert (header.frames, header.rate, header.height, header.width) == (12, 12.0, 160, 96)


@pytest.mark.parametrize(("short_side", "shape"), [(48, (80, 48)), (96, (160, 96)), (500, (160, 96)), (0, (160, 96))])
def test_frames_are_shrunk_but_never_enlarged(videos, short_side, shape, numbers):
  frames = read_frames(videos["portrait"], np.arange, short_side=short_side)
  assert frames.shape == (12, *shape, 3)
  assert numbers(frames) == list(range(12))


@pytest.mark.parametrize(
  ("start", "stop", "first", "last"),
  [(1.0, 2.0, 30, 60), (None, 0.5, 0, 15), (10.0, 11.0, 300, 330), (13.5, None, 405, 420), (13.5, 99.0, 405, 420)],
)
def test_a_part_of_a_video(videos, start, stop, first, last, numbers):
  choose, totals = asking(5)
  frames = read_frames(videos["long"], choose, start, stop)
  assert numbers(frames) == (first + centre_frames(last - first, 5)).tolist()
  assert totals == [last - first]


def test_a_seek_that_goes_elsewhere_is_noticed(videos, monkeypatch, numbers):
  class NoSeek:
    def __init__(self, *arguments):
      self.capture = real(*arguments)

    def __getattr__(self, name):
      return getattr(self.capture, name)

    def set(self, *_):
      return False

  real = cv2.VideoCapture
  monkeypatch.setattr(decode.cv2, "VideoCapture", NoSeek)
  assert numbers(read_frames(videos["long"], np.arange, 10.0, 10.2)) == list(range(300, 306))


@pytest.mark.parametrize(
  ("seconds", "totals"),
  [
    (49 / 12, [49, 48]),  # the header promises one frame too many
    (30 / 12, [30, 48]),  # or far too few
    (0.0, [48]),  # or says nothing
  ],
)
def test_frames_are_chosen_from_the_true_number_whatever_the_header_says(videos, tmp_path, seconds, totals, numbers):
  path = with_duration(videos["clip"], tmp_path / "lie.webm", seconds)
  choose, asked = asking(16)
  assert numbers(read_frames(path, choose)) == centre_frames(48, 16).tolist()
  assert asked == totals


def changing(monkeypatch, **changed):
  """Every capture from now on has these methods, which are given the real capture first."""

  class Changed:
    def __init__(self, *arguments):
      self.capture = real(*arguments)

    def __getattr__(self, name):
      if name in changed:
        return lambda *arguments: changed[name](self.capture, *arguments)
      return getattr(self.capture, name)

  real = cv2.VideoCapture
  monkeypatch.setattr(decode.cv2, "VideoCapture", Changed)


def test_a_file_that_changes_between_two_readings_is_refused(videos, tmp_path, monkeypatch):
  path = with_duration(videos["clip"], tmp_path / "lie.webm", 49 / 12)
  grabs = []

  def grab(capture):
    grabs.append(1)
    return capture.grab() and len(grabs) < 60 + decode._TRIES_AFTER_END  # all 48, the end, and then 10 of 48

  changing(monkeypatch, grab=grab)
  with pytest.raises(DataError, match="lie.webm had 48 frames and then 10; it changes while it is read"):
    read_frames(path, lambda total: np.array([0, total - 1]))


def test_frames_of_different_sizes_are_refused(videos, monkeypatch):
  taken = []

  def retrieve(capture, memory):
    ok, frame = capture.retrieve(memory)
    taken.append(1)
    return ok, frame if len(taken) < 4 else frame[:40]

  changing(monkeypatch, retrieve=retrieve)
  with pytest.raises(DataError, match="short.webm: frame 3 has 64 x 40 pixels and an earlier one 64 x 48; encode it"):
    read_frames(videos["short"], np.arange)


def test_a_frame_that_can_not_be_converted_is_named(videos, monkeypatch):
  changing(monkeypatch, retrieve=lambda capture, memory: (False, memory))
  with pytest.raises(DataError, match="short.webm: frame 5 can't be converted to pixels; replace the file"):
    read_frames(videos["short"], lambda total: np.array([7, 5]))


def test_the_kind_of_file_is_told_by_its_content(videos, tmp_path):
  path = tmp_path / "clip.avi"
  path.write_bytes(pathlib.Path(videos["short"]).read_bytes())
  assert len(read_frames(path, np.arange)) == 10


def test_avi_and_mp4_are_read(tmp_path, write_video):
  frames = [np.full((32, 32, 3), 20 * number, np.uint8) for number in range(6)]
  for name, code in (("clip.avi", "MJPG"), ("clip.mp4", "mp4v")):
    path = write_video(tmp_path / name, frames, code=code)
    means = read_frames(path, np.arange).mean((1, 2, 3))
    np.testing.assert_allclose(means, [0, 20, 40, 60, 80, 100], atol=5)


def damaged(videos, tmp_path, name):
  clip = pathlib.Path(videos["clip"]).read_bytes()
  path = tmp_path / "x.webm"
  if name == "absent":
    return path
  if name == "folder":
    path.mkdir()
  elif name == "pipe":
    os.mkfifo(path)
  elif name == "a million frames":
    with_duration(videos["clip"], path, 1e6)
  else:
    path.write_bytes(
      {
        "empty": b"",
        "one byte": b"\x1a",
        "text": b"I am a video, believe me.",
        "playlist": f"#EXTM3U\n{videos['clip']}\n".encode(),
        "list of files": f"ffconcat version 1.0\nfile '{videos['clip']}'\n".encode(),
        "header only": clip[:40] + b"\0" * 200,
        "cut in the middle": clip[: len(clip) // 2],
        "cut after the first frame": clip[: clip.index(b"\x9d\x01\x2a") - 5],
      }[name]
    )
  return path


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("absent", "is not a file; a video is read from an existing regular file"),
    ("folder", "is not a file"),
    ("pipe", "is not a file"),
    ("empty", r"is no WebM/Matroska, MP4/MOV, AVI file, it begins with b''; convert or replace it"),
    ("one byte", "is no WebM/Matroska"),
    ("text", "it begins with b'I am a video'"),
    ("playlist", "it begins with b'#EXTM3U"),
    ("list of files", "it begins with b'ffconcat ver'"),
    ("header only", "can't be opened as a video: its header is damaged"),
    ("cut in the middle", r"only \d+ of 48 frames could be decoded; the file is cut off, damaged"),
    ("cut after the first frame", r"no frame could be decoded \(its header promises 48\)"),
    ("a million frames", "promises 12000000 frames, more than 1,000,000"),
  ],
)
def test_what_is_no_intact_video_is_refused_by_name_without_noise(videos, tmp_path, capfd, name, message):
  path = damaged(videos, tmp_path, name)
  with pytest.raises(DataError, match=message) as refusal:
    read_frames(path, np.arange)
  assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
  assert capfd.readouterr().err == ""


def test_frames_larger_than_the_limit_are_refused_by_the_header(videos, monkeypatch):
  monkeypatch.setattr(decode, "MAX_SIDE", 100)
  with pytest.raises(DataError, match="has frames of 96 x 160 pixels; a side must be 1 to 100"):
    read_frames(videos["portrait"], np.arange)


def test_more_frames_than_the_limit_are_refused_where_the_header_is_silent(videos, tmp_path, monkeypatch):
  path = with_duration(videos["clip"], tmp_path / "silent.webm", 0.0)
  monkeypatch.setattr(decode, "MAX_FRAMES", 20)
  with pytest.raises(DataError, match="has more than 20 frames"):
    read_frames(path, np.arange)


@pytest.mark.parametrize(
  ("start", "stop", "message"),
  [
    (3.0, 3.0, r"the part \[3.0, 3.0\) seconds is empty"),
    (-1.0, 3.0, r"the part \[-1.0, 3.0\) seconds is empty"),
    (float("nan"), 3.0, r"seconds is empty"),
    (4.5, 5.0, r"no frame could be decoded from frame 54 on"),
  ],
)
def test_a_part_without_frames_is_refused(videos, start, stop, message):
  with pytest.raises(DataError, match=message):
    read_frames(videos["clip"], np.arange, start, stop)


@pytest.mark.reliability
def test_mutated_files_give_frames_or_a_data_error(videos, tmp_path, capfd):
  clip = pathlib.Path(videos["clip"]).read_bytes()
  rng = np.random.default_rng(0)
  refused = 0
  for number in range(50):
    content = bytearray(clip)
    for at in rng.integers(0, len(clip), 1 + number % 8):
      content[at] = rng.integers(256)
    path = tmp_path / f"{number}.webm"
    path.write_bytes(content[: rng.integers(1, len(clip))] if number % 3 == 0 else content)
    try:
      assert len(read_frames(path, lambda total: centre_frames(total, 16))) == 16
    except DataError as error:
      assert str(path) in str(error)
      refused += 1
  assert 16 <= refused < 50
  assert capfd.readouterr().err == ""


def test_real_videos_are_sampled_by_their_true_number_of_frames(shared_data):
  truth = {"TrumanShow_wave_f_nm_np1_fr_med_26.avi": [49, 48], "v_SoccerJuggling_g23_c01.avi": [240]}
  for name, totals in truth.items():
    choose, asked = asking(16)
    assert read_frames(shared_data / "labelled_clips" / name, choose).shape[0] == 16
    assert asked == totals
  for number in (1, 5, 10):
    choose, asked = asking(8)
    assert read_frames(shared_data / "fight" / "videos" / f"{number}.webm", choose).shape[0] == 8
    assert len(asked) == 1
