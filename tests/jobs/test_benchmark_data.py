"""The benchmark of the way of the data, on two tiny videos."""

import json
import shutil
import sys
import types

import numpy as np
import pytest
from rich.console import Console

from configs import benchmark_data
from gasmcast.core.errors import ConfigError
from gasmcast.jobs import benchmark, benchmark_videos
from gasmcast.jobs.benchmark import Benchmark
from gasmcast.jobs.benchmark_loading import FixedDraws
from gasmcast.jobs.benchmark_reading import mean_difference
from gasmcast.jobs.benchmark_videos import Videos
from gasmcast.videos.decode import read_frames, read_header

TINY = Videos(count=2, frames=12, height=48, width=64)


@pytest.fixture
def make(tmp_path):
  return lambda config: Benchmark(config, tmp_path / "run", "python launch/main.py", Console(record=True, width=300))


@pytest.fixture
def config():
  """One tiny case by its name; peers are functions of a stand-in module."""

  def get(name):
    config = benchmark_data.get_config(f"cases={name},runlocal")
    case = config.cases[name]
    case.videos.encoder = "no_such_library:encode"
    if "peers" in case:
      with case.unlocked():
        case.peers = {"peer": "stand_in_peers:peer"}
    return config

  return get


@pytest.fixture
def peer(monkeypatch):
  """Sets what the stand-in's function is."""
  module = types.ModuleType("stand_in_peers")
  monkeypatch.setitem(sys.modules, "stand_in_peers", module)
  return lambda function: setattr(module, "peer", function)


def run(given):
  benchmark.check(given)
  benchmark.run(given)
  (case,) = json.loads((given.workdir / "benchmark.json").read_text())["cases"]
  return case, given.console.export_text()


def test_decoding_is_measured_beside_a_peer_that_gives_the_same_frames(config, peer, make):
  peer(lambda: lambda path, choose: read_frames(path, choose))
  given = config("decode_vp9")
  given.cases.decode_vp9.target = {"against": "", "ratio": 1e-9}
  case, said = run(make(given))
  ours, other = case["sides"]
  assert (ours["name"], other["name"], other["error"]) == ("gasmcast", "peer", 0.0)
  assert ours["clips_per_second"] == pytest.approx(2 / ours["median_seconds"])
  assert case["what"] == "8 frames each of 2 videos of 12 frames 64 x 48, VP9, one thread"
  assert case["target"]["met"] is True and case["target"]["against"] == "peer"
  assert "1e-09 x every peer" in said and "clips/s" in said and "GFLOP" not in said and "peers" not in said


def test_a_peer_that_gives_other_frames_ends_the_benchmark(config, peer, make):
  peer(lambda: lambda path, choose: read_frames(path, lambda total: (choose(total) + 5) % total))
  with pytest.raises(RuntimeError, match="peer differs from the reference by"):
    run(make(config("decode_vp9")))


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'other'"), OSError("libcuda.so is missing")])
def test_a_peer_that_is_not_installed_or_does_not_load_is_named(config, peer, make, error):
  def absent():
    raise error

  peer(absent)
  given = config("decode_vp9")
  given.cases.decode_vp9.target = {"against": "", "ratio": 1.1}
  case, said = run(make(given))
  assert case["sides"][1]["failed"] == f"RuntimeError: {error}; pip install -e '.[peers]' installs what works together"
  assert "not measured" in said and case["target"]["met"] is None


def test_without_an_encoder_of_h264_the_case_says_so(config, peer, make):
  case, _ = run(make(config("decode_h264")))
  (side,) = case["sides"]
  assert side["failed"].startswith("ModuleNotFoundError: no encoder of H.264 (No module named 'no_such_library'); pip")


def test_loading_is_measured_beside_a_peer_over_the_same_source(config, peer, make):
  def loader(source, batch, workers):
    assert (batch, workers) == (2, 2)
    for index in range(10**6):
      frames, _ = source.draw(index, np.random.default_rng())
      yield {"index": np.array([index]), "frames": frames["frames"][None]}

  peer(loader)
  case, _ = run(make(config("load")))
  ours, other = case["sides"]
  assert ours["name"] == "Grain, 2 threads" and other["error"] == 0.0
  assert ours["clips_per_second"] == pytest.approx(8 / ours["median_seconds"])


def test_the_frame_cache_gives_what_decoding_gives(config, make):
  case, _ = run(make(config("frame_cache")))
  assert [side["name"] for side in case["sides"]] == ["frame cache", "decoding"]
  assert case["sides"][1]["error"] == 0.0 and case["sides"][1]["ratio_to_first"] > 1


