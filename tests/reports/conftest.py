"""A real browser, and a server that remembers what was asked of it."""

import http.server
import shutil
import subprocess
import threading

import pytest


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
