"""The table of job cache_fidelity from a result of two streams."""

import copy

import pytest

from gasmcast.reports.fidelity import brief, markdown, notes, size, table

STREAM = {"shape": [4, 49, 8], "cosine": {"mean": 0.99998, "p1": 0.999, "min": 0.5}}
STREAM |= {"lost_by_pooling": 0.0, "lost_by_storing": 0.01234, "explained": None}
RESULT = {
  "variants": [
    {
      "name": "all int8",
      "bytes_of_clip": 12_345,
      "bytes_of_all": 3_456_789_000,
      "streams": {"semantic": STREAM, "motion": STREAM | {"explained": 0.9}},
      "head": {"top1_reference": 0.84, "top1": 0.82, "agreement": 0.98, "probability_difference": 0.0012},
    },
    {
      "name": "pooled int8",
      "bytes_of_clip": 100,
      "bytes_of_all": 25_000_000,
      "streams": {"semantic": STREAM},
      "head": "not applicable: the head was trained on 4 x 49 x 8 of the semantic stream, not 4 x 1 x 8",
    },
    {"name": "48 int8", "impossible": "the semantic stream: 49 tokens a frame can be averaged to 49, 1."},
  ],
  "reference": {"origin": "computed from the videos", "precision": "float32"},
  "data": {"split": "validation", "clips": 50},
  "components": {"split": "train", "clips": 190},
  "unreadable": {},
  "head": {"workdir": "runs/head"},
  "all": {"splits": {"train": 1190, "validation": 50}, "views": 2, "records": 2480},
}


def test_a_row_a_stream():
  columns, rows = table(RESULT)
  assert all(len(row) == len(columns) for row in rows)
  assert rows[0] == (
    *("all int8", "semantic", "0.999980", "0.999000", "0.500000", "0 %", "1.23 %", ""),
    *("12,345", "3.46 GB", "82.0 %", "98.0 %", "0.00120"),
  )
  assert rows[1][:2] == ("", "motion") and rows[1][7:] == ("90 %", "", "", "", "", "")
  assert rows[2][10:] == ("n/a", "", "")
  assert rows[3][:3] == ("48 int8", "impossible", "")


def test_without_a_head_there_are_no_columns_of_answers():
  result = copy.deepcopy(RESULT) | {"head": None}
  columns, rows = table(result)
  assert columns[-1] == "all clips" and len(rows[0]) == len(columns)


def test_on_a_console_there_are_fewer_columns():
  columns, rows = brief(RESULT)
  assert columns == ("form", "stream", "cosine", "pooling", "storing", "bytes", "top-1", "equal")
  assert rows[0] == ("all int8", "semantic", "0.999980", "0 %", "1.23 %", "12,345", "82.0 %", "98.0 %")


def test_the_notes_say_what_was_compared_and_what_was_not():
  assert notes(RESULT) == [
    "Reference: computed from the videos, float32; 50 clips of 'validation'.",
    "Components were fitted on 190 other clips, of 'train'.",
    "All clips: 1,190 of 'train', 50 of 'validation', 2 views of each.",
    "Top-1 of runs/head with the reference: 84.0 %.",
    "pooled int8: not applicable: the head was trained on 4 x 49 x 8 of the semantic stream, not 4 x 1 x 8.",
    "48 int8: impossible, the semantic stream: 49 tokens a frame can be averaged to 49, 1.",
  ]


def test_the_notes_say_what_a_reference_in_bfloat16_hides_and_what_could_not_be_read():
  result = copy.deepcopy(RESULT) | {"unreadable": {"7": "cut"}}
  result["reference"]["precision"] = "bfloat16"
  assert "What bfloat16 itself loses is not seen against a reference in bfloat16." in notes(result)
  assert notes(result)[-1] == "1 clips could not be read; fidelity.json says why."


def test_markdown_has_as_many_cells_in_every_row():
  lines = [line for line in markdown(RESULT).splitlines() if line.startswith("|")]
  assert len(lines) == 6 and {line.count("|") for line in lines} == {14}


@pytest.mark.parametrize(
  ("count", "text"),
  [(999, "999 B"), (1000, "1 kB"), (203_940_000_000, "204 GB"), (999_600_000, "1,000 MB"), (2.5e12, "2.5 TB")],
)
def test_sizes_in_decimal_units(count, text):
  assert size(count) == text
