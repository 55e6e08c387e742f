"""Job prepare, killed or run by several processes, ends with what one undisturbed run makes."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.datasets.test_archives import FOLDER, download, tar
from tests.jobs.small_download import results, run, state

pytestmark = pytest.mark.usefixtures("no_page")

ROOT = pathlib.Path(__file__).parent.parent.parent
_CHILD = """
import sys
from tests.jobs.small_download import setup
from gasmcast.jobs import prepare
prepare.page.write = lambda folder, *others: folder / "index.html"
prepare.run(setup(sys.argv[1], sys.argv[2], shard=1))
"""


def start(workdir, source):
  options = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
  return subprocess.Popen([sys.executable, "-c", _CHILD, str(workdir), str(source)], **options)


def kill_when(process, reached):
  """kill -9 as soon as `reached()`; True if it still ran."""
  deadline = time.monotonic() + 120
  while process.poll() is None and not reached():
    assert time.monotonic() < deadline, "it did not get there"
    time.sleep(0.001)
  alive = process.poll() is None
  process.send_signal(signal.SIGKILL)
  process.communicate()
  return alive


@pytest.mark.reliability
def test_killed_while_unpacking_and_while_probing_it_goes_on_and_ends_the_same(tmp_path, clips, source):
  bulk = {f"{FOLDER}/{n}.webm": clip.read_bytes() for n, clip in enumerate(clips)}
  bulk |= {f"{FOLDER}/{n}.webm": os.urandom(2_000) for n in range(100, 3_100)}  # so that unpacking takes a moment
  download(source, tar(bulk))
  before = state(source)
  workdir = tmp_path / "killed"
  videos = lambda: len(list((workdir / "videos" / FOLDER).glob("*.webm")))
  receipts = lambda: len(list((workdir / "probes").glob("*/0*.json")))
  assert kill_when(start(workdir, source), lambda: videos() > 100)
  assert not list((workdir / "unpacking").glob("*/00000.json")) and 100 < videos() < 3_014
  assert kill_when(start(workdir, source), lambda: receipts() > 3)
  assert receipts() > 3
  run(workdir, source, shard=1)
  run(tmp_path / "whole", source, shard=1)
  assert results(workdir) == results(tmp_path / "whole")
  assert not list(workdir.rglob("*.part")) and not (workdir / "videos" / ".unpacking").exists()
  assert state(source) == before


@pytest.mark.reliability
def test_two_processes_divide_the_work_and_make_the_same(tmp_path, source):
  both = [start(tmp_path / "both", source) for _ in range(2)]
  errors = [process.communicate(timeout=240)[1] for process in both]
  assert [process.returncode for process in both] == [0, 0], errors
  run(tmp_path / "one", source, shard=1)
  assert results(tmp_path / "both") == results(tmp_path / "one")
