"""Every row of what must be survived has a test, and the page is what the tests have told."""

import ast
import json
import pathlib
import re

from tests.reliability import ROWS, page, record

ROOT = pathlib.Path(__file__).parent.parent
LATER = {22}  # nothing serves yet


def marked() -> dict[str, set[int]]:
  """file::function -> the rows of its marks."""
  found: dict[str, set[int]] = {}
  for path in sorted((ROOT / "tests").rglob("test_*.py")):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
      for call in [node for decorator in function.decorator_list for node in ast.walk(decorator)]:
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.reliability":
          name = f"{path.relative_to(ROOT).as_posix()}::{function.name}"
          found.setdefault(name, set()).add(ast.literal_eval(call.args[0]))
          assert "figure" in [argument.arg for argument in function.args.args], f"{name} tells no figure"
  return found


def test_every_row_has_a_test_that_tells_a_figure():
  assert set().union(*marked().values()) == set(ROWS) - LATER


def told(row, measured, test, long=False):
  return {"row": row, "measured": measured, "test": test, "long": long}


def test_the_page_shows_the_full_counts_where_they_ran_and_names_what_did_not():
  figures = [
    told(3, "2.1 s", "tests/a.py::test_b"),
    told(5, "10 of 10", "tests/a.py::test_c[10]"),
    told(5, "100 of | 100", "tests/a.py::test_c[100]", long=True),
    told(5, "other", "tests/a.py::test_a"),
  ]
  text = page(figures, "a machine", "2000-01-01")
  assert text.startswith("# What is done to it") and "\n2000-01-01, a machine.\n" in text
  rows = [line for line in text.splitlines() if re.match(r"\| \d", line)]
  assert rows == [
    f"| 3 | {ROWS[3][0]} | {ROWS[3][1]} | 2.1 s | `tests/a.py::test_b` |",
    f"| 5 | {ROWS[5][0]} | {ROWS[5][1]} | other<br>100 of \\| 100 | `tests/a.py::test_a`<br>`tests/a.py::test_c` |",
  ]
  assert text.count("\n- ") == len(ROWS) - 2 and f"\n- 1: {ROWS[1][0]} ({ROWS[1][1]})\n" in text


def test_figures_are_kept_where_the_environment_says_so(tmp_path, monkeypatch):
  monkeypatch.delenv("RELIABILITY_FIGURES", raising=False)
  record(4, "nowhere", "t", False)
  monkeypatch.setenv("RELIABILITY_FIGURES", str(tmp_path / "new" / "figures.jsonl"))
  record(4, "a", "t[1]", False)
  record(5, "b", "u", True)
  lines = (tmp_path / "new" / "figures.jsonl").read_text().splitlines()
  assert [json.loads(line) for line in lines] == [told(4, "a", "t[1]"), told(5, "b", "u", long=True)]


def test_the_page_in_docs_is_of_these_rows_and_these_tests():
  text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
  for row, (done, holds) in ROWS.items():
    assert f"| {row} | {done} | {holds} | " in text or f"\n- {row}: {done} ({holds})\n" in text, f"row {row}"
  assert set(re.findall(r"`(tests/[^`]*)`", text)) <= set(marked())
