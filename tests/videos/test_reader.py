"""The cache gives what the plain reader gives, and keeps to its limit."""

import pathlib

import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.core.types import Example
from gasmcast.videos.reader import CachingReader, Reader
from gasmcast.videos.sample import centre_frames

BYTES = 10 * 24 * 32 * 3  # the video "short", 48 x 64 pixels, shrunk to 24 x 32


@pytest.fixture
def copy(videos, tmp_path):
  path = tmp_path / "copy.webm"
  path.write_bytes(pathlib.Path(videos["short"]).read_bytes())
  return path


def choose(total):
  return centre_frames(total, 4)


def cached(path, limit, **part):
  return CachingReader(Reader((Example("a", str(path), {}, **part),), 24), limit)


def test_a_video_that_fits_is_decoded_once(copy, numbers):
  reader = cached(copy, BYTES)
  expected = Reader((Example("a", str(copy), {}),), 24).read(0, choose)
  first = reader.read(0, choose)
  copy.unlink()
  np.testing.assert_array_equal(first, expected)
  np.testing.assert_array_equal(reader.read(0, choose), expected)
  assert numbers(reader.read(0, np.arange)) == list(range(10))


def test_what_is_handed_out_is_a_copy(copy):
  reader = cached(copy, BYTES)
  reader.read(0, np.arange)[:] = 0
  assert reader.read(0, np.arange).any()


@pytest.mark.parametrize(("limit", "part"), [(BYTES - 1, {}), (BYTES, {"start": 0.0}), (BYTES, {"stop": 0.5})])
def test_larger_videos_and_parts_of_videos_are_read_from_the_file(copy, limit, part):
  reader = cached(copy, limit, **part)
  assert reader.read(0, choose).shape == (4, 24, 32, 3)
  copy.unlink()
  with pytest.raises(DataError, match="is not a file"):
    reader.read(0, choose)


def test_an_error_is_not_remembered(copy):
  content = copy.read_bytes()
  copy.unlink()
  reader = cached(copy, BYTES)
  with pytest.raises(DataError, match="is not a file"):
    reader.read(0, choose)
  copy.write_bytes(content)
  assert len(reader.read(0, choose)) == 4
