"""The job that looks at real clips: tiny networks with random weights on rendered videos, and real ones on real."""

import dataclasses
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict
from rich.console import Console

from configs import inspect as inspect_config
from gasmcast import features
from gasmcast.core.errors import ConfigError, DataError, WorkdirError
from gasmcast.features.backbones import BACKBONES
from gasmcast.jobs import inspect, table
from tests.launch.test_main import ROOT, environment


def prepare(workdir, arg="runlocal", **fields):
  """A checked setup that prints into a recording console."""
  config = inspect_config.get_config(arg)
  config.inspect.update(fields)
  setup = inspect.Setup(config, workdir, "python launch/main.py", Console(record=True, width=140))
  inspect.check(setup)
  return setup


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A workdir in which the rendered clip was looked at, and what was printed."""
  setup = prepare(tmp_path_factory.mktemp("runs") / "inspect", save_features=True)
  inspect.run(setup)
  return setup.workdir, setup.console.export_text()


@pytest.fixture(scope="module")
def clips(finished):
  """Rendered videos, in the order of their names."""
  return sorted((finished[0] / "rendered" / "videos").iterdir())


@pytest.fixture(scope="module")
def networks():
  choices = prepare("unused").inspect
  return [features.load(one.name, one.weights, **one.options) for one in (choices.semantic, choices.motion)]


def test_a_clip_gives_a_picture_and_its_numbers(finished):
  workdir, printed = finished
  folder = workdir / "inspection"
  assert sorted(path.name for path in folder.iterdir()) == ["1.json", "1.npz", "1.png"]
  picture = cv2.imread(str(folder / "1.png"))
  assert picture.shape[1] == 1352 and picture.std() > 10
  numbers = json.loads((folder / "1.json").read_text())
  assert numbers["semantic"]["tokens"]["shape"] == [8, 8, 8, 32] and numbers["semantic"]["tokens"]["finite"]
  assert numbers["motion"]["segments"]["shape"] == [8, 32] and numbers["motion"]["segments"]["finite"]
  assert min(numbers["motion"]["energy"]) > 0 and min(numbers["pixel_change"]) > 0
  assert len(numbers["motion"]["energy"]) == len(numbers["pixel_change"]) == 8
  for stream, option in (("semantic", "patch"), ("motion", "stem_stride")):
    assert numbers[stream]["random"] and len(numbers[stream]["fingerprint"]) == 64
    assert option in numbers[stream]["options"]
  assert len(numbers["video"]["frames"]) == 16 and numbers["moments"][0] == "0.00 s"
  assert numbers["meta"]["config"]["inspect"]["video"] == "rendered" and numbers["meta"]["versions"]["jax"]
  assert str(folder / "1.png") in printed and "8 x 8 x 8 x 32" in printed and "effective rank" in printed
  assert "RANDOM WEIGHTS (semantic and motion): 1.webm" in printed


def test_saved_features_are_all_that_the_networks_return(finished, clips, networks):
  with np.load(finished[0] / "inspection" / "1.npz", allow_pickle=False) as file:
    saved = dict(file)
  assert {name: array.shape for name, array in saved.items()} == {
    "semantic/tokens": (8, 64, 32),
    "semantic/cls": (8, 32),
    "semantic/registers": (8, 4, 32),
    "motion/segments": (8, 32),
    "motion/grid": (8, 4, 4, 32),
    "motion/pooled": (32,),
  }
  clip = inspect.read_clip(clips[0], prepare("unused").inspect, 64)
  outputs, inspection = inspect.look("1.webm", clip, *networks)
  np.testing.assert_array_equal(outputs["motion"]["segments"], saved["motion/segments"])
  np.testing.assert_array_equal(inspection.tokens.reshape(8, 64, 32), saved["semantic/tokens"])


def test_the_semantic_network_sees_every_second_frame(networks):
  """Frames that it does not see can change; frames that it sees can't, and each only changes its own tokens."""
  frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
  tokens = lambda frames: inspect.look("a", inspect.Clip(frames, range(16), 12.0), *networks)[1].tokens
  unseen, seen = frames.copy(), frames.copy()
  unseen[5], seen[6] = 0, 0
  before = tokens(frames)
  np.testing.assert_array_equal(tokens(unseen), before)
  np.testing.assert_array_equal((tokens(seen) != before).any((1, 2, 3)), np.arange(8) == 3)


def test_energy_is_in_the_segments_that_move(networks):
  """A clip that stands still but for one jump, at the first frame of the fifth of 8 segments."""
  frames = np.zeros((16, 64, 64, 3), np.uint8)
  frames[8:, 16:48, 16:48] = 200
  _, inspection = inspect.look("a", inspect.Clip(frames, range(16), 12.0), *networks)
  assert (inspection.energy > 0).tolist() == (inspection.pixel_change > 0).tolist() == [s == 4 for s in range(8)]


def test_a_part_of_a_video_and_its_moments(clips):
  config = dataclasses.replace(prepare("unused").inspect, frames=4, start=0.5, stop=1.0)
  clip = inspect.read_clip(clips[0], config, 64)
  assert clip.numbers == (6, 8, 9, 11) and clip.rate == 12  # 12 frames a second: frames 6 to 11 in four parts
  assert clip.moments == ["0.50 s", "0.67 s", "0.75 s", "0.92 s"]
  assert dataclasses.replace(clip, rate=0.0).moments[1] == "frame 8"


