"""The page of a data set says what quality.json says, in words, tables and pictures, at any size."""

import copy

import pytest

from gasmcast.core.errors import DataError
from gasmcast.reports import data_quality, wording
from gasmcast.reports.data_quality import write
from tests.reports.made_up_quality import EMPTY, check, measure, page, quality, split

pytestmark = pytest.mark.usefixtures("patient")


def test_numbers_by_hand(tmp_path):
  shown = page(tmp_path, quality({"train": split(), "test": split(examples=7, flags={}, classes={})}))
  assert "doors: data quality 2 splits of /data/doors" in shown.text
  assert "Examples12of 10 videos" in shown.text
  assert "Readable80.0 %2 can't be read" in shown.text
  assert "Duration3.0 minutesof all" in shown.text
  assert "Files24.7 kB" in shown.text
  assert "train56−1511.5" not in shown.text
  assert "train56−15190.0 seconds12.3 kB" in shown.text  # 5 of 6 official, 5 videos, 1 unreadable
  assert "test76+15190.0 seconds12.3 kB" in shown.text
  assert "corruptthe file can't be decoded1 (20)0" in shown.text
  assert "actiontrain43, 1 empty13 : 1close (1)open (3)" in shown.text  # 4 clips, 3 classes, median 1
  assert "Frames, frames that decodetrain00.5001.501.252.503" in shown.text
  assert "320x24033 64x4811" in shown.text
  assert "Labels4 examples have a label of the list of classes, or values Splits" in shown.text
  assert (
    "5 files have a checksum (BLAKE3), 4 were compared with the ones known before: none changed, 1 new" in shown.text
  )
  assert "No file stands in more than one split." in shown.text
  assert "Comparison" not in shown.text


def test_checks_stand_with_value_limit_and_words(tmp_path):
  checks = [
    check(False, value=0.99996, limit=1.0, message="2 videos can't be read."),
    check(name="count", value=168913, limit=168913),
    check(name="official", value=None, limit=None),
    check(name="codec", value="VP90", limit="VP90"),
  ]
  shown = page(tmp_path, quality(checks=checks))
  assert shown.source.count("<title>doors: data quality, failed</title>") == 1
  assert "failedreadable0.999961" in shown.text  # no rounding to the limit
  assert "passedcount168,913168,913-" in shown.text
  assert "passedofficial––-" in shown.text
  assert "passedcodecVP90VP90-" in shown.text
  assert shown.text.index("2 videos can't be read.") < shown.text.index("Examples")  # on top already


def test_an_almost_complete_split_is_not_shown_as_complete(tmp_path):
  shown = page(tmp_path, quality({"train": split(videos=100_000, readable=99_999)}))
  assert "Readable99.9 %1 can't" in shown.text


@pytest.mark.parametrize("classes", [1, 2, 40, 41, 174])
def test_every_number_of_classes_has_a_figure_and_a_table(tmp_path, classes):
  names = [f"class {number}" for number in range(classes)]
  counts = {"action": [number + 1 for number in range(classes)]}
  splits = {"train": split(classes=counts), "validation": split(classes=counts)}
  shown = page(tmp_path, quality(splits, classes={"action": names}))
  assert len([1 for tag, _ in shown.tags if tag == "img"]) == 2
  assert f"{classes - 1}class {classes - 1}{classes}{classes}" in shown.text
  median = f"{(classes + 1) / 2:.1f}".removesuffix(".0")
  assert f"actiontrain{classes * (classes + 1) // 2:,}{classes}{wording.number((classes + 1) / 2)}" in shown.text, (
    median
  )


@pytest.mark.parametrize(
  "splits", [{}, {"train": EMPTY}, {"train": split(), "test": EMPTY}, {f"fold {i}": split() for i in range(8)}]
)
def test_any_number_of_splits_and_empty_ones_make_a_page(tmp_path, splits):
  content = quality(splits, labels={"mapped": 0, "unmapped": 0})
  shown = page(tmp_path, content, copy.deepcopy(content))
  for name in splits:
    assert name in shown.text
  assert ("Drawn: the first 6 of 8 splits." in shown.text) == (len(splits) == 8)


def test_the_comparison_shows_what_differs(tmp_path):
  after = quality({"train": split(examples=4, seconds=90.0)}, classes={"action": ["open", "close", "push"]})
  shown = page(tmp_path, after, quality())
  assert "Its fingerprint is the same" in shown.text
  assert "The classes of action are others than before; gone: fold; new: push." in shown.text
  assert "trainexamples54−1" in shown.text
  assert "7 of 8 compared numbers are the same." in shown.text  # five counts, two flags, one median
  assert "another one: 77" in page(tmp_path, after, quality(data=after["data"] | {"fingerprint": "77"})).text
  assert (
    "the same names in another order"
    in page(tmp_path, after, quality(classes={"action": ["close", "open", "push"]})).text
  )


