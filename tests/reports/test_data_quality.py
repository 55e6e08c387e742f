import base64
import copy
import hashlib
import re
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.core.isolation import Limits
from gasmcast.metrics.data_quality import FLAGS
from gasmcast.reports import data_quality, theme, wording
from gasmcast.reports import strips as quality_strips
from gasmcast.reports.data_quality import write
from gasmcast.reports.quality_figures import class_counts, common_bins, distributions, span
from gasmcast.reports.quality_numbers import MEANINGS, Change, balance, class_changes, compare, verdict
from gasmcast.reports.strips import Clip, strip, strips
from tests.reports.test_html import HOSTILE, Page


def measure(counts, edges=None):
  edges = list(range(len(counts) + 1)) if edges is None else edges
  summary = {"min": 0, "p5": 0.5, "median": 1.5, "mean": 1.25, "p95": 2.5, "max": 3}
  return summary | {"histogram": {"edges": edges, "counts": counts}}


def split(**changes):
  content = {
    "examples": 5,
    "official": 6,
    "videos": 5,
    "readable": 4,
    "flags": {"corrupt": 1, "short": 0},
    "bytes": 12_345,
    "seconds": 90.0,
    "statistics": {"frames": measure([1, 2, 1])},
    "codecs": {"VP90": 4},
    "sizes": {"320x240": 3, "64x48": 1},
    "classes": {"action": [3, 1, 0]},
  }
  return content | changes


EMPTY = split(
  examples=0, official=None, videos=0, readable=0, flags={}, bytes=0, seconds=0.0, statistics={}, codecs={}, sizes={},
  classes={},
)  # fmt: skip
NAMES = ["open", "close", "fold"]


def quality(splits=None, **changes):
  splits = {"train": split()} if splits is None else splits
  content = {
    "format": 1,
    "data": {"name": "doors", "source": "/data/doors", "fingerprint": "5f" * 32},
    "splits": splits,
    "classes": {"action": NAMES},
    "labels": {"mapped": 4, "unmapped": 0},
    "duplicates": [],
    "across_splits": 0,
    "checksums": {"files": 5, "compared": 4, "changed": [], "changed_total": 0, "new": 1, "gone": 0},
    "checks": [],
    "worst": {},
    "examples": {name: [] for name in splits},
    "excluded": dict.fromkeys(splits, 0),
  }
  return content | changes


def check(passed=True, severity="error", **changes):
  return {
    "name": "readable",
    "severity": severity,
    "value": 0.8,
    "limit": 0.9,
    "passed": passed,
    "message": "-",
  } | changes


def page(folder, content, baseline=None):
  (folder / "flagged.jsonl").write_text("")
  return Page(write(folder / "report", content, folder / "flagged.jsonl", baseline))


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


def test_the_verdict_names_what_failed_first():
  checks = [check(), check(False, "warning"), check(False), check()]
  found = verdict(checks)
  assert found["state"] == "failed"
  assert found["words"] == "Of 4 checks 1 failed, 1 gave a warning, 2 passed."
  assert [one["state"] for one in found["checks"]] == ["failed", "warned", "passed", "passed"]
  assert verdict(checks[:2])["state"] == "warned"
  assert verdict(checks[:2])["words"] == "Of 2 checks 1 gave a warning, 1 passed."
  assert verdict([check()]) == {
    "state": "passed",
    "words": "All checks passed, 1 of 1.",
    "checks": [check() | {"state": "passed"}],
  }
  assert verdict([])["words"] == "Nothing was checked."


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


def test_balance_by_hand():
  found = balance(NAMES, "action", "train", [4, 0, 10])
  assert (found.clips, found.classes, found.empty, found.median) == (14, 3, 1, 4)
  assert (found.smallest, found.largest, found.ratio) == (("open", 4), ("fold", 10), 2.5)


def test_two_reports_are_compared_by_hand():
  before = quality({"train": split(), "gone": split()})
  after = quality({"train": split(examples=8, flags={"frozen": 2}, statistics={}), "new": split()})
  changes = {(change.split, change.name): change for change in compare(before, after)}
  assert changes["train", "examples"] == Change("train", "examples", "", 5, 8)
  assert changes["train", "examples"].difference == 3
  assert changes["train", "flagged corrupt"].difference == -1
  assert changes["train", "flagged frozen"] == Change("train", "flagged frozen", "", 0, 2)
  assert changes["train", "median frames"] == Change("train", "median frames", "frames that decode", 1.5, None)
  assert changes["new", "flagged corrupt"] == Change("new", "flagged corrupt", "", None, 1)
  assert changes["gone", "examples"].difference is None
  assert [change.split for change in compare(before, after)][-1] == "gone"


