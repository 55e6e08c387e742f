import base64
import csv
import hashlib
import html.parser
import re

import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.metrics.classification import Mistake
from gasmcast.reports import html as html_report
from gasmcast.reports.attention import AttentionExample
from gasmcast.reports.html import Report, Run, write_report
from gasmcast.reports.training import Training

HOSTILE = (
  "<script>document.title='run'</script>",
  '"><img src=x onerror="document.title=\'run\'">',
  "'; document.title='run'; //</script><svg onload=document.title='run'>",
  "{{ 7 * 7 }} {% include '/etc/passwd' %}",
  r"costs $\frac{1}{0}$ \\ & <!-- ]]> -->",
  "=1+1,\r\nnext \x00 \udc80 line",
)


def sums(confusion, nonfinite=None):
  confusion = np.asarray(confusion, np.float64)
  bins = {name: np.zeros(15) for name in ("count", "confidence", "correct")}
  bins["count"][14], bins["confidence"][14] = confusion.sum(), 0.96 * confusion.sum()
  bins["correct"][14] = np.trace(confusion)
  nonfinite = np.zeros(len(confusion)) if nonfinite is None else np.asarray(nonfinite)
  return {
    "examples": confusion.sum() + nonfinite.sum(),
    "confusion": confusion,
    "nonfinite": nonfinite,
    "top5": confusion.sum(1),
    "nll": confusion.sum(),
    "calibration": bins | {"brier": 0.5 * confusion.sum()},
  }


def run(**changes):
  fields = {
    "command": "gasmcast --job=evaluate",
    "step": 1200,
    "data": "generated",
    "fingerprint": "5f" * 32,
    "versions": {"jax": "0.10.2"},
    "parameters": {"trainable": 14_197_326},
  }
  return Run(**fields | changes)


def attention(name, count=1):
  generator = np.random.default_rng(0)
  example = AttentionExample(
    id=name,
    frames=generator.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8),
    patch_attention=generator.random((2, 2, 2)),
    segment_attention=np.ones(2),
    time_attention={name: np.eye(2)},
    true=name,
    predictions=((name, 0.9),),
  )
  return (example,) * count


class Page(html.parser.HTMLParser):
  """Tags with their attributes, and the text of the page outside of style and script."""

  def __init__(self, path):
    super().__init__(convert_charrefs=True)
    self.source = path.read_text("utf-8")
    self.tags, self.scripts, self.words = [], [], []
    self._inside = ""
    self.feed(self.source)
    self.text = " ".join("".join(self.words).split())

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    self._inside = tag

  def handle_endtag(self, tag):
    self._inside = ""

  def handle_data(self, data):
    if self._inside == "script":
      self.scripts.append(data)
    elif self._inside != "style":
      self.words.append(data)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
  """A report in which every string that comes from outside is markup of some kind."""
  folder = tmp_path_factory.mktemp("hostile")
  first, second = HOSTILE[:2]
  report = Report(
    run=run(command=first, data=second, fingerprint=first, versions={first: second}, parameters={second: 7}),
    split=first,
    class_names=HOSTILE,
    sums=sums(np.eye(6) + np.ones((6, 6))),
    training=Training([{"step": 1, "split": first, "loss": 1.0}]),
    pairs={second: [(0, 1), (2, 3)]},
    depth_hits=(6, 12),
    mistakes=[Mistake(name, name, HOSTILE[0], 0.5) for name in HOSTILE],
    attention=attention(second),
    unreadable=3,
  )
  write_report(folder, report)
  return folder


def test_hostile_strings_stay_text(hostile):
  page = Page(hostile / "index.html")
  for name in HOSTILE:
    shown = name.encode("utf-8", "replace").decode()
    assert " ".join(shown.split()) in page.text
  assert {tag for tag, _ in page.tags}.isdisjoint({"svg", "iframe", "object", "embed", "link", "base", "form", "input"})
  assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
  assert not any(
    attributes["style"].strip("-share:0123456789.%") for _, attributes in page.tags if "style" in attributes
  )


def test_the_page_loads_nothing_and_runs_one_known_script(hostile):
  page = Page(hostile / "index.html")
  assert len(page.scripts) == 1
  digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
  policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
  assert policy.startswith("default-src 'none'; img-src data:;")
  assert f"script-src 'sha256-{digest}';" in policy
  for tag, attributes in page.tags:
    for name in ("src", "srcset"):
      assert attributes.get(name, "data:").startswith("data:"), tag
    target = attributes.get("href", "#run")
    assert (target.startswith("#") and f'id="{target[1:]}"' in page.source) or (hostile / target).is_file()


