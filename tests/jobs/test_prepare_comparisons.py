"""A data set is compared with what is known of it: checksums of earlier runs, given ones, a baseline."""

import json
import os

import pytest

from gasmcast.core.checksums import digests, read_lists
from gasmcast.core.errors import ChecksFailed, DataError
from gasmcast.jobs import prepare
from tests.datasets.test_archives import FOLDER
from tests.jobs.small_download import annotate, checks, clip, results, run, setup

pytestmark = pytest.mark.usefixtures("no_page")


def test_the_same_command_again_finds_everything_done_and_compares_checksums(tmp_path, source):
  first, _ = run(tmp_path / "run", source)
  before = results(tmp_path / "run")
  second, printed = run(tmp_path / "run", source)
  assert results(tmp_path / "run") == before
  assert (first["checksums"]["compared"], first["checksums"]["new"]) == (0, 14)
  assert (second["checksums"]["compared"], second["checksums"]["new"]) == (14, 0)
  assert "Unpacking" not in printed and "14 videos (0 now" in printed
  assert "14 videos, 14 compared with the last run, 0 changed, 0 new, 0 gone" in printed


OFF = {"checks__changed__severity": "off"}


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
  md5 = digests(part, ("md5",))["md5"]
  (tmp_path / "MD5SUMS").write_text(f"{md5}  {part.name}\n")
  sums = {n: digests(clip, ("sha256", "blake3")) for n, clip in enumerate(clips)}
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