def test_classes_that_changed_are_named():
  before, after = quality(), quality(classes={"action": ["open", "push"], "noun": ["door"]})
  assert class_changes(before, after) == [
    {"label": "action", "gone": ["close", "fold"], "new": ["push"]},
    {"label": "noun", "gone": [], "new": ["door"]},
  ]
  assert class_changes(before, quality()) == []
  assert class_changes(before, quality(classes={"action": NAMES[::-1]})) == [{"label": "action", "gone": [], "new": []}]


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


def test_every_flag_has_a_meaning():
  assert tuple(MEANINGS) == FLAGS


# Pictures


@pytest.fixture(autouse=True)
def patient(monkeypatch):
  """A busy machine must not make a picture into a reason."""
  monkeypatch.setattr(quality_strips, "_LIMITS", Limits(seconds=200.0))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
  """The path of a video of 7 frames of 64 x 48 pixels that become brighter."""
  path = str(tmp_path_factory.mktemp("clip") / "clip.webm")
  writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"VP80"), 12.0, (64, 48))
  for level in range(20, 231, 35):
    writer.write(np.full((48, 64, 3), level, np.uint8))
  writer.release()
  return path


def test_a_strip_shows_the_first_the_last_and_two_frames_between(clip):
  image = cv2.imdecode(np.frombuffer(strip(Clip(clip)), np.uint8), cv2.IMREAD_COLOR)
  assert image.shape == (120, 4 * 160 + 3 * 4, 3)
  levels = [image[:, 164 * place + 20 : 164 * place + 140].mean() for place in range(4)]
  assert levels == pytest.approx([20, 90, 160, 230], abs=8)
  part = cv2.imdecode(np.frombuffer(strip(Clip(clip, 0.0, 1 / 12)), np.uint8), cv2.IMREAD_COLOR)
  assert part[:, -140:-20].mean() == pytest.approx(20, abs=8)


def test_a_clip_that_cannot_be_decoded_gives_its_reason(clip, tmp_path):
  damaged = tmp_path / "damaged.webm"
  damaged.write_bytes(b"no video at all")
  found = strips([Clip(clip), Clip(str(damaged)), Clip(clip)], limit=10**6)
  assert found[Clip(clip)].startswith(b"RIFF")
  assert "is no WebM/Matroska, MP4/MOV, AVI file" in found[Clip(str(damaged))]
  assert strips([Clip(clip), Clip(str(damaged)), Clip(clip, 0.0)], limit=10)[Clip(clip, 0.0)] is None
  assert strips([], limit=0) == {}


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


# Figures


def texts(figure):
  root = ElementTree.fromstring(theme.svg(figure))
  return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_distributions_name_measures_units_and_splits():
  statistics = {
    "train": {"seconds": measure([1, 2, 1]), "motion": measure([4])},
    "test": {"seconds": measure([1, 1], edges=[0, 2, 8])},
  }
  written = texts(distributions(statistics))
  assert {"Duration", "seconds", "Motion", "mean change between frames, grey levels", "train", "test"} <= set(written)
  assert written.count("clips of the split, %") == 1
  assert "Brightness" not in written


def test_heights_are_shares_of_the_split():
  whole = measure([1, 3], edges=[0, 15, 30])
  edges, (first, second) = common_bins([whole, measure([10, 10], edges=[0, 10, 30])])
  np.testing.assert_allclose(edges, np.arange(31))
  np.testing.assert_allclose(first, [25 / 15] * 15 + [75 / 15] * 15)
  np.testing.assert_allclose(second, [5] * 10 + [2.5] * 20)
  figure = distributions({"train": {"frames": whole}})
  outline, area = (patch.get_data().values for patch in figure.axes[0].patches)
  np.testing.assert_allclose(outline, first)
  np.testing.assert_allclose(area, first)


def test_a_narrow_histogram_beside_a_wide_one_stays_below_100_percent():
  same = measure([0] * 15 + [7] + [0] * 14, edges=np.linspace(11.5, 12.5, 31).tolist()) | {"min": 12.0, "max": 12.0}
  wide = measure([1] * 30, edges=np.linspace(1, 120, 31).tolist()) | {"max": 120}
  edges, (first, second) = common_bins([same, wide])
  assert np.flatnonzero(first).tolist() == [2] and edges[2] < 12 < edges[3]
  assert first.sum() == pytest.approx(100) and second.sum() == pytest.approx(100)


def test_numbers_that_are_all_the_same_are_one_bar():
  rate = measure([0, 5], edges=[29.5, 30, 30.5]) | {"min": 30.0, "max": 30.00001}
  edges, shares = common_bins([rate, rate])
  assert edges.tolist() == [29.5, 30.5]
  assert [one.tolist() for one in shares] == [[100], [100]]
  axes = distributions({"train": {"rate": rate}}).axes[0]
  assert axes.get_xlim() == (27, 33)
  axes = distributions({"train": {"motion": rate | {"min": 0.0, "max": 0.0}}}).axes[0]
  assert axes.get_xlim() == (-3, 3)


