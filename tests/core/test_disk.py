"""A full disk or a folder that can't be used is told with numbers and a remedy, and costs no finished shard."""

import errno
import os
import pathlib
import subprocess

import pytest

from gasmcast.core import disk
from gasmcast.core.errors import WorkdirError
from tests.core.small_work import finish_all, full_disk, names, open_work, write

ROOM = (
  r": no space is left on the disk\. \d+ bytes are free\. 2 bytes of shard 1 were written\. The 2 missing shards need "
  r"about 10 bytes\. Free some and run the same command again\.$"
)


def library_error():
  raise RuntimeError("write() failed: No space left on device; writing")


def wrapped_error():
  try:
    full_disk()
  except OSError as error:
    raise WorkdirError("the file can't be written") from error


@pytest.mark.reliability
@pytest.mark.parametrize("fail", [full_disk, library_error, wrapped_error])
def test_a_full_disk_while_writing_is_told_in_numbers_and_leaves_nothing_behind(tmp_path, fail):
  work = open_work(tmp_path)
  claims = work.claims()
  with next(claims) as claim:
    write(claim)
    claim.finish()
  with pytest.raises(WorkdirError, match=ROOM), next(claims) as claim:
    claim.path.write_text("3,")
    fail()
  assert names(tmp_path) == ["00000.json", "00000.txt", "work.json"]
  assert finish_all(work) == [1, 2]


def test_a_full_disk_elsewhere_is_not_ours(tmp_path):
  with pytest.raises(OSError, match="/elsewhere/frame"), next(open_work(tmp_path).claims()):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/elsewhere/frame")


@pytest.mark.reliability
@pytest.mark.parametrize("call", ["fsync", "replace", "link"])
def test_a_full_disk_while_finishing_leaves_the_shard_unfinished(tmp_path, monkeypatch, call):
  work = open_work(tmp_path)
  with (
    pytest.raises(WorkdirError, match=r"no space is left on the disk\. \d+ bytes are free\. \d bytes of shard 0 were "),
    next(work.claims()) as claim,
  ):
    write(claim)
    monkeypatch.setattr(pathlib.Path if call == "replace" else os, call, full_disk)
    claim.finish()
  monkeypatch.undo()
  assert work.progress() == (0, 7)
  assert finish_all(work) == [0, 1, 2] and not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.reliability
def test_a_disk_that_is_really_full_is_told_and_the_work_goes_on_when_there_is_room(tmp_path):
  mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("mounting a small tmpfs is not permitted here")
  try:
    work = open_work(tmp_path, items=4, size=1)
    ballast = tmp_path / "ballast"
    ballast.write_bytes(bytes(100_000))
    write_big = lambda claim: claim.path.write_bytes(bytes([claim.shard.first]) * 30_000)
    with pytest.raises(
      WorkdirError, match=r"\d+ bytes of shard 3 were written\. The 1 missing shards need about 30000"
    ):
      for claim in work.claims():
        with claim:
          if claim.shard.number == 3:
            (tmp_path / "more").write_bytes(bytes(os.statvfs(tmp_path).f_bavail * 4096 - 8192))
          write_big(claim)
          claim.finish()
    assert [shard.number for shard in work.missing()] == [3]
    ballast.unlink()
    for claim in open_work(tmp_path, items=4, size=1).claims():
      with claim:
        write_big(claim)
        claim.finish()
    assert work.progress() == (4, 4) and work.verify(full=True) == []
  finally:
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_made_or_written_is_refused(tmp_path, monkeypatch):
  (tmp_path / "file").touch()
  with pytest.raises(WorkdirError, match=r"/file/work can't be used: Not a directory .*/file/work\)\. Give this user "):
    open_work(tmp_path / "file" / "work")
  with monkeypatch.context() as patch:
    patch.setattr(os, "link", full_disk)
    with pytest.raises(WorkdirError, match=r"^/.*: no space is left on the disk\. \d+ bytes are free\. Free some and "):
      open_work(tmp_path / "new")
  work = open_work(tmp_path / "new")

  def refuse(*_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "here")

  monkeypatch.setattr(os, "open", refuse)
  with pytest.raises(
    WorkdirError, match=r"^/.*/new can't be used: Permission denied \(here\)\. Give this user the rig"
  ):
    next(work.claims())


def test_a_folder_that_is_gone_is_named(tmp_path):
  work = open_work(tmp_path / "new")
  (tmp_path / "new" / "work.json").unlink()
  (tmp_path / "new").rmdir()
  with pytest.raises(WorkdirError, match=r"/new can't be read: No such file or directory\.$"):
    work.progress()


def test_a_file_system_without_links_will_do(tmp_path, monkeypatch):
  def refuse(*_, **__):
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

  monkeypatch.setattr(os, "link", refuse)
  assert finish_all(open_work(tmp_path)) == [0, 1, 2]
  disk.create(tmp_path / "00000.json", b"second", tmp_path / "part")
  assert open_work(tmp_path).verify(full=True) == [] and "part" not in names(tmp_path)
