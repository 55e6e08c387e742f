"""A real browser, a server that remembers what was asked of it, and a clip to make pictures of."""

import http.server
import shutil
import subprocess
import threading

import cv2
import numpy as np
import pytest

from gasmcast.core.isolation import Limits
from gasmcast.reports import strips


@pytest.fixture
def browser():
  """Loads a page in a real browser and returns the document after all scripts."""
  program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
  if program is None:
    pytest.skip("no Chromium on this machine")

  def load(path):
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom")
    return subprocess.run([program, *flags, path.as_uri()], capture_output=True, timeout=60, check=True).stdout.decode()

  return load


@pytest.fixture
def requests():
  """The address of a local server, and the paths that were asked of it."""
  asked = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      asked.append(self.path)
      self.send_error(404)

    def log_message(self, *arguments):
      """Silent."""

  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()


@pytest.fixture
def patient(monkeypatch):
  """A busy machine must not make a picture into a reason."""
  monkeypatch.setattr(strips, "_LIMITS", Limits(seconds=200.0))


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
  """The path of a video of 7 frames of 64 x 48 pixels that become brighter."""
  path = str(tmp_path_factory.mktemp("clip") / "clip.webm")
  writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"VP80"), 12.0, (64, 48))
  for level in range(20, 231, 35):
    writer.write(np.full((48, 64, 3), level, np.uint8))
  writer.release()
  return path
