"""Damaged and hostile videos are read with their exact number of frames or refused, within limits."""

import collections
import os
import pathlib
import socket
import struct

import cv2
import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.core.isolation import Failed, Isolated, Limits
from gasmcast.videos.decode import read_header
from gasmcast.videos.quality import probe
from tests.videos import hostile

MEMORY = 300_000_000
CODE = 10_000_000  # pages of the decoder's code that are read in for the first time count too where memory is measured
SECONDS = 10.0
# FFmpeg decodes it in little time and memory, because nothing is in its frames, and OpenCV gives 16 x 16 pixels.
BIG_KEY_FRAMES = "every key frame 14k by 14k.webm"
SDP = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=a\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n"


@pytest.fixture(scope="module")
def intact(tmp_path_factory, write_video) -> list[pathlib.Path]:
  """Files of several codecs and containers; those of H.264 are real and only there with the real data."""
  folder = tmp_path_factory.mktemp("intact")
  frames = [np.full((48, 64, 3), 5 * number, np.uint8) for number in range(48)]
  for frame in frames:
    frame[10:30, 10:40] = np.random.default_rng(0).integers(0, 256, (20, 30, 3))
  kinds = {"vp8.webm": "VP80", "vp9.webm": "VP90", "mpeg4.mp4": "mp4v", "mpeg4.avi": "XVID", "jpeg.avi": "MJPG"}
  paths = [pathlib.Path(write_video(folder / name, frames, code=code)) for name, code in kinds.items()]
  real = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
  names = ("faces/single_face.mp4", "labelled_clips/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi")
  return paths + [real / name for name in (*names, "fight/videos/10.webm") if (real / name).is_file()]


def run_mutations(intact, folder, count):
  """Judges `count` mutated files; checks what must hold of each and returns the sentence with the figures."""
  originals = [path.read_bytes() for path in intact]
  names = [path.suffix for path in intact]

  def mutated():
    for number in range(count):
      which = number % len(originals)
      path = folder / f"{number}{names[which]}"
      path.write_bytes(hostile.mutate(originals[which], np.random.default_rng(number)))
      yield str(path)

  kinds, slowest, wrong = collections.Counter(), 0.0, []
  with Isolated(hostile.judge, 2, Limits(SECONDS, MEMORY)) as pool:
    for number, outcome in pool.map(mutated()):
      path = folder / f"{number}{names[number % len(names)]}"
      if isinstance(outcome, Failed):
        kinds["stopped by a limit or a crash"] += 1
        print(f"{path.name}: {outcome.reason}")
      elif outcome.value["refused"]:
        kinds["refused"] += 1
        wrong += [] if outcome.value["named"] else [(path.name, outcome.value)]
      else:
        found = outcome.value
        kinds["read with the exact number of frames"] += 1
        exact = found["frames"] == found["plain"] == found["trained_on"] and found["shape"]
        wrong += [] if exact else [(path.name, found)]
      if not isinstance(outcome, Failed):
        slowest = max(slowest, outcome.value["seconds"])
      path.unlink()
  assert not wrong, wrong[:5]
  counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
  return kinds, f"{count} mutated videos: {counts}; none lost; slowest {slowest:.2f} s."


@pytest.mark.reliability(15)
def test_50_mutated_videos_are_read_exactly_or_refused(intact, tmp_path, figure):
  kinds, figures = run_mutations(intact, tmp_path, 50)
  figure(figures)
  assert kinds["refused"] > 10 and kinds["read with the exact number of frames"] > 5 and kinds.total() == 50


@pytest.mark.long
@pytest.mark.reliability(15)
def test_5000_mutated_videos_are_read_exactly_or_refused(intact, tmp_path, figure):
  kinds, figures = run_mutations(intact, tmp_path, 5000)
  figure(figures)
  assert kinds["refused"] > 1000 and kinds["read with the exact number of frames"] > 500 and kinds.total() == 5000


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, write_video) -> bytes:
  """A WebM file of 12 VP8 frames of 16 x 16 pixels."""
  path = tmp_path_factory.mktemp("tiny") / "tiny.webm"
  return pathlib.Path(write_video(path, [np.full((16, 16, 3), 90, np.uint8)] * 12)).read_bytes()


@pytest.fixture(scope="module")
def key_frame(tiny) -> bytes:
  """The first frame of `tiny`, 30 to 60 bytes."""
  at = tiny.index(hostile.KEY_FRAME) - 3
  return tiny[at : at + (tiny[at - 5] & 0x7F) - 4]  # a block's size counts four bytes before the frame


def test_the_hand_made_file_is_a_good_one_but_for_its_size(key_frame, tmp_path):
  path = tmp_path / "good.webm"
  path.write_bytes(hostile.webm(key_frame, 100, 16, 16))
  found = probe(path)
  assert (found.frames, found.promised, found.height, found.width) == (100, None, 16, 16)


def test_frames_after_a_gap_are_no_silent_end(key_frame, tmp_path):
  """OpenCV reports an end at every packet that can't be decoded, and here no header says how many frames there are."""
  good = hostile.webm(key_frame, 200, 16, 16).split(hostile.KEY_FRAME)
  path = tmp_path / "gap.webm"
  for bad in (0, 1, 60):
    marks = [b"\0\0\0" if 20 <= number < 20 + bad else hostile.KEY_FRAME for number in range(200)] + [b""]
    path.write_bytes(b"".join(part + mark for part, mark in zip(good, marks, strict=True)))
    if not bad:
      assert probe(path).frames == 200
    else:
      with pytest.raises(DataError, match="gap.webm: frames follow after 20 and a gap that can't be decoded; replace"):
        probe(path)


