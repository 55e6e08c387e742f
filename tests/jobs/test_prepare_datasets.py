"""Data sets of every form become an index: segments of videos, folders, lists, frames in files."""

import json

import cv2
import numpy as np
import pytest

from configs import prepare as any_config
from gasmcast.core.errors import ChecksFailed
from gasmcast.datasets import index
from tests.datasets.test_epic_kitchens import ROWS
from tests.datasets.test_epic_kitchens import write as write_epic
from tests.jobs.small_download import run

pytestmark = pytest.mark.usefixtures("no_page")


def test_a_video_of_several_segments_is_probed_once(tmp_path, clips):
  """EPIC-KITCHENS-100 with its lists in another folder; the last segment begins after the end of its video."""
  rows = tuple(
    ROWS[0].replace("P01_11_0", f"P01_11_{n}").replace("00:00:00.00,00:00:01.89", t)
    for n, t in enumerate(("00:00:00.00,00:00:00.50", "00:00:00.25,00:00:01.00", "00:00:30.00,00:00:31.00"))
  )
  lists = write_epic(tmp_path / "lists", rows=rows, media=())
  video = tmp_path / "epic" / "P01" / "videos" / "P01_11.MP4"
  video.parent.mkdir(parents=True)
  video.write_bytes(clips[13].read_bytes())
  off = {"checks__official_counts__severity": "off", "checks__fewest_examples__severity": "off"}
  fields = {"annotations": str(lists), "splits": ("train",), "config": any_config.get_config("epic_kitchens"), **off}
  with pytest.raises(ChecksFailed, match=r"^unreadable \(train: 1 of 3 examples\)"):
    run(tmp_path / "run", tmp_path / "epic", **fields, dataset="epic_kitchens")
  quality = json.loads((tmp_path / "run" / "quality.json").read_text())
  split = quality["splits"]["train"]
  assert (split["examples"], split["videos"], split["readable"]) == (3, 1, 1)
  assert split["flags"] == {"outside": 1} and split["seconds"] == 0.5 + 0.75
  assert split["classes"] == {"verb": [3, 0], "noun": [0, 0, 3]}
  assert [one.start for one in index.load(tmp_path / "run" / "index", "train").examples] == [0.0, 0.25, 30.0]
  assert len((tmp_path / "run" / "videos.jsonl").read_text().splitlines()) == 1


def test_folders_lists_and_frames_become_an_index_too(tmp_path, clips):
  """A folder a class with shares; a CSV with segments; a list of folders of frames."""
  for number, clip in enumerate(clips):
    file = tmp_path / "classes" / ("wave", "jump")[number % 2] / f"{number}.webm"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(clip.read_bytes())
  relaxed = {"splits": ("train", "validation"), "checks__fewest_examples__severity": "off"}
  config = any_config.get_config("folder,shares")
  config.prepare.options.shares.update({"train": 0.5, "validation": 0.5})
  quality, _ = run(tmp_path / "a", tmp_path / "classes", "folder", config, **relaxed)
  assert sum(split["examples"] for split in quality["splits"].values()) == 14
  assert quality["classes"] == {"action": ["jump", "wave"]}

  lines = [f"wave/{n}.webm,{start},{start + 0.5},w,0.5" for n in (0, 2) for start in (0.0, 0.25)]
  (tmp_path / "classes" / "train.csv").write_text("\n".join(["path,start,stop,label,value.openness", *lines]))
  quality, _ = run(tmp_path / "b", tmp_path / "classes", "csv", **relaxed | {"splits": ("train",)})
  assert (quality["splits"]["train"]["examples"], quality["splits"]["train"]["videos"]) == (4, 2)
  loaded = index.load(tmp_path / "b" / "index", "train")
  assert loaded.values == ("openness",) and loaded.examples[3].values == {"openness": 0.5}

  rng = np.random.default_rng(0)
  for video in range(2):
    (tmp_path / "frames" / str(video)).mkdir(parents=True)
    for number in range(12):
      picture = rng.integers(0, 256, (80, 96, 3), np.uint8)
      cv2.imwrite(str(tmp_path / "frames" / str(video) / f"img_{number + 1:05d}.jpg"), picture)
  (tmp_path / "frames" / "train.txt").write_text("0 12 0\n1 12 1\n")
  (tmp_path / "frames" / "labels.json").write_text('{"up": "0", "down": "1"}')
  config = any_config.get_config("list")
  config.prepare.options.rate = 12.0
  quality, _ = run(tmp_path / "c", tmp_path / "frames", "list", config, **relaxed | {"splits": ("train",)})
  assert quality["splits"]["train"]["statistics"]["seconds"]["median"] == 1.0
  assert [one.rate for one in index.load(tmp_path / "c" / "index", "train").examples] == [12.0, 12.0]
