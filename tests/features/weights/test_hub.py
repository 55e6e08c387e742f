"""The Hugging Face Hub, played by a server on this machine: what it serves is kept, every refusal has its own words."""

import hashlib
import http.server
import json
import pathlib
import threading
import time
from typing import ClassVar

import huggingface_hub
import pytest
from huggingface_hub import constants

from gasmcast.core.errors import WeightsError
from gasmcast.features.weights import hub
from gasmcast.features.weights.hub import fetch

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secretsecretsecret"
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
REPOSITORIES = {
  "open/net": {"config.json": b"{}", "model.safetensors": b"weights"},
  "open/bare": {"model.safetensors": b"weights"},
  "open/shards": {"model.safetensors.index.json": INDEX, "model-1.safetensors": b"one", "model-2.safetensors": b"two"},
  "open/pickles": {"config.json": b"{}", "pytorch_model.bin": b"..."},
  "open/lost": {"model.safetensors.index.json": INDEX, "model-1.safetensors": b"one"},
  "open/cut": {"config.json": b"{}", "model.safetensors": b"weights"},
  "facebook/dinov3-gated": {"config.json": b"{}", "model.safetensors": b"weights"},
  "other/gated": {"config.json": b"{}", "model.safetensors": b"weights"},
}


class FakeHub(http.server.BaseHTTPRequestHandler):
  """/owner/name/resolve/revision/file, with the status codes and X-Error-Code headers of the Hub."""

  protocol_version = "HTTP/1.1"
  asked: ClassVar[list[str]] = []

  def do_HEAD(self):
    self.asked.append(f"{self.command} {self.path}")
    _, owner, name, _, revision, file = self.path.split("?")[0].split("/", 5)
    repository, token = f"{owner}/{name}", self.headers.get("Authorization")
    if repository == "busy/net":
      return self.answer(503)
    if repository == "page/net":
      return self.answer(200, b"<html>Sign in to the hotel</html>")
    if token == "Bearer hf_expired":
      return self.answer(401, message="Invalid credentials in Authorization header")
    if repository == "narrow/token":
      return self.answer(403, message="Please enable access to public gated repositories")
    if repository not in REPOSITORIES:
      return self.answer(401 if token is None else 404, code="RepoNotFound")
    if "gated" in repository:
      return self.answer(401 if token is None else 403, code="GatedRepo")
    if revision not in ("main", "v1", COMMIT):
      return self.answer(404, code="RevisionNotFound")
    if file not in REPOSITORIES[repository]:
      return self.answer(404, code="EntryNotFound", commit=COMMIT)
    body = REPOSITORIES[repository][file]
    if repository == "open/cut" and file == "model.safetensors" and self.command == "GET":
      body = body[:3]
    return self.answer(200, body, commit=COMMIT)

  do_GET = do_HEAD

  def answer(self, status, body=b"", *, code=None, message=None, commit=None):
    self.send_response(status)
    headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
    if status == 200 and commit:
      headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()}"'
    for name, value in headers.items():
      if value:
        self.send_header(name, value)
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    if self.command == "GET":
      self.wfile.write(body)

  def log_message(self, *arguments):
    pass


@pytest.fixture(scope="module")
def server():
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub) as served:
    served.daemon_threads = True
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_address[1]}"
    huggingface_hub.close_session()
    served.shutdown()


@pytest.fixture(autouse=True)
def machine(server, tmp_path, monkeypatch) -> pathlib.Path:
  """A machine with an empty cache and no token, online; the value is its cache."""
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
  monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
  for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_OIDC_RESOURCE"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("HF_ENDPOINT", server)
  monkeypatch.setenv("NO_PROXY", "127.0.0.1")
  FakeHub.asked.clear()
  return tmp_path / "hub"


def refusal(name: str, revision: str | None = None) -> str:
  with pytest.raises(WeightsError) as caught:
    fetch(name, revision)
  message = str(caught.value)
  assert "\n" not in message and TOKEN not in message and message.endswith(".")
  return message


def test_a_repository_is_downloaded_once(machine):
  folder = fetch("open/net")
  assert {file.name: file.read_bytes() for file in folder.iterdir()} == REPOSITORIES["open/net"]
  assert folder.name == COMMIT and machine in folder.parents
  asked = len(FakeHub.asked)
  assert fetch("open/net") == folder and len(FakeHub.asked) == asked
  assert fetch("open/net", COMMIT) == folder and len(FakeHub.asked) == asked


def test_a_revision_is_asked_for():
  assert fetch("open/net", "v1").name == COMMIT
  assert all("/resolve/v1/" in line for line in FakeHub.asked)


def test_a_repository_without_config_is_taken_as_it_is():
  assert [file.name for file in fetch("open/bare").iterdir()] == ["model.safetensors"]
  asked = len(FakeHub.asked)
  fetch("open/bare")
  assert len(FakeHub.asked) == asked


def test_shards_are_all_downloaded(machine, monkeypatch):
  folder = fetch("open/shards")
  assert {file.name: file.read_bytes() for file in folder.iterdir()} == REPOSITORIES["open/shards"]
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  assert fetch("open/shards") == folder
  (folder / "model-2.safetensors").unlink()
  assert "open/shards is not in the cache" in refusal("open/shards")


