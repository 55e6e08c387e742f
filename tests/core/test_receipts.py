"""A shard counts when its receipt and its file agree; whatever differs is set aside and made again."""

import random

import pytest

from gasmcast.core.errors import WorkdirError
from gasmcast.core.shards import Shard, plan
from tests.core.small_work import claimed_by, finish_all, open_work, write


def test_a_result_comes_back_with_its_receipt(tmp_path):
  work = open_work(tmp_path, items=1)
  with next(work.claims()) as claim:
    write(claim)
    claim.finish({"failed": {"0": "öffnen"}, "sums": (0.1, 2)})
  assert work.receipts()[0].result == {"failed": {"0": "öffnen"}, "sums": [0.1, 2]}


@pytest.mark.parametrize(
  ("damage", "reason"),
  [
    (lambda folder: (folder / "00001.txt").write_text("3,4"), "has 3 bytes, 5 were written."),
    (lambda folder: (folder / "00001.txt").unlink(), "does not exist."),
    (lambda folder: (folder / "00001.json").write_text('{"shard'), "is not valid JSON"),
    (lambda folder: (folder / "00001.json").write_text("[]"), "is no receipt: it needs the entries blake3, bytes, "),
    (lambda folder: (folder / "00000.json").replace(folder / "00001.json"), "is the receipt of another shard"),
  ],
  ids=["cut", "absent", "half a receipt", "no receipt", "another receipt"],
)
def test_damage_is_found_on_opening_and_made_again(tmp_path, damage, reason):
  finish_all(open_work(tmp_path))
  damage(tmp_path)
  work = open_work(tmp_path)
  (note,) = work.notes
  assert note.startswith("Shard 1 is set aside and will be made again: ") and reason in note
  assert Shard(1, 3, 6) in work.missing() and not work.file(1).exists()
  assert 1 in finish_all(work)
  assert [work.file(number).read_text() for number in range(3)] == ["0,1,2", "3,4,5", "6"]
  assert work.verify(full=True) == [] and len(work.notes) == 1


def test_a_file_without_a_receipt_counts_for_nothing(tmp_path):
  work = open_work(tmp_path)
  work.file(1).write_text("3,4")
  assert work.missing() == plan(7, 3)
  finish_all(work)
  assert work.file(1).read_text() == "3,4,5"


@pytest.mark.reliability
def test_every_flipped_bit_is_found_and_the_file_made_again(tmp_path):
  work = open_work(tmp_path)
  finish_all(work)
  draw = random.Random(7)
  for _ in range(10):
    path = work.file(draw.randrange(3))
    content = bytearray(path.read_bytes())
    clean, place = bytes(content), draw.randrange(len(content))
    content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    assert open_work(tmp_path).notes == ()  # sizes are equal
    assert [shard.number for shard in work.verify(full=True)] == [int(path.stem)]
    assert work.notes[-1].endswith(f"{path} has another BLAKE3 than what was written.")
    assert path.with_name(f"{path.name}.damaged").read_bytes() == content
    assert finish_all(work) == [int(path.stem)] and path.read_bytes() == clean


def test_damage_that_somebody_mends_just_now_is_left_to_him(tmp_path):
  work = open_work(tmp_path)
  finish_all(work)
  work.file(1).write_text("3,4")
  path, _ = claimed_by(tmp_path, 1)
  assert work.verify(full=True) == [] and work.notes == ()
  path.unlink()
  assert [shard.number for shard in work.verify(full=False)] == [1]


def test_a_receipt_damaged_after_opening_is_refused(tmp_path):
  work = open_work(tmp_path)
  finish_all(work)
  (tmp_path / "00002.json").write_text("")
  with pytest.raises(WorkdirError, match=r"00002\.json is not valid JSON: .* Run the same command again: it makes "):
    work.receipts()
