"""Names, labels and reasons from outside stay text on the quality page; it loads and runs nothing of theirs."""

import base64
import hashlib
import re

import pytest

from gasmcast.reports.data_quality import write
from tests.reports.made_up_quality import check, measure, quality, split
from tests.reports.test_html import HOSTILE, Page

pytestmark = pytest.mark.usefixtures("patient")


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


@pytest.mark.reliability(23)
def test_nothing_runs_and_nothing_is_asked_in_a_browser(tmp_path, browser, requests, figure):
  address, asked = requests
  names = (
    *HOSTILE[:3],
    f'"><img src="{address}/img"><link rel=stylesheet href="{address}/css"><script src="{address}/js">',
  )
  document = browser(write(tmp_path, hostile_quality(names), tmp_path / "flagged.jsonl", quality()))
  assert re.search("<title>(.*)</title>", document)[1].endswith(": data quality, failed")
  assert asked == []
  figure(f"page of data quality: {len(names)} hostile names shown in a browser, 0 ran, 0 requests")
