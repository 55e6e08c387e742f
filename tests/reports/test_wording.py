"""Numbers, sizes and durations are rounded to what can be read, and never to a limit."""

from gasmcast.reports import wording


def test_words_for_numbers():
  values = (None, 0, 12.0, 1234567, 3.14159, 105.67, 0.00376, 2e-9, -2.5, float("nan"))
  assert [wording.number(value) for value in values] == [
    "–", "0", "12", "1,234,567", "3.14", "105.7", "0.00376", "2.0e-09", "-2.50", "nan",
  ]  # fmt: skip
  assert [wording.signed(value) for value in (None, 0, 3, -0.25)] == ["–", "0", "+3", "−0.250"]
  assert [wording.size(value) for value in (0, 999, 1000, 999_999, 19_400_000_000, 2.5e15)] == [
    "0 bytes", "999 bytes", "1.0 kB", "1.0 MB", "19.4 GB", "2,500.0 TB",
  ]  # fmt: skip
  assert [wording.duration(value) for value in (0, 59, 119, 120, 7199, 7200)] == [
    "0.0 seconds", "59.0 seconds", "119.0 seconds", "2.0 minutes", "120.0 minutes", "2.0 hours",
  ]  # fmt: skip
  assert [wording.few_percent(share) for share in (0.00001, 0.0002, 0.0071, 0.05, 0.2, 1.0)] == [
    "under 0.01", "0.02", "0.71", "5", "20", "100",
  ]  # fmt: skip
  assert [wording.floor_percent(share) for share in (1.0, 0.999999, 0.29, 0.0)] == ["100.0", "99.9", "29.0", "0.0"]
  assert [wording.exact(value) for value in (None, True, 1200, 0.99996, 12345.678, "VP90")] == [
    "–", "True", "1,200", "0.99996", "12,345.7", "VP90",
  ]  # fmt: skip
  assert wording.cut("a" * 300) == "a" * 300 and wording.cut("a" * 301) == "a" * 299 + "…"