def bombs(folder, tiny, key_frame, write_video) -> dict[str, str]:
  """Name -> path of what must be refused."""
  avi = pathlib.Path(write_video(folder / "good.avi", [np.full((16, 16, 3), 90, np.uint8)] * 12, code="MJPG"))
  many = bytearray(avi.read_bytes())
  for mark, place in ((b"avih", 16), (b"strh", 32)):
    at = many.index(mark) + 8 + place
    many[at : at + 4] = struct.pack("<I", 2_000_000)
  contents = {
    "one byte.webm": b"\x1a",
    "empty.mp4": b"",
    "16k by 16k in container and frame.webm": hostile.with_key_frame_size(
      hostile.webm(key_frame, 40, 16383, 16383), 16383, 16383
    ),
    "8k by 8k in container.webm": hostile.webm(key_frame, 40, 8192, 8192),
    BIG_KEY_FRAMES: hostile.webm(hostile.with_key_frame_size(key_frame, 14_000, 14_000), 40, 16, 16),
    "every key frame 16k by 16k.webm": hostile.webm(hostile.with_key_frame_size(key_frame, 16_383, 16_383), 40, 16, 16),
    "two million frames in the header.avi": bytes(many),
    "a million frames.webm": hostile.webm(key_frame, 1_000_001, 16, 16),
    "a picture.webm": cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))[1].tobytes(),
    "an archive.mp4": b"PK\3\4" + bytes(100),
    "a page.webm": b"<!DOCTYPE html><html></html>",
    "playlist.webm": f"#EXTM3U\n#EXTINF:1,\n{avi}\n".encode(),
    "playlist.m3u8": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
    "list.ffconcat": f"ffconcat version 1.0\nfile '{avi}'\n".encode(),
    "session.sdp": SDP,
    "session in a RIFF.avi": b"RIFF\r\n" + SDP,
    "session in a WebM.webm": b"\x1aE\xdf\xa3\r\n" + SDP,
    "session in a WebM with its mark.webm": b"\x1aE\xdf\xa3\x87\x42\x82\x84webm\r\n" + SDP,
    "session in an MP4.mp4": b"\0\0\0\x08free\r\n" + SDP,
    "clip%03d.jpg": tiny,
    "clip*.jpg": tiny,
  }
  for name, content in contents.items():
    (folder / name).write_bytes(content)
  for number in range(3):
    cv2.imwrite(str(folder / f"clip{number:03d}.jpg"), np.zeros((16, 16, 3), np.uint8))
  os.mkfifo(folder / "fifo.webm")
  (folder / "loop.webm").symlink_to("loop.webm")
  (folder / "folder.webm").mkdir()
  with socket.socket(socket.AF_UNIX) as place:
    place.bind(str(folder / "socket.webm"))
  strange = ("/dev/zero", "/dev/urandom", "http://127.0.0.1:9/a.webm", "rtsp://127.0.0.1:9/a", "pipe:0", "x" * 5000)
  strange += (f"concat:{avi}|{avi}", f"file:{avi}", f"subfile,,start,0,end,9,,:{avi}", f"{avi}\0", "testsrc", "")
  names = [*contents, "fifo.webm", "loop.webm", "folder.webm", "socket.webm"]
  return {**{name: str(folder / name) for name in names}, **{name: name for name in strange}}


@pytest.mark.reliability(16)
def test_bombs_are_refused_within_two_seconds_and_300_mb(tiny, key_frame, tmp_path, write_video, figure):
  made = bombs(tmp_path, tiny, key_frame, write_video)
  stopped, slowest, largest = [], 0.0, 0
  with Isolated(hostile.judge_bomb, 1, Limits(2.0, MEMORY - CODE)) as pool:
    list(pool.map([str(tmp_path / "good.avi")]))
    for (name, _), (_, outcome) in zip(made.items(), pool.map(made.values()), strict=True):
      if isinstance(outcome, Failed):
        stopped.append(name)
        continue
      assert outcome.value["refused"] or name == BIG_KEY_FRAMES, name
      slowest, largest = max(slowest, outcome.value["seconds"]), max(largest, outcome.value["bytes"])
  figure(
    f"{len(made)} bombs, {len(made) - len(stopped)} within {slowest:.2f} s of a processor and "
    f"{largest / 1e6:.0f} MB, {len(stopped)} stopped by the limits: {'; '.join(stopped)}."
  )
  assert largest <= MEMORY
  assert len(stopped) <= 3 and "a million frames.webm" in stopped


@pytest.mark.parametrize("name", ["clip%03d.jpg", "clip*.jpg", "cl{ip.png"])
def test_a_name_that_is_a_pattern_is_refused(tiny, tmp_path, name):
  path = tmp_path / name
  path.write_bytes(tiny)
  with pytest.raises(DataError, match="may be taken for a pattern of names; rename it to end in .webm, .mkv"):
    read_header(path)
  plain = tmp_path / "100% {good}?.webm"
  plain.write_bytes(tiny)
  assert read_header(plain).frames == 12


def test_a_rate_of_zero_is_no_division_by_zero(tmp_path, write_video):
  avi = bytearray(
    pathlib.Path(write_video(tmp_path / "a.avi", [np.zeros((16, 16, 3), np.uint8)] * 12, code="MJPG")).read_bytes()
  )
  at = avi.index(b"strh") + 8 + 20
  avi[at : at + 8] = bytes(8)
  at = avi.index(b"avih") + 8
  avi[at : at + 4] = bytes(4)
  (tmp_path / "b.avi").write_bytes(avi)
  found = probe(tmp_path / "b.avi")
  assert found.frames == 12 and 0 <= found.seconds < 100


def test_a_path_that_cannot_be_looked_at_is_refused():
  with pytest.raises(DataError, match="can't be read: File name too long"):
    read_header("x" * 5000)
