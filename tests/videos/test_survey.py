"""Every video is looked at once, and again only when it changed."""

import json
import os

import cv2
import numpy as np
import pytest

from gasmcast.core.checksums import digests
from gasmcast.core.errors import DataError
from gasmcast.core.isolation import Limits
from gasmcast.videos import survey
from gasmcast.videos.survey import Task, Video


@pytest.fixture
def files(tmp_path, videos):
  """Three readable files, one that is no video, one that is absent."""
  folder = tmp_path / "files"
  folder.mkdir()
  for name in ("short", "clip", "portrait"):
    os.link(videos[name], folder / f"{name}.webm")
  (folder / "bad.webm").write_bytes(b"no video")
  return [Video(str(folder / f"{name}.webm")) for name in ("short", "bad", "absent", "clip", "portrait")]


def run(folder, files, algorithms=None, verification=0, said=None, verify=False, limits=Limits(30)):
  """(records, how many were looked at)."""
  state, algorithms = survey.sizes_and_times(files), algorithms or {}
  work = survey.open_round(folder, files, state, 2, algorithms, verification, limits)
  say = (said if said is not None else []).append
  survey.run_round(work, files, state, algorithms, 1, limits, verify, say)
  found = list(survey.records(work))
  probed = sum(receipt.result["probed"] for receipt in work.receipts().values())
  survey.remove_other_rounds(work)
  return found, probed, work


def test_every_file_has_a_record_in_order(tmp_path, files):
  said = []
  found, probed, _ = run(tmp_path / "rounds", files, said=said)
  assert [one["path"] for one in found] == [video.path for video in files]
  assert [("probe" in one, "failed" in one, one["size"] < 0) for one in found] == [
    (True, False, False),
    (False, True, False),
    (False, False, True),
    (True, False, False),
    (True, False, False),
  ]
  assert [one["probe"]["frames"] for one in found if "probe" in one] == [10, 48, 12]
  assert "it begins with b'no video'" in found[1]["failed"]
  assert probed == 4 and max(said) == 2 and said[-1] == 0
  assert found[3]["probe"]["blake3"] == digests(files[3].path, ("blake3",))["blake3"]


def test_the_same_state_is_the_same_round_and_another_one_looks_at_what_changed(tmp_path, files, videos):
  first, _, work = run(tmp_path / "rounds", files)
  again, _, same = run(tmp_path / "rounds", files)
  assert again == first and same.folder == work.folder
  os.utime(files[3].path, ns=(0, 123_456_789))
  changed, probed, other = run(tmp_path / "rounds", files)
  assert other.folder != work.folder and [folder.name for folder in other.folder.parent.iterdir()] == [
    other.folder.name
  ]
  assert probed == 2  # the changed one, and the one that could not be read
  assert changed[3]["time"] == 123_456_789 and changed[3]["probe"] == first[3]["probe"]
  assert [changed[0], changed[4]] == [first[0], first[4]]


def test_with_other_limits_what_could_not_be_read_is_tried_again_and_nothing_else(tmp_path, files):
  first, _, _ = run(tmp_path / "rounds", files, limits=Limits(30))
  again, probed, _ = run(tmp_path / "rounds", files, limits=Limits(60))
  assert again == first and probed == 1 and "failed" in first[1]


def test_a_verification_hashes_all_and_decodes_what_differs(tmp_path, files):
  first, _, _ = run(tmp_path / "rounds", files)
  again, probed, _ = run(tmp_path / "rounds", files, verification=1, verify=True)
  assert again == first and probed == 4


def test_a_known_video_is_not_decoded_unless_its_content_differs(files):
  known = {"probe": {"blake3": digests(files[0].path, ("blake3",))["blake3"], "frames": -7}}
  assert survey.examine(Task(files[0], known=known)) == {"probe": known["probe"]}
  assert survey.examine(Task(files[3], known=known))["probe"]["frames"] == 48
  told = survey.examine(Task(files[0], ("md5", "sha256")))["sums"]
  assert told == digests(files[0].path, ("md5", "sha256"))
  with pytest.raises(DataError, match=r"absent.webm can't be read: No such file"):
    survey.examine(Task(files[2], ("md5",)))


@pytest.mark.reliability
def test_a_damaged_shard_is_found_and_made_again(tmp_path, files):
  first, _, work = run(tmp_path / "rounds", files)
  shard = work.file(1)
  data = bytearray(shard.read_bytes())
  data[30] ^= 1
  shard.write_bytes(data)
  work.verify(full=True)
  assert run(tmp_path / "rounds", files)[0] == first
  shard.write_bytes(b"{")
  with pytest.raises(
    DataError, match=r"00001.jsonl can't be read \(.*\); remove it, and the same command makes it again"
  ):
    list(survey.records(work))


def test_lines_of_an_earlier_round_that_are_damaged_are_not_believed(tmp_path, files):
  first, _, work = run(tmp_path / "rounds", files)
  for shard in work.shards:
    work.file(shard.number).write_bytes(work.file(shard.number).read_bytes().replace(b'"path"', b'"phat"'))
  again, probed, _ = run(tmp_path / "rounds", files, verification=1)
  assert again == first and probed == 4


def test_folders_of_frames_are_looked_at_too(tmp_path):
  for number in range(12):
    picture = np.random.default_rng(number).integers(0, 256, (72, 96, 3), np.uint8)
    cv2.imwrite(str(tmp_path / f"frame_{number:05d}.jpg"), picture)
  probe = survey.examine(Task(Video(str(tmp_path), 24.0)))["probe"]
  assert (probe["frames"], probe["seconds"], probe["height"]) == (12, 0.5, 72)
  json.dumps(probe)
