"""Counts, flags and statistics of a data set from made-up records."""

import subprocess
import sys

import pytest

from gasmcast.core.types import Example
from gasmcast.metrics.data_quality import CHOSEN, Contents, SplitQuality, in_order, statistics

CLASSES = {"action": ("up", "down")}


def record(number, look=None, **changes):
  """Of a readable video whose content and look are its number."""
  probe = {
    "frames": 24 + number,
    "promised": 24 + number,
    "rate": 12.0,
    "height": 240,
    "width": 320,
    "codec": "VP80",
    "seconds": 2.0,
    "bytes": 1000,
    "blake3": f"{number + 1:064x}"[::-1],
    "brightness": 100.0,
    "contrast": 30.0,
    "sharpness": 50.0,
    "motion": 4.0,
    "black": 0.0,
    "frozen": 0.0,
    "signature": f"{(number if look is None else look) + 1:048x}",
  }
  return {"path": f"/v/{number}.webm", "rate": None, "size": 1000, "time": 0, "probe": probe | changes}


def contents_of(records, splits, flags=lambda number: ()):
  contents = Contents(len(records))
  for number, videos in enumerate(splits):
    contents.splits[videos] |= 1 << number
  for number, one in enumerate(records):
    if "probe" in one:
      contents.add(number, one["probe"], flags(number))
  contents.compare()
  return contents


def test_equal_bytes_are_copies_and_equal_looks_of_other_bytes_are_similar():
  records = [record(0), record(1, look=0), record(2), record(0), record(1, look=0), {"size": -1}]
  contents = contents_of(records, [[0, 1, 2, 3, 4, 5]])
  assert contents.same.tolist() == [0, 1, -1, 0, 1, -1]
  assert contents.alike.tolist() == [-1, 0, -1, -1, 0, -1]


def test_black_frozen_and_featureless_videos_are_similar_to_nothing():
  records = [record(number, look=7) for number in range(3)] + [record(3, look=-1), record(4, look=-1)]
  contents = contents_of(records, [range(5)], lambda number: ("black",) if number == 0 else ("frozen", "short"))
  assert contents.alike.tolist() == [-1] * 5


def test_a_content_in_two_splits_is_a_leak_in_the_earlier_one():
  records = [record(0), record(1), record(0), record(3)]
  contents = contents_of(records, [[0, 1, 3], [2, 3]])  # video 3 itself stands in both
  assert contents.across_splits() == 2
  assert contents.content_splits.tolist() == [3, 1, 3, 3]
  flags = []
  for number, videos in enumerate(([0, 1, 3], [2, 3])):
    split = SplitQuality(str(number), number, CLASSES, contents, len(videos))
    flags += [tuple(split.comparison_flags(Example(str(v), "", {}), v, records[v])) for v in videos]
  assert flags == [("leak",), (), ("leak",), (), ()]


def test_copies_inside_a_split_are_flagged_but_the_first_and_segments_of_one_video_are_none():
  records = [record(0), record(0), record(2)]
  split = SplitQuality("train", 0, CLASSES, contents_of(records, [[0, 1, 2]]), 5)
  videos = [0, 0, 1, 2, 2]
  found = [split.comparison_flags(Example(f"e{i}", "", {}), v, records[v]) for i, v in enumerate(videos)]
  assert found == [{}, {}, {"duplicate": "the same file as e0"}, {}, {}]
  assert split.duplicates == {0: ["e0", "e1", "e2"]}


def test_a_segment_after_the_end_of_its_video_is_outside():
  split = SplitQuality("train", 0, CLASSES, contents_of([record(0)], [[0]]), 2)
  flags = lambda start: split.comparison_flags(Example("a", "", {}, start=start, stop=start + 1), 0, record(0))
  assert flags(1.9) == {} and flags(2.0) == {"outside": "begins at 2 s of 2 s"}