def test_a_folder_is_looked_at_video_by_video_and_a_bad_one_is_told_at_the_end(tmp_path, clips):
  folder = tmp_path / "clips"
  folder.mkdir()
  (folder / "a.webm").symlink_to(clips[1])
  (folder / "b.MP4").symlink_to(clips[2])
  (folder / "b.webm").write_bytes(b"no video")
  (folder / "labels.csv").write_text("a,b")
  setup = prepare(tmp_path / "run", video=str(folder))
  with pytest.raises(
    DataError, match=r"^1 of 3 videos could not be read: .*b.webm is no WebM/Matroska, MP4/MOV, AVI file"
  ):
    inspect.run(setup)
  written = sorted(path.name for path in (tmp_path / "run" / "inspection").iterdir())
  assert written == ["a.json", "a.png", "b.MP4.json", "b.MP4.png"]


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path, clips):
  (tmp_path / "run").write_text("a file")
  with pytest.raises(WorkdirError, match="inspection can't be written .*; make room or choose another --workdir"):
    inspect.run(prepare(tmp_path / "run", video=str(clips[0])))


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"video": ""}, "config.inspect.video is not set; give the path of a video or of a folder with videos"),
    ({"frames": 5}, "config.inspect.frames = 5: the semantic network sees every second one; use an even number"),
    ({"frames": 0}, "config.inspect.frames = 0"),
    ({"semantic": {"name": "i3d_rgb"}}, "config.inspect.semantic.name = 'i3d_rgb' is no semantic backbone; use one of"),
    ({"motion": {"name": "i3d"}}, "config.inspect.motion.name = 'i3d' is no motion backbone; use one of .*r3d_18"),
    ({"semantic": {"nam": "x"}}, "config.inspect.semantic.nam is not a field; did you mean 'name'"),
    ({"framse": 16}, "config.inspect.framse is not a field; did you mean 'frames'"),
    ({"start": "early"}, "config.inspect.start = 'early' is of type str; float is needed"),
  ],
)
def test_impossible_fields_are_refused(tmp_path, fields, message):
  config = inspect_config.get_config("runlocal").to_dict()
  config["inspect"] |= fields
  with pytest.raises(ConfigError, match=message):
    inspect.Setup(ConfigDict(config), tmp_path, "")


def test_fields_of_other_jobs_are_refused(tmp_path):
  config = inspect_config.get_config("runlocal").to_dict() | {"data": {}}
  with pytest.raises(ConfigError, match="config.data is not a field; known fields: job, inspect"):
    table.prepare("inspect", config, str(tmp_path), "")


def test_a_missing_video_and_a_folder_without_one_are_refused(tmp_path):
  with pytest.raises(DataError, match="nowhere.mp4' does not exist; give a video or a folder with videos"):
    prepare(tmp_path, video=str(tmp_path / "nowhere.mp4"))
  with pytest.raises(DataError, match=r"holds no video \(.webm, .mkv, .mp4, .m4v, .mov, .avi\); give a video"):
    prepare(tmp_path, video=str(tmp_path))


@pytest.mark.parametrize(
  ("arg", "semantic", "motion"),
  [
    ("", "efficientnet_lite0", "i3d_rgb"),
    ("dinov2", "dinov2_vits14", "i3d_rgb"),
    ("dinov3,motion=r3d", "dinov3_vitb16", "r3d_18"),
    ("dinov3_vitl16,motion=vjepa2", "dinov3_vitl16", "vjepa2_vitl16"),
    ("runlocal", "dinov3_vitb16", "r3d_18"),
  ],
)
def test_the_argument_names_the_backbones(arg, semantic, motion, tmp_path):
  config = prepare(tmp_path, arg, video="rendered").inspect
  assert (config.semantic.name, config.motion.name) == (semantic, motion)
  for choice in (config.semantic, config.motion):
    dataclasses.replace(BACKBONES[choice.name].config, **choice.options)  # the options are fields of the network


def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(tmp_path):
  flags = ["--config", "configs/inspect.py", "--workdir", str(tmp_path), "--config.inspect.video=none.mp4"]
  result = subprocess.run(
    [sys.executable, "launch/main.py", *flags], cwd=ROOT, env=environment(), capture_output=True, text=True
  )
  assert (result.returncode, result.stderr.count("\n")) == (2, 1)
  assert result.stderr.startswith("error: config.inspect.video = 'none.mp4' does not exist")


@pytest.mark.long
def test_real_networks_on_a_real_clip(tmp_path, shared_data):
  """The features of the two networks that need no network access, and that they tell moments of the clip apart."""
  setup = prepare(tmp_path, "", video=str(shared_data / "labelled_clips" / "basketball.mp4"))
  weights = {"semantic": "efficientnet_lite0.safetensors", "motion": "i3d_k400_rgb.safetensors"}
  chosen = {
    stream: dataclasses.replace(getattr(setup.inspect, stream), weights=str(shared_data / "weights" / name))
    for stream, name in weights.items()
  }
  setup.inspect = dataclasses.replace(setup.inspect, **chosen)
  inspect.run(setup)
  numbers = json.loads((tmp_path / "inspection" / "basketball.json").read_text())
  assert numbers["semantic"]["tokens"]["shape"] == [8, 14, 14, 1280] and not numbers["semantic"]["random"]
  assert numbers["motion"]["segments"]["shape"] == [8, 1024] and not numbers["motion"]["random"]
  assert numbers["semantic"]["tokens"]["effective_rank"] > 100 and numbers["motion"]["segments"]["effective_rank"] > 4
  assert np.corrcoef(numbers["motion"]["energy"], numbers["pixel_change"])[0, 1] > 0.5
  similarity = np.array(numbers["semantic"]["self_similarity"])
  assert similarity[0, 1] > similarity[0, 4] > similarity[0, 7]
