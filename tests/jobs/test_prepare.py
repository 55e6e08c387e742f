"""The job that makes a download ready: small real videos in the form of the official download."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from rich.console import Console

from configs import prepare as any_config
from configs import ssv2_prepare
from gasmcast.core.checksums import hash_file, read_lists
from gasmcast.core.errors import ChecksFailed, ConfigError, DataError, WorkdirError
from gasmcast.datasets import index
from gasmcast.jobs import prepare
from tests.datasets.test_archives import FOLDER, download, tar
from tests.datasets.test_epic_kitchens import ROWS
from tests.datasets.test_epic_kitchens import write as write_epic
from tests.videos.conftest import encode

ROOT = pathlib.Path(__file__).parent.parent.parent
CLASSES = ("Moving something up", "Moving something down")
SPLITS = {"train": range(8), "validation": range(8, 12), "test": range(12, 14)}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
  """14 different videos of 10 to 23 frames 96 x 80, by number."""
  folder = tmp_path_factory.mktemp("clips")
  return [clip(folder / f"{number}.webm", number, 10 + number) for number in range(14)]


def clip(path, number, frames, height=80, width=96):
  """A pattern of blocks that moves; every number is another pattern."""
  blocks = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
  size = {"dsize": (width, height), "interpolation": cv2.INTER_NEAREST}
  return pathlib.Path(encode(path, [cv2.resize(np.roll(blocks, n, axis=1), **size) for n in range(frames)]))


def annotate(folder, splits=SPLITS):
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "labels.json").write_text(json.dumps({name: str(number) for number, name in enumerate(CLASSES)}))
  for split, ids in splits.items():
    entries = [{"id": str(n), "template": CLASSES[n % 2].replace("something", "[something]")} for n in ids]
    entries = [{"id": one["id"]} for one in entries] if split == "test" else entries
    (folder / f"{split}.json").write_text(json.dumps(entries))


@pytest.fixture
def source(tmp_path, clips):
  """The official download: zipped parts and a folder of annotations."""
  members = {f"{FOLDER}/{n}.webm": clip.read_bytes() for n, clip in enumerate(clips)}
  folder = download(tmp_path / "source", tar(members), parts=3)
  annotate(folder / "labels")
  return folder


@pytest.fixture
def unpacked(tmp_path, clips):
  """The folder of .webm beside its annotations."""
  folder = tmp_path / "unpacked"
  annotate(folder)
  (folder / "videos").mkdir()
  for number, clip in enumerate(clips):
    (folder / "videos" / f"{number}.webm").write_bytes(clip.read_bytes())
  return folder


def setup(workdir, source, dataset="something_something", config=None, **fields):
  """A checked setup; fields by dotted name with "__" for the dots."""
  config = config or any_config.get_config(dataset)
  fields = {
    "source": None if source is None else str(source),
    "splits": tuple(SPLITS),
    "workers": 1,
    "shard": 4,
    **fields,
  }
  for name, value in fields.items():
    *path, last = name.split("__")
    place = config.prepare
    for part in path:
      place = place[part]
    place[last] = value
  made = prepare.Setup(config, workdir, "python launch/main.py", Console(record=True, width=160))
  prepare.check(made)
  return made


@pytest.fixture(autouse=True)
def _no_page(request, monkeypatch):
  """Drawing the page takes longer than all the rest, so one test looks at it, and the command line."""
  if request.function is not test_the_official_download_becomes_an_index_and_a_report:
    monkeypatch.setattr(prepare.page, "write", lambda folder, *others: folder / "index.html")


def run(*arguments, **fields):
  """quality.json and what was printed."""
  made = setup(*arguments, **fields)
  prepare.run(made)
  return json.loads((made.workdir / "quality.json").read_text()), made.console.export_text()


def state(folder):
  """Path -> content hash and time of every file and folder."""
  return {
    str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
    for path in [folder, *folder.rglob("*")]
  }


def results(workdir):
  """What a run has made, without what names the working directory or the moment."""
  names = ("videos.jsonl", "flagged.jsonl", "checksums.b3", "index/index.json", "index/train.jsonl")
  text = {name: (workdir / name).read_text().replace(str(workdir), "") for name in names}
  index_json = json.loads(text["index/index.json"])
  for split in index_json["splits"].values():
    del split["blake3"]  # of a file with paths
  return text | {"index/index.json": index_json}


def checks(quality):
  return {one["name"]: one for one in quality["checks"]}


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


def test_every_form_of_the_download_gives_the_same_data_set(tmp_path, source, unpacked, clips):
  fingerprint = lambda *arguments, **fields: run(*arguments, **fields)[0]["data"]["fingerprint"]
  wanted = fingerprint(tmp_path / "a", source)
  assert fingerprint(tmp_path / "b", unpacked) == wanted
  parts = download(
    tmp_path / "parts", tar({f"{FOLDER}/{n}.webm": c.read_bytes() for n, c in enumerate(clips)}), 2, False
  )
  assert fingerprint(tmp_path / "c", parts, annotations=str(source / "labels")) == wanted
  bare = unpacked / "videos"
  before = state(unpacked)
  assert fingerprint(tmp_path / "d", bare, annotations=str(source / "labels")) == wanted
  assert fingerprint(tmp_path / "e", unpacked, annotations=str(unpacked)) == wanted
  assert state(unpacked) == before


def test_the_same_command_again_finds_everything_done_and_compares_checksums(tmp_path, source):
  first, _ = run(tmp_path / "run", source)
  before = results(tmp_path / "run")
  second, printed = run(tmp_path / "run", source)
  assert results(tmp_path / "run") == before
  assert (first["checksums"]["compared"], first["checksums"]["new"]) == (0, 14)
  assert (second["checksums"]["compared"], second["checksums"]["new"]) == (14, 0)
  assert "Unpacking" not in printed and "14 videos (0 now" in printed
  assert "14 videos, 14 compared with the last run, 0 changed, 0 new, 0 gone" in printed


def test_only_changed_files_are_looked_at_again(tmp_path, unpacked, clips):
  run(tmp_path / "run", unpacked)
  video = unpacked / "videos" / "3.webm"
  video.write_bytes(clips[4].read_bytes() + b"\xec\x8801234567")
  (unpacked / "videos" / "5.webm").unlink()
  with pytest.raises(ChecksFailed, match=r"missing \(train: 1 of 8 examples\); changed \(1 of 13 videos") as failure:
    run(tmp_path / "run", unpacked)
  assert "\n" not in str(failure.value)
  receipts = [json.loads(file.read_text())["result"] for file in (tmp_path / "run" / "probes").glob("*/0*.json")]
  assert sum(one["probed"] for one in receipts) == 1 and len(receipts) == 4
  quality = json.loads((tmp_path / "run" / "quality.json").read_text())
  assert quality["checksums"]["changed"] == [str(video)] and quality["checksums"]["gone"] == 1
  assert quality["splits"]["train"]["flags"] == {"missing": 1, "changed": 1, "similar": 1}
  with pytest.raises(ChecksFailed, match="changed"):  # until it is put right, or accepted
    run(tmp_path / "run", unpacked, checks__missing__severity="warning")
  quality, _ = run(tmp_path / "run", unpacked, accept_changes=True, checks__missing__severity="warning", **OFF)
  quality, _ = run(tmp_path / "run", unpacked, checks__missing__severity="warning")
  assert quality["checksums"]["changed"] == []


OFF = {"checks__changed__severity": "off"}


def test_verify_finds_what_size_and_time_hide(tmp_path, unpacked):
  video = unpacked / "videos" / "3.webm"
  data = bytearray(video.read_bytes() + b"\xec\x8801234567")  # "Void": eight bytes that mean nothing
  video.write_bytes(data)
  run(tmp_path / "run", unpacked)
  before = video.stat()
  data[-2] ^= 1
  video.write_bytes(data)
  os.utime(video, ns=(before.st_atime_ns, before.st_mtime_ns))
  quality, _ = run(tmp_path / "run", unpacked)
  assert quality["checksums"]["changed"] == []
  with pytest.raises(ChecksFailed, match=r"changed \(1 of 14 videos"):
    run(tmp_path / "run", unpacked, verify=True)
  quality = json.loads((tmp_path / "run" / "quality.json").read_text())
  assert quality["checksums"]["changed"] == [str(video)] and quality["worst"]["changed"][0]["id"] == "3"
  with pytest.raises(ChecksFailed, match="changed"):
    run(tmp_path / "run", unpacked)
  data[-2] ^= 1
  video.write_bytes(data)
  assert run(tmp_path / "run", unpacked, verify=True)[0]["checksums"]["changed"] == []


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


def test_a_baseline_is_compared_with(tmp_path, unpacked):
  run(tmp_path / "before", unpacked)
  baseline = str(tmp_path / "before" / "quality.json")
  quality, printed = run(tmp_path / "same", unpacked, baseline=baseline)
  assert "Compared with the baseline: nothing changed." in printed
  assert checks(quality)["drift_examples"]["passed"]
  annotate(unpacked, {"train": range(6)})
  clip(unpacked / "videos" / "0.webm", 0, 2)
  with pytest.raises(ChecksFailed, match=r"drift_examples \(train: 6 examples, 8 before\)"):
    run(tmp_path / "now", unpacked, baseline=baseline)
  quality = json.loads((tmp_path / "now" / "quality.json").read_text())
  assert checks(quality)["drift_flags"]["message"] == "train: 16.67% short, 0.00% before"
  made = setup(tmp_path / "now", unpacked, baseline=baseline)
  with pytest.raises(ChecksFailed):
    prepare.run(made)
  assert "Changed since the baseline" in made.console.export_text()


def test_given_checksums_of_archives_and_videos_are_verified(tmp_path, source, clips):
  part = source / f"{FOLDER}-01.zip"
  md5 = hash_file(part, ("md5",))["md5"]
  (tmp_path / "MD5SUMS").write_text(f"{md5}  {part.name}\n")
  sums = {n: hash_file(clip, ("sha256", "blake3")) for n, clip in enumerate(clips)}
  (tmp_path / "SHA256SUMS").write_text("".join(f"{one['sha256']}  x/{n}.webm\n" for n, one in sums.items() if n < 3))
  (tmp_path / "sums.b3").write_text("".join(f"{one['blake3']}  {n}.webm\n" for n, one in sums.items() if n > 2))
  given = tuple(str(tmp_path / name) for name in ("MD5SUMS", "sums.b3"))
  quality, printed = run(tmp_path / "run", source, checksums=given)
  assert "given checksums of parts: 1 right" in printed
  assert (quality["checksums"]["given"], quality["checksums"]["wrong"]) == (11, 0)
  (tmp_path / "sums.b3").write_text(f"{sums[0]['blake3']}  1.webm\n")
  with pytest.raises(ChecksFailed, match=r"wrong_checksums \(1 of 1 files differ from the given checksums\)"):
    run(tmp_path / "run", source, checksums=given)
  assert "its blake3 is not the given one" in (tmp_path / "run" / "flagged.jsonl").read_text()
  (tmp_path / "MD5SUMS").write_text(f"{'0' * 32}  {part.name}\n")
  with pytest.raises(DataError, match=rf"{part.name} has the md5 {md5}, the given list says 0+; download it again"):
    run(tmp_path / "other", source, checksums=given)
  assert not list((tmp_path / "other" / "videos").glob(f"{FOLDER}/*"))


def test_own_checksums_are_read_by_their_reader(tmp_path, unpacked):
  run(tmp_path / "run", unpacked)
  names = list(read_lists([tmp_path / "run" / "checksums.b3"]))
  assert names == sorted(str(unpacked / "videos" / f"{n}.webm") for n in range(14))
  (tmp_path / "run" / "checksums.b3").write_text("nonsense\n")
  with pytest.raises(DataError, match=r"checksums.b3, line 1 is no checksum; remove the file: nothing is compared"):
    run(tmp_path / "run", unpacked)


def test_the_source_is_never_written_to(tmp_path, source):
  for fields, message in (
    (
      {"videos": str(source / "videos")},
      r"config.prepare.videos = '.*' lies in config.prepare.source = '.*', which",
    ),
    ({"videos": str(tmp_path)}, r"config.prepare.source = '.*' lies in config.prepare.videos"),
  ):
    with pytest.raises(ConfigError, match=message):
      setup(tmp_path / "run", source, **fields)
  with pytest.raises(ConfigError, match=r"--workdir = '.*' lies in config.prepare.source"):
    setup(source / "run", source)
  (tmp_path / "link").symlink_to(source)
  with pytest.raises(ConfigError, match=r"--workdir = '.*' lies in config.prepare.source"):
    setup(tmp_path / "link" / "run", source)
  source.chmod(0o555)
  run(tmp_path / "run", source)


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


def test_a_split_without_annotations_is_an_error_only_if_it_is_asked_for(tmp_path, unpacked):
  (unpacked / "test.json").unlink()
  with pytest.raises(DataError, match=r"test.json is missing"):
    run(tmp_path / "run", unpacked)
  assert list(run(tmp_path / "run", unpacked, splits=("train",))[0]["splits"]) == ["train"]


def test_no_room_is_told_before_anything_is_unpacked(tmp_path, source, monkeypatch):
  usage = prepare.make_root.__globals__["shutil"].disk_usage(tmp_path)
  monkeypatch.setattr("gasmcast.jobs.unpacking.shutil.disk_usage", lambda path: usage._replace(free=1000))
  with pytest.raises(WorkdirError, match=r"needs about [\d,]+ bytes, 1,000 are free; make room or set config"):
    run(tmp_path / "run", source)
  assert not list((tmp_path / "run" / "videos").iterdir())


_CHILD = """
import sys
from tests.jobs.test_prepare import setup
from gasmcast.jobs import prepare
prepare.page.write = lambda folder, *others: folder / "index.html"
prepare.run(setup(sys.argv[1], sys.argv[2], shard=1))
"""


def start(workdir, source):
  options = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
  return subprocess.Popen([sys.executable, "-c", _CHILD, str(workdir), str(source)], **options)


def kill_when(process, reached):
  """kill -9 as soon as `reached()`; True if it still ran."""
  deadline = time.monotonic() + 120
  while process.poll() is None and not reached():
    assert time.monotonic() < deadline, "it did not get there"
    time.sleep(0.001)
  alive = process.poll() is None
  process.send_signal(signal.SIGKILL)
  process.communicate()
  return alive


@pytest.mark.reliability
def test_killed_while_unpacking_and_while_probing_it_goes_on_and_ends_the_same(tmp_path, clips, source):
  bulk = {f"{FOLDER}/{n}.webm": clip.read_bytes() for n, clip in enumerate(clips)}
  bulk |= {f"{FOLDER}/{n}.webm": os.urandom(2_000) for n in range(100, 3_100)}  # so that unpacking takes a moment
  download(source, tar(bulk))
  before = state(source)
  workdir = tmp_path / "killed"
  videos = lambda: len(list((workdir / "videos" / FOLDER).glob("*.webm")))
  receipts = lambda: len(list((workdir / "probes").glob("*/0*.json")))
  assert kill_when(start(workdir, source), lambda: videos() > 100)
  assert not list((workdir / "unpacking").glob("*/00000.json")) and 100 < videos() < 3_014
  assert kill_when(start(workdir, source), lambda: receipts() > 3)
  assert receipts() > 3
  run(workdir, source, shard=1)
  run(tmp_path / "whole", source, shard=1)
  assert results(workdir) == results(tmp_path / "whole")
  assert not list(workdir.rglob("*.part")) and not (workdir / "videos" / ".unpacking").exists()
  assert state(source) == before


@pytest.mark.reliability
def test_two_processes_divide_the_work_and_make_the_same(tmp_path, source):
  both = [start(tmp_path / "both", source) for _ in range(2)]
  errors = [process.communicate(timeout=240)[1] for process in both]
  assert [process.returncode for process in both] == [0, 0], errors
  run(tmp_path / "one", source, shard=1)
  assert results(tmp_path / "both") == results(tmp_path / "one")


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
def test_real_surveillance_clips(tmp_path, shared_data):
  before = {file.name: file.stat().st_mtime_ns for file in (shared_data / "fight" / "videos").iterdir()}
  quality, _ = run(tmp_path / "run", shared_data / "fight", splits=("train", "validation"), workers=2, shard=64)
  assert {name: split["readable"] for name, split in quality["splits"].items()} == {"train": 180, "validation": 60}
  assert sum(quality["splits"]["train"]["flags"].values()) == 0 and quality["across_splits"] == 0
  assert all(one["passed"] for one in quality["checks"])
  assert before == {file.name: file.stat().st_mtime_ns for file in (shared_data / "fight" / "videos").iterdir()}
