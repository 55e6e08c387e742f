"""The job that makes a download ready: an index and a report of every clip, or a refusal with its reason."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from configs import ssv2_prepare
from gasmcast.core.errors import ChecksFailed, ConfigError, DataError
from gasmcast.datasets import index
from tests.datasets.test_archives import FOLDER
from tests.jobs.small_download import CLASSES, checks, clip, run, setup, state
from tests.videos.conftest import encode

ROOT = pathlib.Path(__file__).parents[2]


def test_the_official_download_becomes_an_index_and_a_report(tmp_path, source):
  before = state(source)
  quality, printed = run(tmp_path / "run", source)
  assert state(source) == before
  assert {name: split["examples"] for name, split in quality["splits"].items()} == {
    "train": 8,
    "validation": 4,
    "test": 2,
  }
  assert quality["splits"]["train"]["readable"] == 8 and quality["splits"]["train"]["classes"] == {"action": [4, 4]}
  assert quality["splits"]["train"]["statistics"]["frames"]["median"] == 13.5
  assert quality["splits"]["train"]["sizes"] == {"96x80": 8}
  assert quality["labels"] == {"mapped": 12, "unmapped": 0}
  assert all(one["passed"] for one in quality["checks"])
  train = index.load(tmp_path / "run" / "index", "train")
  assert [example.id for example in train.examples] == [str(n) for n in range(8)]
  assert all(pathlib.Path(example.path).is_file() for example in train.examples)
  assert train.examples[0].path == str(tmp_path / "run" / "videos" / FOLDER / "0.webm")
  assert (
    train.classes == {"action": CLASSES} and index.load(tmp_path / "run" / "index", "test").examples[0].labels == {}
  )
  assert quality["data"] == {
    "name": "something_something",
    "source": str(source),
    "fingerprint": quality["data"]["fingerprint"],
  }
  page = (tmp_path / "run" / "report" / "index.html").read_text()
  assert "data:image/webp" in page and "something_something" in page
  for words in ("3 parts", "Archive: ", "14 files", "train 8, validation 4, test 2; 2 classes of action", "14 videos"):
    assert words in printed
  steps = [printed.index(word) for word in ("Unpacking", "Annotations:", "Probed:", "Checksums:", "Checks:", "report ")]
  assert steps == sorted(steps)


@pytest.mark.usefixtures("no_page")
def test_bad_clips_are_listed_with_their_reasons(tmp_path, unpacked, clips):
  videos = unpacked / "videos"
  (videos / "0.webm").write_bytes(b"no video at all")
  (videos / "1.webm").unlink()
  clip(videos / "2.webm", 2, 2)
  encode(videos / "3.webm", [np.zeros((80, 96, 3), np.uint8)] * 12)
  clip(videos / "4.webm", 4, 12, height=48, width=64)
  (videos / "6.webm").write_bytes(clips[5].read_bytes())
  (videos / "9.webm").write_bytes(clips[7].read_bytes())
  with pytest.raises(ChecksFailed, match=r"missing .*; unreadable \(train: 1 of 8 examples\)"):
    run(tmp_path / "run", unpacked)
  quality = json.loads((tmp_path / "run" / "quality.json").read_text())
  flags = {"missing": 1, "corrupt": 1, "short": 1, "black": 1, "frozen": 1, "small": 1, "duplicate": 1, "leak": 1}
  assert quality["splits"]["train"]["flags"] == flags
  assert quality["across_splits"] == 1 and sorted(quality["duplicates"]) == [
    ["train/5", "train/6"],
    ["train/7", "validation/9"],
  ]
  lines = [json.loads(line) for line in (tmp_path / "run" / "flagged.jsonl").read_text().splitlines()]
  why = {line["id"]: line["why"] for line in lines}
  assert "it begins with b'no video at '" in why["0"]["corrupt"] and "1.webm does not exist" in why["1"]["missing"]
  assert why["2"] == {"short": "2 frames, 0.17 s"} and why["3"]["black"] == "100% of its frames are black"
  assert why["4"] == {"small": "64 x 48 pixels"} and why["6"] == {"duplicate": "the same file as 5"}
  failed = {name for name, one in checks(quality).items() if not one["passed"]}
  assert failed == {"missing", "unreadable", "short", "black", "frozen", "small", "duplicates", "across_splits"}


@pytest.mark.usefixtures("no_page")
def test_flags_that_are_excluded_leave_the_index(tmp_path, unpacked, clips):
  (unpacked / "videos" / "0.webm").write_bytes(b"no video at all")
  (unpacked / "videos" / "6.webm").write_bytes(clips[5].read_bytes())
  relaxed = {"checks__unreadable__severity": "warning"}
  quality, printed = run(tmp_path / "run", unpacked, exclude=("corrupt", "duplicate"), **relaxed)
  assert [one.id for one in index.load(tmp_path / "run" / "index", "train").examples] == ["1", "2", "3", "4", "5", "7"]
  assert quality["excluded"] == {"train": 2, "validation": 0, "test": 0}
  assert quality["splits"]["train"]["examples"] == 8
  lines = (tmp_path / "run" / "flagged.jsonl").read_text().splitlines()
  assert [json.loads(line)["excluded"] for line in lines] == [True, True]
  assert "WARNING unreadable: train: 1 of 8 examples (0.125, limit 0.001)" in printed
  for number in (12, 13):
    (unpacked / "videos" / f"{number}.webm").write_bytes(b"no")
  with pytest.raises(DataError, match=r"exclude = \('corrupt',\) leaves no example of the split 'test' \(2 before"):
    run(tmp_path / "run", unpacked, exclude=("corrupt",), **relaxed)


@pytest.mark.usefixtures("no_page")
def test_counts_must_be_the_official_ones(tmp_path, source):
  with pytest.raises(ChecksFailed, match=r"official_counts \(train: 8 of 168,913 examples\)"):
    run(tmp_path / "run", source, config=ssv2_prepare.get_config())
  quality = json.loads((tmp_path / "run" / "quality.json").read_text())
  assert {name: split["official"] for name, split in quality["splits"].items()} == {
    "train": 168_913,
    "validation": 24_777,
    "test": 27_157,
  }
  assert index.load(tmp_path / "run" / "index", "train")


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize(
  ("fields", "error", "message"),
  [
    ({"source": None}, ConfigError, r"config.prepare.source is not set; give the folder of the download"),
    ({"source": "absent"}, DataError, r"config.prepare.source = '.*absent' is not a folder"),
    ({"annotations": "absent"}, DataError, r"config.prepare.annotations = '.*absent' is not a folder"),
    ({"dataset": "other"}, ConfigError, r"config.prepare.dataset = 'other': use one of something_something"),
    (
      {"splits": ("train", "dev")},
      ConfigError,
      r"config.prepare.splits = \('train', 'dev'\): name one or more of",
    ),
    ({"exclude": ("bad",)}, ConfigError, r"config.prepare.exclude: \['bad'\] is no flag; use missing, corrupt"),
    ({"shard": 0}, ConfigError, r"config.prepare.shard = 0: at least 1 video is needed"),
    ({"workers": -1}, ConfigError, r"config.prepare.workers = -1; use 0 for one a CPU, or more"),
    ({"timeout": 0.0}, ConfigError, r"config.prepare.timeout = 0.0, config.prepare.memory = .*: both must be above 0"),
    ({"baseline": "absent"}, DataError, r"absent does not exist"),
    ({"checksums": ("absent",)}, DataError, r"absent: the list of checksums can't be read"),
  ],
)
def test_what_cannot_work_is_refused_before_any_work(tmp_path, unpacked, fields, error, message):
  with pytest.raises(error, match=message):
    setup(tmp_path / "run", **{"source": unpacked, **fields})
  assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_page")
def test_a_split_without_annotations_is_an_error_only_if_it_is_asked_for(tmp_path, unpacked):
  (unpacked / "test.json").unlink()
  with pytest.raises(DataError, match=r"test.json is missing"):
    run(tmp_path / "run", unpacked)
  assert list(run(tmp_path / "run", unpacked, splits=("train",))[0]["splits"]) == ["train"]


def test_the_exit_codes_of_the_command_line(tmp_path, unpacked):
  """0 with warnings, 3 when a check failed, 2 when it can't work."""
  (unpacked / "videos" / "6.webm").write_bytes((unpacked / "videos" / "5.webm").read_bytes())
  command = [sys.executable, "launch/main.py", "--config", "configs/prepare.py", "--workdir", str(tmp_path / "run")]
  execute = lambda *fields: subprocess.run(
    [*command, f"--config.prepare.source={unpacked}", "--config.prepare.workers=1", *fields],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env={**os.environ, "COLUMNS": "160"},
  )
  done = execute()
  assert (done.returncode, done.stderr) == (0, ""), done.stderr
  assert "WARNING duplicates: train: 1 examples are copies" in done.stdout
  done = execute("--config.prepare.checks.duplicates.severity=error")
  assert done.returncode == 3 and done.stderr.count("\n") == 1
  assert done.stderr.startswith("checks failed: duplicates (train: 1 examples are copies)")
  done = execute("--config.prepare.source=absent")
  assert done.returncode == 2 and done.stderr.startswith("error: config.prepare.source")


@pytest.mark.long
@pytest.mark.usefixtures("no_page")
def test_real_surveillance_clips(tmp_path, shared_data):
  before = {file.name: file.stat().st_mtime_ns for file in (shared_data / "fight" / "videos").iterdir()}
  quality, _ = run(tmp_path / "run", shared_data / "fight", splits=("train", "validation"), workers=2, shard=64)
  assert {name: split["readable"] for name, split in quality["splits"].items()} == {"train": 180, "validation": 60}
  assert sum(quality["splits"]["train"]["flags"].values()) == 0 and quality["across_splits"] == 0
  assert all(one["passed"] for one in quality["checks"])
  assert before == {file.name: file.stat().st_mtime_ns for file in (shared_data / "fight" / "videos").iterdir()}