@pytest.mark.parametrize("content", [{}, {"format": 2}, [], None])
def test_another_format_is_refused(tmp_path, content):
  with pytest.raises(DataError, match="the quality report has format .*, 1 is needed: give a quality.json"):
    write(tmp_path / "report", content, tmp_path / "flagged.jsonl")
  if content is not None:
    with pytest.raises(DataError, match="the baseline has format"):
      write(tmp_path / "report", quality(), tmp_path / "flagged.jsonl", content)
  assert not (tmp_path / "report").exists()


def test_lists_are_cut_and_say_so(tmp_path):
  checksums = quality()["checksums"] | {"changed": [f"file-{i}" for i in range(200)], "changed_total": 5000}
  shown = page(
    tmp_path,
    quality(
      {"train": split(sizes={f"{i}x2": i for i in range(1, 31)})},
      checksums=checksums,
      duplicates=[[f"a{i}" for i in range(9)]],
      across_splits=3,
      data={"name": "n" * 5000, "source": "s", "fingerprint": "f"},
    ),
  )
  assert "The first 200 of 5,000." in shown.text
  assert "file-199" in shown.text and "file-200" not in shown.text
  assert "a0, a1, a2, a3, a4, a5 and 3 more" in shown.text
  assert "3 files stand in more than one split" in shown.text
  assert "20 others210" in shown.text  # 1 + ... + 20
  assert len(shown.text) < 20_000


def test_checksums_that_were_given_and_examples_left_out_are_told_where_there_are_any(tmp_path):
  assert "Left out" not in page(tmp_path, quality()).text
  assert "was given" not in page(tmp_path, quality()).text
  checksums = quality()["checksums"] | {"given": 9, "wrong": 2}
  shown = page(tmp_path, quality(checksums=checksums, excluded={"train": 3}, labels={"mapped": 2, "unmapped": 1}))
  assert "A checksum was given for 9 files: 2 differ." in shown.text
  assert "train56−151390.0 seconds" in shown.text
  assert "or values; 1 that should have one have none" in shown.text
  checksums["wrong"] = 0
  assert "for 9 files: all agree." in page(tmp_path, quality(checksums=checksums)).text


def test_pictures_and_reasons_stand_on_the_page(clip, tmp_path):
  absent = str(tmp_path / "absent.webm")
  worst = {
    "corrupt": [{"split": "train", "id": "7", "path": absent, "why": f"{absent}: 3 of 9 frames"}],
    "short": [{"split": "train", "id": f"s{i}", "path": clip, "why": f"{i} frames"} for i in range(8)],
  }
  content = quality(
    {"train": split(flags={"corrupt": 1, "short": 20})},
    worst=worst,
    examples={"train": [{"id": "first", "path": clip, "label": "open"}]},
  )
  shown = page(tmp_path, content)
  images = [attributes["src"] for tag, attributes in shown.tags if tag == "img"]
  assert sum(source.startswith("data:image/webp;base64,") for source in images) == 6 + 1
  assert f"is not a file; a video is read from an existing regular file. 7 train 3 of 9 frames {absent}" in shown.text
  assert "Too few frames or seconds: 6 of 20" in shown.text
  assert "2 more" in shown.text and "trains77 frames" in shown.text
  assert "first open" in shown.text


def test_pictures_beyond_the_limit_are_left_out(clip, tmp_path, monkeypatch):
  monkeypatch.setattr(data_quality, "PICTURES_LIMIT", 10)
  shown = page(tmp_path, quality(examples={"train": [{"id": "first", "path": clip, "label": None}]}))
  assert "left out for the size of this page first" in shown.text


def test_the_list_of_flagged_clips_is_linked_from_anywhere(tmp_path):
  content = quality()
  assert 'href="../javascript%3Aalert.jsonl"' in write(
    tmp_path / "page", content, tmp_path / "javascript:alert.jsonl"
  ).read_text("utf-8")
  assert 'href="javascript%3Aalert.jsonl"' in write(tmp_path, content, tmp_path / "javascript:alert.jsonl").read_text(
    "utf-8"
  )


def test_a_page_at_full_size_stays_below_5_mb(clip, tmp_path):
  names = [f"Pretending to put something number {i} behind something" for i in range(174)]
  histogram = measure(list(range(100)))
  content = split(
    classes={"action": list(range(1, 175))},
    statistics=dict.fromkeys(("frames", "rate", "seconds", "height", "width", "brightness", "motion"), histogram),
    sizes={f"{i}x240": i for i in range(1000)},
  )
  path = "/data/something-something-v2/20bn-something-something-v2/" + "0" * 200
  flags = ("corrupt", "missing", "short", "black", "frozen", "small", "miscounted", "duplicate", "similar")
  shown = write(
    tmp_path,
    quality(
      dict.fromkeys(("train", "validation", "test"), content),
      classes={"action": names},
      duplicates=[[path] * 10] * 200,
      checksums={"files": 1, "compared": 1, "changed": [path] * 200, "changed_total": 200, "new": 0, "gone": 0},
      worst={flag: [{"split": "train", "id": path, "path": path, "why": path}] * 50 for flag in flags},
      examples={"train": [{"id": path, "path": clip, "label": names[0]}] * 12},
    ),
    tmp_path / "flagged.jsonl",
  )
  assert shown.stat().st_size + 4 / 3 * data_quality.PICTURES_LIMIT < 5_000_000