def test_the_summary_counts_examples_videos_classes_and_seconds():
  records = [record(0), record(1, height=480, codec="VP90"), {"path": "x", "size": -1}, {"path": "y", "size": 5}]
  split = SplitQuality("train", 0, CLASSES, contents_of(records, [range(4)]), 5)
  add = lambda name, video, flags=None, **fields: split.add(
    Example(name, f"/v/{video}", fields.pop("labels", {"action": 1}), **fields), video, records[video], flags or {}
  )
  add("a", 0, start=0.5, stop=1.0)
  add("b", 0, start=1.5, stop=9.0)  # ends with the video, at 2 s
  add("c", 1, {"short": "1 frame"}, labels={"action": 0})
  add("d", 2, {"missing": "gone"}, labels={})
  add("e", 3, {"corrupt": "no video"})
  told = split.summary(7)
  assert (told["examples"], told["official"], told["videos"], told["readable"]) == (5, 7, 4, 2)
  assert told["flags"] == {"missing": 1, "corrupt": 1, "short": 1}
  assert (told["bytes"], told["seconds"]) == (2005, 0.5 + 0.5 + 2.0)
  assert told["classes"] == {"action": [1, 3]} and split.answered == 4
  assert told["codecs"] == {"VP80": 1, "VP90": 1} and told["sizes"] == {"320x240": 1, "320x480": 1}
  assert (told["statistics"]["frames"]["min"], told["statistics"]["frames"]["max"]) == (24, 25)
  assert split.worst["missing"] == [{"split": "train", "id": "d", "path": "/v/2", "why": "gone"}]
  assert split.chosen == [
    {"split": "train", "id": "a", "path": "/v/0", "start": 0.5, "stop": 1.0, "label": "down"},
    {"split": "train", "id": "b", "path": "/v/0", "start": 1.5, "stop": 9.0, "label": "down"},
  ]


def test_pictures_are_chosen_all_over_the_split():
  records = [record(number) for number in range(240)]
  split = SplitQuality("train", 0, {}, contents_of(records, [range(240)]), 240)
  for number, one in enumerate(records):
    split.add(Example(str(number), "", {}), number, one, {"short": ""} if number < 10 else {})
  assert [int(one["id"]) for one in split.chosen] == [10, *range(20, 240, 20)] and len(split.chosen) == CHOSEN


def test_statistics_are_those_of_the_numbers():
  told = statistics(range(101))
  assert [told[name] for name in ("min", "p5", "median", "mean", "p95", "max")] == [0, 5, 50, 50, 95, 100]
  assert sum(told["histogram"]["counts"]) == 101 and len(told["histogram"]["edges"]) == 31
  same = statistics([3.0, 3.0])
  assert same["median"] == 3 and sum(same["histogram"]["counts"]) == 2


def test_flags_come_worst_first():
  assert list(in_order(dict.fromkeys(("similar", "short", "own", "missing"), ""))) == [
    "missing",
    "short",
    "similar",
    "own",
  ]


_MANY = r"""
import pathlib, re, sys
from gasmcast.core.types import Example
from gasmcast.metrics.data_quality import Contents, SplitQuality
from tests.metrics.test_data_quality import record
count = int(sys.argv[1])
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])
before = peak()
contents = Contents(count)
contents.splits[:] = 1
for number in range(count):
  contents.add(number, record(number)["probe"], ())
contents.compare()
split = SplitQuality("train", 0, {"action": ("up", "down")}, contents, count)
for number in range(count):
  example = Example(str(number), "", {"action": number % 2})
  split.add(example, number, record(number), split.comparison_flags(example, number, record(number)))
assert split.summary(None)["readable"] == count
print(peak() - before)
"""


@pytest.mark.long
def test_memory_is_a_few_dozen_bytes_a_video():
  """220,847 records, the size of Something-Something-V2."""
  grown = []
  for count in (1_000, 220_847):
    done = subprocess.run([sys.executable, "-c", _MANY, str(count)], capture_output=True, text=True, check=True)
    grown.append(int(done.stdout) * 1024)
  print(f"memory: {(grown[1] - grown[0]) / 220_847:.0f} bytes a video")
  assert grown[1] - grown[0] < 250 * 220_847  # 55 MB; the records themselves are 250 MB
