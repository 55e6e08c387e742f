"""The cache gives what the plain reader gives, and keeps to its limit."""

import dataclasses
import pathlib
import threading

import cv2
import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.core.types import Example
from gasmcast.videos import decode
from gasmcast.videos.reader import CachingReader, Reader
from gasmcast.videos.sample import centre_frames

PICTURE = 24 * 32 * 3  # 48 x 64 pixels, shrunk to 24 x 32
BYTES = 10 * PICTURE  # the video "short"


@pytest.fixture
def copy(videos, tmp_path):
  path = tmp_path / "copy.webm"
  path.write_bytes(pathlib.Path(videos["short"]).read_bytes())
  return path


@pytest.fixture
def folder(videos, tmp_path):
  """The frames of "short" as PNG files, 10 at 12 a second."""
  path = tmp_path / "frames"
  path.mkdir()
  for number, frame in enumerate(decode.read_frames(videos["short"], np.arange)):
    cv2.imwrite(str(path / f"frame_{number + 1:010d}.png"), frame[:, :, ::-1])
  return path


def choose(total):
  return centre_frames(total, 4)


def cached(path, limit, eviction="lru", **part):
  return CachingReader(Reader((Example("a", str(path), {}, **part),), 24), limit, eviction)


def test_a_video_that_fits_is_decoded_once(copy, numbers):
  reader = cached(copy, BYTES)
  expected = Reader((Example("a", str(copy), {}),), 24).read(0, choose)
  first = reader.read(0, choose)
  copy.unlink()
  np.testing.assert_array_equal(first, expected)
  np.testing.assert_array_equal(reader.read(0, choose), expected)
  assert numbers(reader.read(0, np.arange)) == list(range(10))
  statistics = reader.statistics
  assert (statistics.hits, statistics.misses, statistics.bytes) == (2, 1, BYTES)


def test_what_is_handed_out_is_a_copy(copy):
  reader = cached(copy, BYTES)
  reader.read(0, np.arange)[:] = 0
  assert reader.read(0, np.arange).any()


@pytest.mark.parametrize("eviction", ["lru", "none"])
def test_a_larger_video_is_read_from_its_file(copy, eviction):
  reader = cached(copy, BYTES - 1, eviction)
  assert reader.read(0, choose).shape == (4, 24, 32, 3)
  assert reader.statistics.bytes == 0
  copy.unlink()
  with pytest.raises(DataError, match="is not a file"):
    reader.read(0, choose)


@pytest.mark.parametrize(
  ("part", "first", "last"), [({"start": 0.5}, 6, 10), ({"stop": 0.5}, 0, 6), ({"start": 0.25, "stop": 0.5}, 3, 6)]
)
def test_a_part_of_a_film_is_kept_by_its_part(copy, numbers, part, first, last):
  reader = cached(copy, (last - first) * PICTURE, **part)
  expected = Reader((Example("a", str(copy), {}, **part),), 24).read(0, choose)
  assert numbers(reader.read(0, np.arange)) == list(range(first, last))
  copy.unlink()
  np.testing.assert_array_equal(reader.read(0, choose), expected)
  assert reader.statistics.bytes == (last - first) * PICTURE


def test_examples_of_one_part_share_it_and_other_parts_do_not(copy):
  parts = [(None, None), (0.0, 0.5), (0.0, 0.5), (0.5, None)]
  examples = tuple(Example(str(i), str(copy), {}, start, stop) for i, (start, stop) in enumerate(parts))
  reader, plain = CachingReader(Reader(examples, 24), 10 * BYTES), Reader(examples, 24)
  for index in range(4):
    np.testing.assert_array_equal(reader.read(index, choose), plain.read(index, choose))
  assert (reader.statistics.misses, reader.statistics.bytes) == (3, (10 + 6 + 4) * PICTURE)


def test_a_folder_at_two_rates_is_two_parts(folder):
  examples = tuple(Example(f"{rate}", str(folder), {}, 0.0, 0.5, rate=rate) for rate in (12.0, 6.0))
  reader = CachingReader(Reader(examples, 24), BYTES)
  assert [len(reader.read(index, np.arange)) for index in (0, 1, 0, 1)] == [6, 3, 6, 3]
  assert reader.statistics.misses == 2