def test_stored_features_say_how_large_they_are(config, make):
  case, _ = run(make(config("features_tokens49_int8")))
  # 8 frames of 49 tokens: 32 numbers of a byte and a scale of two; 8 x 8 numbers of two bytes; names and labels
  least = 8 * 49 * (32 + 2) + 8 * 8 * 2
  (size,) = [int(word) for word in case["what"].replace(",", "").split() if word.isdigit() and int(word) > 1000]
  assert least < size < least + 400
  assert "as features (49 tokens int8, " in case["what"]
  assert case["sides"][1]["ratio_to_first"] > 1


def test_memory_files_and_threads_are_read_over_many_clips(config, make):
  given = config("memory")
  case, said = run(make(given))
  growth, files, threads = case["readings"]
  assert case["sides"] == [] and growth["limit"] == 1000.0 and growth["met"]
  assert files["value"] <= files["limit"] == 4 and threads["met"] and threads["limit"] == 1
  assert "MB more for each 1,000 clips: at most 1000" in said
  given.cases.memory.growth = -1e9
  case, said = run(make(given))
  assert case["readings"][0]["met"] is False and "not met" in said


def test_the_full_configuration_holds_every_promise(make):
  given = make(benchmark_data.get_config())
  targets = {name: common.target and common.target.ratio for name, common in given.common.items()}
  assert targets["decode_vp9"] == targets["decode_h264"] == 1.1 and targets["load"] == 1.05
  assert targets["frame_cache"] == 30 and targets["features_tokens49_int8_pca256"] == 500
  assert given.cases["memory"].growth == 1.0 and given.cases["memory"].clips == 20_000
  assert given.common["load"].schedule.pause_seconds > 1 and given.fields.schedule.rounds >= 7


def test_a_case_of_an_unknown_kind_is_refused(config, make):
  given = config("memory")
  given.cases.memory.kind = "speed"
  with pytest.raises(ConfigError, match="config.cases.memory.kind = 'speed' is not one of 'decode', 'load'"):
    make(given)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("count", 0, "count = 0: it must be at least 1"),
    ("frames", 1, "frames = 1: a video that shows a motion has at least 2"),
    ("height", 16, "64 x 16 pixels: at least 32 x 32 are needed"),
    ("codec", "av1", "codec = 'av1' is not one of 'vp9', 'h264'"),
  ],
)
def test_videos_that_can_not_be_made_are_refused(config, make, field, value, message):
  given = config("frame_cache")
  given.cases.frame_cache.videos[field] = value
  with pytest.raises(ConfigError, match=message):
    make(given)


def test_too_few_clips_for_a_slope_are_refused(config, make):
  given = config("memory")
  given.cases.memory.clips = 399
  with pytest.raises(ConfigError, match="clips = 399: 20 batches are needed, 400 clips"):
    make(given)


def test_videos_of_a_folder_are_taken_by_name(tmp_path):
  for name, path in zip(("b", "a", "c"), [*benchmark_videos.paths(TINY), __file__], strict=True):
    shutil.copy(path, tmp_path / f"{name}.webm")
  taken = Videos(count=2, folder=str(tmp_path))
  assert benchmark_videos.paths(taken) == (str(tmp_path / "a.webm"), str(tmp_path / "b.webm"))
  assert taken.described == f"2 videos of {tmp_path}, VP9"
  with pytest.raises(ConfigError, match=r"holds 3 files \*.webm; 4 are needed"):
    benchmark_videos.paths(Videos(count=4, folder=str(tmp_path)))


def test_without_the_peers_opencv_writes_the_vp9():
  path = benchmark_videos.paths(Videos(count=1, frames=12, height=48, width=64, encoder="no_such_library:encode"))[0]
  header = read_header(path)
  assert (header.frames, header.height, header.width, header.codec) == (12, 48, 64, "VP90")


def test_draws_are_fixed_by_the_file():
  class Source:
    dataset = None

    def draw(self, index, rng):
      return rng.integers(2**63)

  fixed, other = FixedDraws(Source(), 3), np.random.default_rng()
  assert fixed.draw(1, other) == fixed.draw(4, other) != fixed.draw(2, other)


def test_frames_differ_by_their_mean_difference_in_grey_levels():
  a = np.uint8([[0, 255]])
  assert mean_difference(a, np.uint8([[1, 253]])) == 1.5
  assert mean_difference(a, np.uint8([0, 255])) == float("inf")


@pytest.mark.long
def test_the_extraction_is_compared_with_a_loop_that_gives_the_same_features(config, make):
  case, _ = run(make(config("extraction")))
  job, bare = case["sides"]
  assert (job["name"], bare["name"]) == ("job extract", "bare loop")
  assert 0 < bare["error"] < 2**-8  # what is stored has the eight digits of bfloat16
  assert case["what"] == "2 clips of 16 frames through dinov3 and r3d, 2 videos of 12 frames 64 x 48, VP9"
