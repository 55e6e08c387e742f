"""Numbers and pages of measured sides."""

import pytest

from gasmcast.core.timing import Measured
from gasmcast.reports.benchmark import CaseResult, Target, case_numbers, markdown

OURS = Measured("gasmcast", 3.0, (0.2, 0.2, 0.4), 50_000_000, 0.0)
EAGER = Measured("torch eager", 0.5, (0.4, 0.4, 0.8), None, 2e-7)
LAST = Measured("torch eager, channels last", 0.5, (0.3, 0.3, 0.3), 1_000_000, 3e-7)
BROKEN = Measured("torch.compile", failed="OSError: no | compiler")
PEAKS = {"float32": {"jax": 400.0, "torch": 500.0}}


def case(target=None, sides=(OURS, EAGER, LAST, BROKEN), flop=20e9):
  return CaseResult("vit", "float32", "forward pass", flop, "2 N D", sides, target)


def test_numbers_of_a_side():
  ours, eager, last, broken = case_numbers(case(), PEAKS)["sides"]
  assert ours["median_seconds"] == 0.2 and ours["ratio_to_first"] == 1.0
  assert ours["gflop_per_second"] == pytest.approx(100) and ours["share_of_peak"] == pytest.approx(0.2)
  assert eager["ratio_to_first"] == 2.0 and eager["memory_bytes"] is None
  assert last["ratio_to_first"] == pytest.approx(1.5)  # of 1.5, 1.5 and 0.75
  assert last["seconds"] == [0.3, 0.3, 0.3]
  assert broken == {"name": "torch.compile", "failed": "OSError: no | compiler"}


def test_without_operations_or_a_peak_there_is_no_rate_or_share():
  assert case_numbers(case(flop=0.0), PEAKS)["sides"][0]["gflop_per_second"] is None
  ours = case_numbers(case(), {})["sides"][0]
  assert ours["gflop_per_second"] == pytest.approx(100) and ours["share_of_peak"] is None


def test_a_target_is_judged_by_the_fastest_side_that_it_names():
  verdict = case(Target("torch eager", 1.6)).verdict
  assert (verdict.against, verdict.ratio, verdict.met) == ("torch eager, channels last", pytest.approx(1.5), False)
  assert case(Target("torch eager", 1.5 - 1e-9)).verdict.met
  assert case(Target("torch eager", 2.0), sides=(OURS, EAGER)).verdict.met


def test_a_target_whose_side_is_missing_or_failed_is_not_judged():
  for sides in ((OURS,), (OURS, EAGER, BROKEN)):
    verdict = case(Target("torch.compile", 1.0), sides).verdict
    assert (verdict.against, verdict.ratio, verdict.met) == ("", None, None)
  assert case().verdict is None
  assert case_numbers(case(Target("torch eager", 1.6)), PEAKS)["target"]["target"] == {
    "against": "torch eager",
    "ratio": 1.6,
  }


def cells(page, first):
  """The cells of the table row that begins so."""
  (line,) = [line for line in page.splitlines() if line.startswith(first)]
  return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_holds_every_side_and_every_target():
  page = markdown([case(Target("torch eager", 1.6)), case(Target("onnx", 1.0))], PEAKS, ["a CPU", "2 threads"], False)
  assert page.startswith("- a CPU\n- 2 threads\n")
  assert cells(page, "| float32") == ["float32", "400", "500", "500"]
  only = markdown([case()], PEAKS, [], False)
  row = ["vit", "gasmcast", "200", "200 to 400", "1.00", "100", "20%", "50", "3.0", "0.0e+00"]
  assert cells(only, "| vit  | gasmcast") == row
  assert cells(only, "| vit  | torch eager  ")[4:8] == ["2.00", "50", "10%", "-"]
  assert "failed: OSError: no / compiler" in only and "2 N D" in only and "share of peak" in only
  assert "1.6 x torch eager | 1.50 x torch eager, channels last | not met" in page
  assert [cells(line, "|") for line in page.splitlines() if "1 x onnx" in line] == [
    ["vit", "1 x onnx", "", "not measured"]
  ]
  assert "| met" not in only and "MFU" in markdown([case()], PEAKS, [], True)


def test_times_have_three_digits():
  fast = Measured("gasmcast", 0.1, (0.000456789,), None, 0.0)
  assert cells(markdown([case(sides=(fast,))], {}, [], False), "| vit")[2:4] == ["0.457", "0.457 to 0.457"]
