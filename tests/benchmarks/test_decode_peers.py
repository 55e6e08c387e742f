"""Other decoders give the frames that ours gives."""

import numpy as np
import pytest

from benchmarks import decode_peers
from gasmcast.jobs.benchmark_reading import mean_difference
from gasmcast.videos.decode import read_frames, read_header
from gasmcast.videos.sample import centre_frames


@pytest.fixture(scope="module")
def encode():
  pytest.importorskip("av")
  return decode_peers.encode()


@pytest.fixture(scope="module")
def paths(encode, tmp_path_factory):
  """A WebM and an MP4 of 24 frames (2 s), each a little brighter than the one before."""
  frames = np.random.default_rng(0).integers(0, 60, (1, 49, 65, 3)) + 8 * np.arange(24)[:, None, None, None]
  folder = tmp_path_factory.mktemp("peers")
  files = {"vp9": str(folder / "x.webm"), "h264": str(folder / "x.mp4")}
  for codec, file in files.items():
    encode(file, frames.astype(np.uint8), codec, 12, 100_000)
  return files


def peer(name):
  make = getattr(decode_peers, name)
  pytest.importorskip("av" if name == "pyav" else "torch")
  try:
    return make()
  except (ImportError, OSError, RuntimeError) as error:
    pytest.skip(f"{name} does not load here: {error}")


def test_videos_have_the_codec_and_size_that_were_asked_for(paths):
  assert read_header(paths["vp9"]).codec == "VP90" and read_header(paths["h264"]).codec in ("avc1", "h264")
  sizes = {codec: (header.height, header.width) for codec, header in ((c, read_header(p)) for c, p in paths.items())}
  assert sizes == {"vp9": (49, 65), "h264": (48, 64)}  # whole pixels of colour at half the resolution


@pytest.mark.parametrize("codec", ["vp9", "h264"])
@pytest.mark.parametrize("name", ["pyav", "torchcodec", "torchcodec_approximate"])
def test_a_peer_gives_the_frames_that_were_asked_for(paths, codec, name):
  totals = []

  def choose(total):
    totals.append(total)
    return centre_frames(total, 5)

  frames = peer(name)(paths[codec], choose)
  assert totals == [24] and frames.dtype == np.uint8
  assert mean_difference(frames, read_frames(paths[codec], choose)) < 1.0


def test_frames_that_are_missing_are_an_error(paths):
  with pytest.raises(ValueError, match=r"x.webm: 1 frames are missing"):
    peer("pyav")(paths["vp9"], lambda total: np.array([0, total]))
