"""Every form of the download gives the same data set; the source is only read, and room is there or asked for."""

import shutil

import pytest

from gasmcast.core.errors import ConfigError, WorkdirError
from gasmcast.datasets import archives
from gasmcast.jobs import unpacking
from tests.datasets.test_archives import FOLDER, download, tar
from tests.jobs import small_download
from tests.jobs.small_download import run, setup, state

pytestmark = pytest.mark.usefixtures("no_page")


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


def test_no_room_is_told_before_anything_is_unpacked(tmp_path, source, monkeypatch):
  usage = shutil.disk_usage(tmp_path)
  monkeypatch.setattr("gasmcast.jobs.unpacking.shutil.disk_usage", lambda path: usage._replace(free=1000))
  with pytest.raises(WorkdirError, match=r"needs about [\d,]+ bytes, 1,000 are free; make room or set config"):
    run(tmp_path / "run", source)
  assert not list((tmp_path / "run" / "videos").iterdir())


def test_what_is_unpacked_needs_no_more_room(tmp_path, source, monkeypatch):
  run(tmp_path / "run", source)
  usage = shutil.disk_usage(tmp_path)
  monkeypatch.setattr("gasmcast.jobs.unpacking.shutil.disk_usage", lambda path: usage._replace(free=0))
  quality, _ = run(tmp_path / "run", source)
  assert quality["splits"]["train"]["readable"] == 8


def test_room_is_needed_for_all_archives_together(tmp_path, clips, monkeypatch):
  """Two archives of which either would fit; what is there of them already needs no room."""
  members = {f"{FOLDER}/{number}.webm": clip.read_bytes() for number, clip in enumerate(clips)}
  folder = download(tmp_path / "source", tar(members), parts=3)
  whole = sum(archive.size for archive in archives.find(folder))
  usage = shutil.disk_usage(tmp_path)._replace(free=whole // 2)
  monkeypatch.setattr("gasmcast.jobs.unpacking.shutil.disk_usage", lambda path: usage)
  found = archives.find(folder)
  with pytest.raises(WorkdirError, match=f"^{tmp_path}/videos: unpacking {found[0].name}, {found[0].name} needs"):
    unpacking._require_space(tmp_path / "videos", [*found, *found])
  (tmp_path / "videos" / "all.bin").write_bytes(bytes(2 * whole))
  unpacking._require_space(tmp_path / "videos", [*found, *found])


def test_videos_beside_folders_are_seen_too(tmp_path, unpacked):
  """Annotations lie elsewhere, the videos in the source itself, where there is also a folder of something else."""
  small_download.annotate(tmp_path / "annotations")
  for video in list((unpacked / "videos").iterdir()):
    video.rename(unpacked / video.name)
  (unpacked / "videos").rename(unpacked / "notes")
  quality, _ = run(tmp_path / "run", unpacked, annotations=str(tmp_path / "annotations"))
  assert quality["splits"]["train"]["readable"] == 8
  assert (tmp_path / "run" / "dataset" / "videos").readlink() == unpacked


def test_annotations_that_have_gone_no_longer_count(tmp_path, unpacked):
  lists = tmp_path / "annotations"
  small_download.annotate(lists)
  run(tmp_path / "run", unpacked, annotations=str(lists))
  copies = tmp_path / "run" / "dataset"
  assert list(copies.rglob("test.json"))
  (lists / "test.json").unlink()
  quality, _ = run(tmp_path / "run", unpacked, annotations=str(lists), splits=("train", "validation"))
  assert not list(copies.rglob("test.json")) and set(quality["splits"]) == {"train", "validation"}