def test_classes_survive_the_csv(hostile):
  with open(hostile / "per_class.csv", newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
  assert [row["name"] for row in rows] == [name.encode("utf-8", "replace").decode() for name in HOSTILE]
  assert rows[0]["support"] == "7"
  assert float(rows[0]["recall"]) == 2 / 7


def test_numbers_by_hand(tmp_path):
  report = Report(
    run=run(),
    split="test",
    class_names=("open", "close"),
    sums=sums([[6, 1], [1, 0]], nonfinite=[0, 2]),
    pairs={"reversed in time": [(0, 1)]},
    unreadable=1234,
  )
  page = Page(write_report(tmp_path, report))
  assert "generated, test 2 classes, 10 examples, after step 1,200." in page.text
  assert "1,234 clips could not be read." in page.text
  assert "2 examples have non-finite scores." in page.text
  assert "Top-1 accuracy60.0 %95 %: 31.3 to 83.2" in page.text  # Wilson's interval of 6 of 10
  assert "Top-2 accuracy80.0 %" in page.text
  assert "Mean class accuracy42.9 %" in page.text  # (6/7 + 0/3) / 2
  assert "Parameters, trainable14,197,326" in page.text
  assert "openclose10875.060.0" in page.text  # of 10 examples 8 decided, 6 as their own class
  assert "Training" not in page.text
  assert "Attention" not in page.text
  assert "Mistakes" not in page.text


def test_a_page_of_174_classes_stays_below_3_mb(tmp_path):
  names = [f"Pretending to put something number {i} behind something" for i in range(174)]
  confusion = np.random.default_rng(0).poisson(2, (174, 174)) + 50 * np.eye(174)
  records = [{"step": i, "split": "train", "loss": 1 / (1 + i), "top1": i / 4000} for i in range(4000)]
  page = write_report(
    tmp_path, Report(run(), "validation", names, sums(confusion), Training(records), depth_hits=(1, 2, 3, 4))
  )
  assert page.stat().st_size + html_report.PICTURES_LIMIT < 3_000_000


def test_pictures_beyond_the_limit_stay_files(tmp_path, monkeypatch):
  examples = attention("clip", count=2)
  size = len(html_report._pictures(examples[:1])[0]["light"])
  monkeypatch.setattr(html_report, "PICTURES_LIMIT", 3 * size)  # two themes each: room for one example
  page = Page(write_report(tmp_path, Report(run(), "test", ("a", "b"), sums(np.eye(2)), attention=examples)))
  assert [a["src"][:15] for tag, a in page.tags if tag == "img"].count("data:image/webp") == 1
  assert "clip: kept out of this page for its size, see attention-02.png" in page.text
  assert (tmp_path / "attention-02.png").is_file()


def test_an_earlier_report_leaves_nothing_behind(tmp_path):
  write_report(
    tmp_path, Report(run(), "test", ("a", "b"), sums(np.eye(2)), depth_hits=(1, 2), attention=attention("x"))
  )
  (tmp_path / "notes.svg").write_text("mine")
  write_report(tmp_path, Report(run(), "test", ("a", "b"), sums(np.eye(2))))
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {"index.html", "per_class.csv", "per_class.svg", "confusion.svg", "calibration.svg", "notes.svg"}


def test_nothing_is_written_when_there_is_nothing_to_report(tmp_path):
  with pytest.raises(DataError, match="no example was evaluated"):
    write_report(tmp_path / "report", Report(run(), "test", ("a", "b"), sums(np.zeros((2, 2)))))
  assert not (tmp_path / "report").exists()


@pytest.mark.reliability(23)
def test_nothing_runs_and_nothing_is_asked_in_a_browser(tmp_path, browser, requests, figure):
  address, asked = requests
  names = (
    *HOSTILE,
    f'"><img src="{address}/img"><link rel=stylesheet href="{address}/css"><script src="{address}/js">',
  )
  mistakes = [Mistake(name, name, name, 0.5) for name in names]
  page = write_report(tmp_path, Report(run(), "test", names, sums(np.eye(7)), mistakes=mistakes))
  document = browser(page)
  assert "<title>generated, test: 100.0 % top-1</title>" in document
  assert asked == []
  # The same strings unescaped are caught by the policy alone; without it they do run and ask.
  bare = page.read_text("utf-8").replace("<main>", "<main>" + "".join(names[:2]) + names[-1][2:] + "</script>")
  page.write_text(bare, "utf-8")
  assert "<title>generated, test: 100.0 % top-1</title>" in browser(page)
  assert asked == []
  page.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", bare), "utf-8")
  assert "<title>run</title>" in browser(page)
  assert set(asked) >= {"/img", "/css", "/js"}
  figure(f"report of an evaluation: {len(names)} hostile names shown in a browser, 0 ran, 0 requests")


@pytest.mark.reliability
def test_tables_sort_in_a_browser(tmp_path, browser):
  names = ("beta", "alpha", "gamma", "never seen")
  confusion = np.diag([4.0, 20.0, 100.0, 0.0])
  confusion[0, 1] = 6
  page = write_report(tmp_path, Report(run(), "test", names, sums(confusion)))
  source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text("utf-8"))
  clicks = """<script>
  const heads = [...document.querySelectorAll("#classes th button")];
  const shown = () => [...document.querySelectorAll("#classes tbody tr")].map((row) => row.cells[0].textContent).join();
  const results = [];
  for (const column of [0, 0, 1, 1, 2, 2]) { heads[column].click(); results.push(shown()); }
  document.title = results.join(" | ");
  </script></body>"""
  page.write_text(source.replace("</body>", clicks), "utf-8")
  expected = [
    "alpha,beta,gamma,never seen",  # words upwards first
    "never seen,gamma,beta,alpha",
    "gamma,alpha,beta,never seen",  # numbers downwards first: 100, 20, 10, 0
    "never seen,beta,alpha,gamma",
    "alpha,gamma,beta,never seen",  # recall 1, 1, .4 and none, which is last either way
    "beta,alpha,gamma,never seen",
  ]
  title = re.search("<title>(.*)</title>", browser(page))[1]
  assert title.split(" | ") == expected
