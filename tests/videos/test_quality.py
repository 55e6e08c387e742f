"""The numbers of a video are those that its making gives, and each flag holds where it should."""

import dataclasses
import pathlib

import cv2
import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.core.manifest import hash_file
from gasmcast.videos import quality
from gasmcast.videos.quality import Probe, QualityConfig, flags, probe

GOOD = Probe(
  frames=48,
  promised=48,
  rate=12.0,
  height=240,
  width=320,
  codec="VP90",
  seconds=4.0,
  bytes=1000,
  blake3="",
  brightness=100.0,
  contrast=50.0,
  sharpness=500.0,
  motion=3.0,
  black=0.0,
  frozen=0.0,
  signature="0" * 48,
)


def texture(seed=0, height=96, width=128):
  """A picture with structure at all scales."""
  rng = np.random.default_rng(seed)
  layers = [
    cv2.resize(rng.uniform(0, 255, (size, size, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    for size in (3, 6, 12, 24)
  ]
  return np.clip(np.mean(layers, axis=0) * 1.5 - 60, 0, 255).astype(np.uint8)


def grey(level, height=64, width=64):
  return np.full((height, width, 3), level, np.uint8)


@pytest.fixture
def make(tmp_path, write_video):
  """Encodes pictures nearly without loss (Motion JPEG) unless told otherwise; returns the path."""

  def make(frames, name="clip.avi", code="MJPG", rate=12.0):
    return write_video(tmp_path / name, frames, rate=rate, code=code)

  return make


def test_the_header_s_numbers_and_the_file_s(videos):
  found = probe(videos["clip"])
  assert (found.frames, found.promised, found.rate, found.seconds) == (48, 48, 12.0, 4.0)
  assert (found.height, found.width, found.codec) == (48, 64, "VP80")
  assert found.bytes == pathlib.Path(videos["clip"]).stat().st_size
  assert found.blake3 == hash_file(videos["clip"])


def test_everything_is_a_plain_number_or_text(videos):
  for value in dataclasses.asdict(probe(videos["clip"])).values():
    assert type(value) in (int, float, str)


def test_a_part_has_its_own_frames_and_the_file_s_hash(videos):
  found = probe(videos["long"], 1.0, 2.0)
  assert (found.frames, found.promised, found.seconds) == (30, 30, 1.0)
  assert found.blake3 == hash_file(videos["long"])
  assert probe(videos["long"], 1.0, 2.0, digest="known").blake3 == "known"


def test_brightness_and_contrast_of_drawn_frames(make):
  half = grey(40)
  half[:, 32:] = 200  # mean 120, deviation 80
  found = probe(make([half] * 4))
  assert found.brightness == pytest.approx(120, abs=2)
  assert found.contrast == pytest.approx(80, abs=2)


def test_motion_is_the_mean_change_from_frame_to_frame(make):
  found = probe(make([grey(level) for level in (20, 30, 50, 90)]))
  assert found.motion == pytest.approx((10 + 20 + 40) / 3, abs=1)
  assert probe(make([grey(9)], "one.avi")).motion == 0


def test_blur_lowers_sharpness(make):
  sharp, blurred = (
    probe(make([picture] * 3, f"{number}.avi")).sharpness
    for number, picture in enumerate([texture(), cv2.GaussianBlur(texture(), (0, 0), 4)])
  )
  assert blurred < sharp / 4


def test_black_counts_dark_frames_without_contrast_alone(make):
  night = grey(0)
  night[::2, 1::2] = night[1::2, ::2] = 25  # as dark, but with structure
  frames = [grey(2), grey(8), grey(30), night]
  assert probe(make(frames)).black == 0.5


def test_frozen_counts_pairs_that_differ_by_the_codec_s_noise_alone(make):
  assert probe(make([texture(1, 240, 320)] * 20, "still.webm", "VP80")).frozen == 1
  moving = [np.roll(texture(1), 2 * number, axis=1) for number in range(20)]
  assert probe(make(moving, "moving.webm", "VP80")).frozen == 0
  stuttering = [moving[number // 2] for number in range(20)]  # 10 of 19 pairs show one picture
  assert probe(make(stuttering)).frozen == pytest.approx(10 / 19)


def test_a_small_thing_that_moves_is_no_frozen_picture(make):
  frames = []
  for number in range(10):
    frames.append(texture(1, 240, 320))
    frames[-1][100:112, 16 * number : 16 * number + 12] = 255
  assert probe(make(frames)).frozen == 0


@pytest.mark.parametrize("count", [1, 2, 32, 33, 64, 65, 200, 420, 5000])
def test_sampled_pairs_are_spread_evenly_and_bounded(count):
  sampler = quality._Sampler()
  taken = 0
  for number in range(count):
    if sampler.wants(number):
      sampler.take(number, grey(number % 2 * 40, 8, 8))
      taken += 1
  numbers = [frame.number for frame in sampler._frames]
  spacing = sampler._spacing
  assert numbers == [number for number in range(count) if number % spacing <= 1]
  assert len(numbers) <= 2 * quality.MAX_PAIRS + 2 and (count <= 64 or len(numbers) >= quality.MAX_PAIRS)
  assert taken <= 2 * quality.MAX_PAIRS * (1 + np.log2(max(count / quality.MAX_PAIRS, 1)))
  assert sampler.summary()["motion"] == (40 if count > 1 else 0)  # of pairs alone, not over gaps


def test_numbers_of_a_long_video_are_those_of_its_sampled_frames(videos):
  whole = probe(videos["long"])  # levels 3, 8, ... 248 again and again on the left
  assert whole.frames == 420 and whole.motion == pytest.approx(2.5, abs=1)


def test_the_signature_survives_another_codec_and_tells_videos_apart(make):
  pictures = [texture(seed) for seed in (1, 2, 3)]
  first = probe(make(pictures)).signature
  again = probe(make(pictures, "again.webm", "VP80")).signature
  other = probe(make([texture(seed) for seed in (4, 5, 6)], "other.avi")).signature
  different = lambda a, b: (int(a, 16) ^ int(b, 16)).bit_count()
  assert len(first) == 48 and different(first, again) <= 12 and different(first, other) >= 40
  assert probe(make([grey(90)] * 3, "flat.avi")).signature == "0" * 48


def test_the_signature_shows_first_middle_and_last_frame(make):
  pictures = [texture(seed) for seed in (1, 2, 3)]
  one = lambda seed: probe(make([texture(seed)], f"{seed}.avi")).signature[:16]
  assert probe(make(pictures)).signature == one(1) + one(2) + one(3)


@pytest.mark.parametrize(
  ("change", "expected"),
  [
    ({}, ()),
    ({"frames": 7, "promised": 7}, ("short",)),
    ({"seconds": 0.4}, ("short",)),
    ({"rate": 0.0, "seconds": 0.0}, ()),
    ({"width": 63}, ("small",)),
    ({"black": 0.51}, ("black",)),
    ({"black": 1.0, "frozen": 1.0}, ("black", "frozen")),
    ({"frozen": 0.9}, ()),
    ({"promised": 49}, ("miscounted",)),
    ({"promised": None}, ()),
  ],
)
def test_flags_hold_beyond_their_thresholds(change, expected):
  assert flags(dataclasses.replace(GOOD, **change), QualityConfig()) == expected


def test_thresholds_can_be_moved():
  config = QualityConfig(min_frames=100, max_miscount=2)
  assert flags(dataclasses.replace(GOOD, promised=50), config) == ("short",)


def test_a_folder_of_frames_is_probed_by_its_sampled_frames(tmp_path):
  for number in range(40):
    cv2.imwrite(str(tmp_path / f"frame_{number + 1:010d}.jpg"), grey(20 + 4 * number))
  (tmp_path / "frame_0000000004.jpg").write_bytes(b"not opened: pairs are 0 1, 2 3 in 32, and all up to 64")
  with pytest.raises(DataError, match="frame_0000000004.jpg"):
    probe(tmp_path, rate=10.0)
  cv2.imwrite(str(tmp_path / "frame_0000000004.jpg"), grey(32))
  found = probe(tmp_path, rate=10.0)
  assert (found.frames, found.promised, found.seconds, found.codec) == (40, 40, 4.0, "")
  assert (found.height, found.width) == (64, 64)
  assert found.motion == pytest.approx(4, abs=1) and found.brightness == pytest.approx(98, abs=1)
  assert found.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
  assert probe(tmp_path, 1.0, 2.0, rate=10.0).frames == 10
  cv2.imwrite(str(tmp_path / "frame_0000000041.jpg"), grey(9))
  assert probe(tmp_path, rate=10.0).blake3 != found.blake3


def test_what_cannot_be_read_is_refused_as_in_training(videos, tmp_path):
  clip = pathlib.Path(videos["clip"]).read_bytes()
  path = tmp_path / "cut.webm"
  path.write_bytes(clip[: len(clip) // 2])
  with pytest.raises(DataError, match=r"cut.webm: only \d+ of 48 frames could be decoded"):
    probe(path)
  with pytest.raises(DataError, match=r"absent.webm is not a file"):
    probe(tmp_path / "absent.webm")
  with pytest.raises(DataError, match=r"no frame could be decoded from frame 60 on"):
    probe(videos["clip"], 5.0, 6.0)


def test_a_file_that_cannot_be_hashed_is_refused(videos, monkeypatch):
  def unreadable(_):
    raise OSError(5, "Input/output error")

  monkeypatch.setattr(quality, "hash_file", unreadable)
  with pytest.raises(DataError, match="clip.webm can't be read: Input/output error"):
    probe(videos["clip"])


def test_real_clips_are_without_fault(shared_data):
  found = [probe(path) for path in sorted((shared_data / "fight" / "videos").iterdir())[::10]]
  assert all(flags(one, QualityConfig()) == () for one in found)
  assert len({one.signature for one in found}) == len(found)
  truth = {"TrumanShow_wave_f_nm_np1_fr_med_26.avi": (48, 49), "v_SoccerJuggling_g23_c01.avi": (240, 240)}
  for name, counts in truth.items():
    one = probe(shared_data / "labelled_clips" / name)
    assert (one.frames, one.promised) == counts