def test_an_axis_leaves_out_a_thousandth_on_either_side():
  counts = np.array([1, 0, 5000, 5000, 0, 1])
  assert span(np.arange(7.0), counts) == (2, 4)
  assert span(np.arange(4.0), np.array([1, 0, 1])) == (0, 3)


def test_few_classes_are_named_and_many_are_counted():
  few = texts(class_counts(["open", "close"], {"train": [3, 1200]}))
  assert few.index("close") < few.index("open")
  assert {"1,200", "3"} <= set(few)
  many = texts(class_counts([f"class {i}" for i in range(174)], {"train": list(range(174)), "test": [2] * 174}))
  assert "train (dashed: median 86.5)" in many and "test (dashed: median 2)" in many
  assert "classes, most clips in train first" in many


# Words


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


# Hostile content


def hostile_quality(names):
  """A report in which every string that comes from outside is markup of some kind."""
  first, second, third = names[0], names[1], names[-1]
  clips = [{"split": name, "id": name, "path": name.replace("\x00", ""), "why": name, "label": name} for name in names]
  measured = {"frames": measure([1, 2]), first: measure([1])}
  content = split(
    flags={name: 1 for name in names},
    codecs={name: 1 for name in names},
    sizes={name: 1 for name in names},
    classes={third: list(range(len(names)))},
    statistics=measured,
  )
  return quality(
    {first: content, second: content},
    data={"name": second, "source": first, "fingerprint": third},
    classes={third: list(names)},
    duplicates=[list(names)],
    checksums={"files": 1, "compared": 1, "changed": list(names), "changed_total": 1, "new": 0, "gone": 0},
    checks=[check(False, name=name, value=name, limit=name, message=name) for name in names],
    worst={name: clips for name in names},
    examples={first: clips, second: clips},
  )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
  folder = tmp_path_factory.mktemp("hostile")
  before = hostile_quality(HOSTILE)
  before["splits"][HOSTILE[0]] = split(flags={HOSTILE[0]: 3})
  before["classes"] = {HOSTILE[1]: list(HOSTILE)}
  return write(folder, hostile_quality(HOSTILE), folder / '"><img src=x>.jsonl', before)


def test_hostile_strings_stay_text(hostile):
  shown = Page(hostile)
  for name in HOSTILE:
    assert shown.text.count(" ".join(name.encode("utf-8", "replace").decode().split())) > 10
  allowed = "a body button code details div dd dl dt figure footer h1 h2 h3 head header html img li main meta nav p"
  allowed += " script section span strong style summary table tbody td th thead title tr ul"
  assert {tag for tag, _ in shown.tags} <= set(allowed.split())
  assert not [name for _, attributes in shown.tags for name in attributes if name.startswith("on") or name == "style"]


def test_the_page_loads_nothing_and_runs_one_known_script(hostile):
  shown = Page(hostile)
  assert len(shown.scripts) == 1
  digest = base64.b64encode(hashlib.sha256(shown.scripts[0].encode()).digest()).decode()
  policy = next(a["content"] for tag, a in shown.tags if a.get("http-equiv") == "Content-Security-Policy")
  assert policy.startswith("default-src 'none'; img-src data:;")
  assert f"script-src 'sha256-{digest}';" in policy
  for _, attributes in shown.tags:
    assert attributes.get("src", "data:").startswith("data:")
    assert "srcset" not in attributes
  links = {attributes["href"] for _, attributes in shown.tags if "href" in attributes}
  assert {link for link in links if not link.startswith("#")} == {"%22%3E%3Cimg%20src%3Dx%3E.jsonl"}
  assert all(f'id="{link[1:]}"' in shown.source for link in links if link.startswith("#"))


def test_the_list_of_flagged_clips_is_linked_from_anywhere(tmp_path):
  content = quality()
  assert 'href="../javascript%3Aalert.jsonl"' in write(
    tmp_path / "page", content, tmp_path / "javascript:alert.jsonl"
  ).read_text("utf-8")
  assert 'href="javascript%3Aalert.jsonl"' in write(tmp_path, content, tmp_path / "javascript:alert.jsonl").read_text(
    "utf-8"
  )


@pytest.mark.reliability
def test_nothing_runs_and_nothing_is_asked_in_a_browser(tmp_path, browser, requests):
  address, asked = requests
  names = (
    *HOSTILE[:3],
    f'"><img src="{address}/img"><link rel=stylesheet href="{address}/css"><script src="{address}/js">',
  )
  document = browser(write(tmp_path, hostile_quality(names), tmp_path / "flagged.jsonl", quality()))
  assert re.search("<title>(.*)</title>", document)[1].endswith(": data quality, failed")
  assert asked == []


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
