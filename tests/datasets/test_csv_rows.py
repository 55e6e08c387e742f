"""Cells of annotation files, and what is said of those that break a rule."""

import pytest

from gasmcast.core.errors import DataError
from gasmcast.datasets.csv_rows import Distinct, read_rows, read_text, read_words, shown


def row(tmp_path, text, columns="a,b"):
  (tmp_path / "list.csv").write_text(f"{columns}\n{text}\n")
  return read_rows(tmp_path / "list.csv", ("a",))[0]


def test_a_byte_order_mark_windows_lines_blank_lines_and_blanks_around_cells_are_tolerated(tmp_path):
  (tmp_path / "list.csv").write_bytes(b'\xef\xbb\xbfa , b\r\n 1 ,"x, y"\r\n\r\n"two\r\nlines",3\r\n4,\r\n\r\n')
  rows = read_rows(tmp_path / "list.csv", ("a", "b"))
  assert [(each.line, each.cells) for each in rows] == [
    (2, {"a": "1", "b": "x, y"}),
    (4, {"a": "two\r\nlines", "b": "3"}),
    (6, {"a": "4", "b": ""}),
  ]


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", r"list.csv holds no rows; columns a, b and a line an entry are needed"),
    (b"a,b\n\n", r"list.csv holds no rows"),
    (
      b"a,c\n1,2\n",
      r"list.csv, line 1: no column 'b' among 'a,c'; the first line must name the columns a, b, separated",
    ),
    (b"a;b\n1;2\n", r"no column 'a' among 'a;b'.*separated by ','"),
    (b"a,b,a\n1,2,3\n", r"line 1: the column 'a' is named twice; rename or remove one"),
    (b"a,b\n1,2\n1,2,3\n", r"line 3: 3 cells where 2 columns are named \('a,b'\); add or remove commas"),
    (b"a,b\n1,2\n1\n", r"line 3: 1 cells where 2"),
    (b'a,b\n1,2\n"1,2\n3,4\n', r"line 3: no CSV, unexpected end of data; correct the quotes"),
    (b'a,b\n1,"2"3\n', r"line 2: no CSV, ',' expected after '\"'"),
    (b"a,b\n1,\x00\n", r"line 2: a NUL byte, so this is no text in UTF-8"),
    (b"a,b\n1,2\n\xff,2\n", r"line 3: byte 0xff is not UTF-8; save it as UTF-8"),
    ("a,b\n1,2\n".encode("utf-16"), r"line 1: byte 0xff is not UTF-8"),
    (b"a,b\n1," + b"x" * 200_000 + b"\n", r"line 2: no CSV, field larger than field limit"),
  ],
)
def test_what_is_no_csv_file_is_refused_with_its_line(tmp_path, content, message):
  (tmp_path / "list.csv").write_bytes(content)
  with pytest.raises(DataError, match=message) as refusal:
    read_rows(tmp_path / "list.csv", ("a", "b"))
  assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 500


def test_a_file_that_is_absent_or_a_folder_is_refused(tmp_path):
  with pytest.raises(DataError, match=r"none.csv does not exist"):
    read_text(tmp_path / "none.csv")
  with pytest.raises(DataError, match=r"can't be read: Is a directory"):
    read_text(tmp_path)


@pytest.mark.parametrize(
  ("cell", "read", "message"),
  [
    ("", lambda row: row.text("a"), r"line 2, column a: '' is empty; fill the cell or remove the line"),
    ("a\x07", lambda row: row.text("a"), r"column a: 'a\\x07' holds a control character"),
    ("1.5", lambda row: row.whole("a"), r"'1.5' is no whole number of at least 0; correct it"),
    ("-1", lambda row: row.whole("a"), r"'-1' is no whole number"),
    ("٣", lambda row: row.whole("a"), r"is no whole number"),
    ("9" * 5000, lambda row: row.whole("a"), r"'9{59}\.\.\. \(5,002 characters\) is no whole number"),
    ("7", lambda row: row.whole("a", 1, 6), r"'7' is no whole number from 1 to 6"),
    ("nan", lambda row: row.decimal("a"), r"'nan' is no number of at least 0"),
    ("1e999", lambda row: row.decimal("a"), r"'1e999' is no number"),
    ("1_0", lambda row: row.decimal("a"), r"'1_0' is no number"),
    ("1.01", lambda row: row.decimal("a", 0, 1), r"'1.01' is no number from 0 to 1"),
    ("../x", lambda row: row.file_name("a"), r"'../x' is no plain file name"),
    ("..", lambda row: row.file_name("a"), r"'..' is no plain file name"),
    ("x" * 300, lambda row: row.file_name("a"), r"is longer than a path can be"),
    (
      "../x",
      lambda row: row.path("a", row.file.parent),
      r"'../x' leads out of .*; use a path below it, or an absolute",
    ),
    ("x/../../y", lambda row: row.path("a", row.file.parent), r"leads out of"),
    (".", lambda row: row.path("a", row.file.parent), r"leads out of"),
    (
      "jumpin",
      lambda row: row.choice("a", ["jumping", "running"], "use one."),
      r"unknown \(did you mean 'jumping'\?\)",
    ),
    ("?", lambda row: row.choice("a", ["jumping"], "use one of them."), r"'\?' is unknown; use one of them"),
  ],
)
def test_a_cell_that_breaks_a_rule_is_refused_with_file_line_column_and_value(tmp_path, cell, read, message):
  with pytest.raises(DataError, match=message) as refusal:
    read(row(tmp_path, f"{cell},1"))
  assert str(tmp_path / "list.csv") in str(refusal.value) and "\n" not in str(refusal.value)


def test_cells_that_keep_the_rules(tmp_path):
  cells = row(tmp_path, "007,.5e1")
  assert (cells.whole("a", 7, 7), cells.decimal("b")) == (7, 5.0)
  assert row(tmp_path, "x/./y.mp4,").path("a", tmp_path) == str(tmp_path / "x" / "y.mp4")
  assert row(tmp_path, "/x/y.mp4,").path("a", tmp_path) == "/x/y.mp4"


def test_a_value_that_comes_again_is_refused_with_both_lines(tmp_path):
  (tmp_path / "list.csv").write_text("a\nx\ny\nx\n")
  distinct, rows = Distinct(), read_rows(tmp_path / "list.csv", ("a",))
  with pytest.raises(DataError, match=r"line 4, column a: 'x' gives 'x', as line 2 does; remove one of the two lines"):
    for each in rows:
      distinct.add(each, "a", each.text("a"))


def test_lists_without_a_header_have_the_columns_of_their_number_of_cells(tmp_path):
  (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfx 5 0\r\n\r\ny\t6  1\r\n\r\n")
  columns = {2: ("path", "label"), 3: ("path", "frames", "label")}
  rows = read_words(tmp_path / "list.txt", columns)
  assert [(each.line, *each.cells.values()) for each in rows] == [(1, "x", "5", "0"), (3, "y", "6", "1")]
  for text, message in [
    ("x 5 0\ny 1\n", r"line 2: 'y 1' has 2 cells; every line is to be 'path label' or 'path frames label'"),
    ("x\n", r"line 1: 'x' has 1 cells"),
    ("\n\n", r"holds no rows; lines such as 'path label' or 'path frames label' are needed"),
  ]:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=message):
      read_words(tmp_path / "list.txt", columns)


def test_long_values_are_cut():
  assert shown("abc") == "'abc'"
  assert shown([1] * 1000) == "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,... (3,000 characters)"