def test_gated_without_a_token(server):
  assert refusal("facebook/dinov3-gated") == (
    "facebook/dinov3-gated is gated, and there is no token: request access at "
    "https://huggingface.co/facebook/dinov3-gated, then run hf auth login or set HF_TOKEN. Without waiting: "
    "dinov2_vitb14 is not gated, efficientnet_lite0 and i3d_rgb need no network but a package."
  )
  assert refusal("other/gated").endswith("then run hf auth login or set HF_TOKEN.")


def test_gated_with_a_token_that_has_no_access(monkeypatch):
  monkeypatch.setenv("HF_TOKEN", TOKEN)
  assert refusal("facebook/dinov3-gated").startswith(
    "facebook/dinov3-gated is gated, and the account of your token has no access yet: request it at "
    "https://huggingface.co/facebook/dinov3-gated, and wait until it is granted. Without waiting: dinov2_vitb14"
  )


def test_not_found(monkeypatch):
  assert refusal("open/nett") == (
    "'open/nett' is not found: there is no such folder here, and on the Hub it is misspelt, removed, or private (hf "
    "auth login, or set HF_TOKEN). Look at https://huggingface.co/open/nett."
  )
  monkeypatch.setenv("HF_TOKEN", TOKEN)
  assert "misspelt, removed, or private to others than the owner of your token" in refusal("open/nett")


def test_a_name_that_the_hub_does_not_allow():
  assert "'a--b/c' is neither a folder here nor a name that the Hub allows" in refusal("a--b/c")


def test_offline_is_told_within_seconds(monkeypatch):
  monkeypatch.setenv("HF_ENDPOINT", "http://user:password@127.0.0.1:9")  # nobody listens on the port of "discard"
  start = time.monotonic()
  message = refusal("open/net")
  assert time.monotonic() - start < 5
  assert message == (
    "open/net is not in the cache, and http://127.0.0.1:9 can't be reached ([Errno 111] Connection refused): this "
    "machine is offline, or a proxy is missing (https_proxy). Run it once online, or download it elsewhere (hf "
    "download open/net) and give the folder by weights=PATH; efficientnet_lite0 and i3d_rgb need no network but a "
    "package."
  )


def test_a_name_that_is_looked_up_for_ever_is_given_up(monkeypatch):
  release = threading.Event()
  monkeypatch.setattr("socket.getaddrinfo", lambda *arguments, **options: release.wait(10) and [])
  monkeypatch.setattr(hub, "ANSWER_WITHIN", 0.3)
  monkeypatch.setenv("HF_ENDPOINT", "http://made-up.invalid")
  assert "http://made-up.invalid can't be reached (no answer within 0.3 s)" in refusal("open/net")
  release.set()


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_offline_switch_is_respected(monkeypatch, switch):
  folder = fetch("open/net")
  FakeHub.asked.clear()
  monkeypatch.setenv(switch, "1")
  assert fetch("open/net") == folder
  assert f"open/bare is not in the cache, and {switch} forbids to ask the Hub: unset it, or" in refusal("open/bare")
  assert FakeHub.asked == []


def test_a_missing_revision():
  assert refusal("open/net", "v9") == (
    "open/net has no revision 'v9' on the Hub; take another one behind the @, or none."
  )


def test_a_repository_without_safetensors():
  assert refusal("open/pickles", "v1") == (
    "open/pickles@v1 holds neither model.safetensors nor model.safetensors.index.json. Use another revision or "
    "repository, or download its PyTorch file and give that by weights=PATH."
  )


def test_a_shard_that_is_not_there():
  assert refusal("open/lost") == (
    "open/lost: its model.safetensors.index.json names a shard that is not there; use another revision or repository."
  )


def test_a_token_that_is_refused(monkeypatch):
  monkeypatch.setenv("HF_TOKEN", "hf_expired")
  assert refusal("open/net") == (
    "open/net: the Hub refuses your token (expired or misspelt); log in again: hf auth login, or set HF_TOKEN."
  )


def test_a_token_with_too_few_rights(monkeypatch):
  monkeypatch.setenv("HF_TOKEN", TOKEN)
  assert "narrow/token: the Hub forbids it with your token (HTTP 403). Allow the token" in refusal("narrow/token")


def test_a_hub_in_trouble_is_told_at_once(server):
  start = time.monotonic()
  assert refusal("busy/net").startswith(
    f"busy/net: {server} answers HTTP 503; try again later, or download it elsewhere"
  )
  assert time.monotonic() - start < 5


def test_a_page_in_front_of_the_hub_is_told(server):
  assert refusal("page/net") == (f"page/net: {server} does not answer as a Hub does; check HF_ENDPOINT and the proxy.")


def test_a_download_that_breaks_off_is_told(machine):
  assert "open/cut: the download broke off (Consistency check failed: file should be of size 7" in refusal("open/cut")
  assert "open/cut: the download broke off" in refusal("open/cut")  # what is half there is not used


def test_a_full_disk_is_told(monkeypatch, machine):
  def full(*arguments, **options):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
  assert refusal("open/net") == (
    f"open/net can't be written to {machine}: No space left on device. Make room there, or set HF_HOME to a folder "
    "that can be written."
  )
