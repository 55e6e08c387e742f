"""Files from public addresses: kept once, whole or not at all; offline is told within seconds."""

import hashlib
import http.server
import pathlib
import threading
import time
from typing import ClassVar

import pytest

from gasmcast.core.errors import WeightsError
from gasmcast.features.weights import download as module
from gasmcast.features.weights.download import NoAnswer, answer_within, download, is_downloaded

CONTENT = b"weights " * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()[:8]


class Files(http.server.BaseHTTPRequestHandler):
  """/net-*.pth is served whole, /short.pth is cut off, everything else is refused with the status in its name."""

  asked: ClassVar[list[str]] = []

  def do_GET(self):
    self.asked.append(self.path)
    if not self.path.endswith(".pth"):
      self.send_error(int(self.path[1:]))
      return
    self.send_response(200)
    self.send_header("Content-Length", str(len(CONTENT)))
    self.end_headers()
    self.wfile.write(CONTENT[:300] if self.path == "/short.pth" else CONTENT)

  def log_message(self, *arguments):
    pass


@pytest.fixture(scope="module")
def server():
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as served:
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_address[1]}"
    served.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> pathlib.Path:
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  for name in ("http_proxy", "https_proxy", "all_proxy"):
    monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(name.upper(), raising=False)
  Files.asked.clear()
  return tmp_path / "gasmcast" / "weights"


def test_a_file_is_downloaded_once(server, cache):
  address = f"{server}/net-{SHA}.pth"
  assert not is_downloaded(address, SHA)
  path = download(address, SHA)
  assert path == cache / f"net-{SHA}.pth" and path.read_bytes() == CONTENT
  assert is_downloaded(address, SHA) and download(address, SHA) == path
  assert Files.asked == [f"/net-{SHA}.pth"]
  assert list(cache.iterdir()) == [path]


def test_a_damaged_file_in_the_cache_is_downloaded_again(server):
  path = download(f"{server}/net.pth", SHA)
  path.write_bytes(CONTENT[:-1])
  assert download(f"{server}/net.pth", SHA).read_bytes() == CONTENT
  assert len(Files.asked) == 2


def test_a_file_that_arrives_damaged_is_not_kept(server, cache):
  with pytest.raises(
    WeightsError, match=f"arrived damaged: 8000 of 8000 bytes, .* begins with {SHA} and not with 12345678"
  ):
    download(f"{server}/net.pth", "12345678")
  with pytest.raises(WeightsError, match=r"short\.pth arrived damaged: 300 of 8000 bytes.*Run it again\.$"):
    download(f"{server}/short.pth", SHA)
  assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
  ("status", "message"),
  [
    (404, r"HTTP 404 Not Found\. It is no longer there: give the file itself by weights=PATH\.$"),
    (503, r"HTTP 503 Service Unavailable\. Try again later, or give the file itself by weights=PATH\.$"),
  ],
)
def test_a_refusal_is_told(server, status, message):
  with pytest.raises(WeightsError, match=message):
    download(f"{server}/{status}", SHA)


def test_offline_is_told_at_once():
  start = time.monotonic()
  with pytest.raises(
    WeightsError, match=r"can't be reached \(Connection refused\): this machine is offline, or a proxy is"
  ):
    download("http://127.0.0.1:9/net.pth", SHA)  # nobody listens on the port of "discard"
  assert time.monotonic() - start < 5


def test_a_proxy_of_the_environment_is_used(server, monkeypatch):
  monkeypatch.setenv("http_proxy", server)
  monkeypatch.setenv("no_proxy", "")
  assert download("http://made-up.invalid/net.pth", SHA).read_bytes() == CONTENT
  assert Files.asked == ["http://made-up.invalid/net.pth"]


def test_a_name_that_is_looked_up_for_ever_is_given_up(monkeypatch):
  release = threading.Event()
  monkeypatch.setattr("socket.getaddrinfo", lambda *arguments: release.wait(10) and [])
  monkeypatch.setattr(module, "ANSWER_WITHIN", 0.2)
  with pytest.raises(WeightsError, match=r"can't be reached \(no answer within 0\.2 s\)"):
    download("http://made-up.invalid/net.pth", SHA)
  release.set()


def test_a_download_that_breaks_off_is_told(server, cache, monkeypatch):
  def reset(*arguments):
    raise ConnectionResetError(104, "Connection reset by peer")

  monkeypatch.setattr("http.client.HTTPResponse.read", reset)
  with pytest.raises(WeightsError, match=r"broke off after 0 of 8000 bytes \(Connection reset by peer\); run it again"):
    download(f"{server}/net.pth", SHA)
  assert list(cache.iterdir()) == []


def test_a_full_disk_is_told(server, monkeypatch):
  def full(path):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(module, "atomic_file", full)
  with pytest.raises(WeightsError, match=r"can't be written to .*weights: No space left on device\. Make room there"):
    download(f"{server}/net.pth", SHA)


def test_an_answer_in_time_is_passed_on_with_its_errors():
  assert answer_within(5, lambda: 3) == 3
  with pytest.raises(KeyError):
    answer_within(5, lambda: {}["a"])
  release = threading.Event()
  with pytest.raises(NoAnswer, match=r"no answer within 0\.01 s"):
    answer_within(0.01, lambda: release.wait(10))
  release.set()