def test_frames_are_the_same_with_and_without_a_cache_that_is_too_small(videos, folder):
  examples = (
    *(Example(name, videos[name], {}) for name in ("short", "clip", "portrait")),
    *(Example(f"{start}", videos["long"], {}, start, start + 1.0) for start in (0.0, 0.5, 9.0)),
    *(Example(f"{stop}", str(folder), {}, None, stop, rate=12.0) for stop in (None, 0.5)),
  )
  plain = Reader(examples, 24)
  rng = np.random.default_rng(3)
  for eviction in ("lru", "none"):
    reader = CachingReader(plain, 60 * PICTURE, eviction)
    for index in rng.integers(0, len(examples), 60).tolist():
      np.testing.assert_array_equal(reader.read(index, choose), plain.read(index, choose))
    statistics = reader.statistics
    assert statistics.hits and 0 < statistics.bytes <= 60 * PICTURE
    assert (statistics.evictions > 0) == (eviction == "lru")


@pytest.mark.parametrize("promised", [3, None])
def test_a_header_that_promises_too_little_does_not_break_the_limit(copy, monkeypatch, promised):
  real_header, real_read, read = decode._header, decode.read_frames, []

  def read_frames(*arguments):
    frames = real_read(*arguments)
    read.append(len(frames))
    return frames

  monkeypatch.setattr(decode, "_header", lambda *a: decode.Header(promised, real_header(*a).rate, 48, 64))
  expected = Reader((Example("a", str(copy), {}),), 24).read(0, choose)
  monkeypatch.setattr(decode, "read_frames", read_frames)
  small, large = cached(copy, BYTES - 1), cached(copy, BYTES)
  for reader in (small, large, small, large):
    np.testing.assert_array_equal(reader.read(0, choose), expected)
  assert (small.statistics.hits, small.statistics.bytes) == (0, 0)
  assert (large.statistics.hits, large.statistics.bytes) == (1, BYTES)
  # small: one frame to learn the true number, once, and then the four that are asked for; large: all ten, once.
  assert read == [1, 4, 10, 4]


def test_the_header_of_a_video_that_does_not_fit_is_read_once(copy, monkeypatch):
  opened, real = [], decode.read_header
  monkeypatch.setattr(decode, "read_header", lambda path: opened.append(path) or real(path))
  reader = cached(copy, BYTES - 1)
  for _ in range(3):
    reader.read(0, choose)
  assert len(opened) == 1


def test_an_error_is_not_remembered(copy):
  content = copy.read_bytes()
  copy.unlink()
  reader = cached(copy, BYTES)
  with pytest.raises(DataError, match="is not a file"):
    reader.read(0, choose)
  copy.write_bytes(content)
  assert len(reader.read(0, choose)) == 4


@pytest.mark.parametrize("part", [(3.0, 3.0), (float("nan"), 1.0), (0.2, float("nan")), (-1.0, 1.0)])
def test_a_part_without_frames_is_refused_as_without_a_cache(copy, part):
  with pytest.raises(DataError, match="seconds is empty; 0 <= start < stop is needed"):
    cached(copy, BYTES, start=part[0], stop=part[1]).read(0, choose)


def test_an_example_with_a_rate_is_a_folder_of_frames(videos, folder):
  examples = (Example("video", videos["short"], {}), Example("folder", str(folder), {}, rate=12.0))
  reader = Reader(examples, 0)
  np.testing.assert_array_equal(reader.read(0, choose), reader.read(1, choose))
  assert reader.header(1) == dataclasses.replace(reader.header(0), codec="")


def test_several_threads_decode_a_video_once(copy, monkeypatch):
  decoded, real = [], decode.read_frames
  monkeypatch.setattr(decode, "read_frames", lambda *a: decoded.append(a[0]) or real(*a))
  reader, frames = cached(copy, BYTES), []
  threads = [threading.Thread(target=lambda: frames.append(reader.read(0, choose))) for _ in range(6)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(decoded) == 1 and len(frames) == 6
  assert all((frame == frames[0]).all() for frame in frames)
