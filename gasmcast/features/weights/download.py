"""Files at public addresses, kept in the cache. A machine that is offline is told so within seconds."""

import hashlib
import http.client
import pathlib
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

from gasmcast.core.cache import cache_folder
from gasmcast.core.errors import WeightsError
from gasmcast.core.manifest import atomic_file

T = TypeVar("T")

ANSWER_WITHIN = 4.0  # seconds that a server has for its first answer
_STALLED = 30.0  # seconds without a byte after which a download has broken off


class NoAnswer(Exception):
  """A server did not answer in time."""


def answer_within(seconds: float, ask: Callable[[], T]) -> T:
  """What `ask` returns or raises. It runs in a thread of its own, for looking up a name can hang beyond any timeout.

  Raises:
    NoAnswer: it takes longer than `seconds`.
  """
  box: dict[str, Any] = {}

  def run() -> None:
    try:
      box["value"] = ask()
    except BaseException as error:
      box["error"] = error

  thread = threading.Thread(target=run, name="answer_within", daemon=True)
  thread.start()
  thread.join(seconds)
  if thread.is_alive():
    raise NoAnswer(f"no answer within {seconds:g} s")
  if "error" in box:
    raise box["error"]
  return box["value"]


def download(address: str, sha256: str) -> pathlib.Path:
  """The file at a public address, in the cache under its own name; downloaded if it is not there or is damaged.

  Proxies are taken from the environment (https_proxy, no_proxy).

  Args:
    address: of the file.
    sha256: the first digits of the SHA-256 of its content.

  Raises:
    WeightsError: the machine is offline, the server refuses, the file arrives damaged, or can't be written.
  """
  path = cached_path(address)
  if is_downloaded(address, sha256):
    return path
  give = "give the file itself by weights=PATH"
  opener = urllib.request.build_opener()  # urlopen would keep the proxies that it found at its first call
  try:
    response = answer_within(ANSWER_WITHIN, lambda: opener.open(address, timeout=_STALLED))
  except urllib.error.HTTPError as error:
    error.close()
    gone = " It is no longer there:" if error.code in (404, 410) else " Try again later, or"
    raise WeightsError(f"{address} is refused: HTTP {error.code} {error.reason}.{gone} {give}.") from error
  except (OSError, NoAnswer, http.client.HTTPException) as error:
    raise WeightsError(
      f"{address} can't be reached ({_words(error)}): this machine is offline, or a proxy is missing (https_proxy). "
      f"Download it elsewhere and {give}."
    ) from error
  with response:
    _keep(response, path, address, sha256)
  return path


def cached_path(address: str) -> pathlib.Path:
  """Where the file of that address lies once it is downloaded."""
  return cache_folder("weights") / pathlib.PurePosixPath(urllib.parse.urlsplit(address).path).name


def is_downloaded(address: str, sha256: str) -> bool:
  """Whether the file is in the cache and whole."""
  path = cached_path(address)
  try:
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256)
  except OSError:
    return False


def _keep(response: Any, path: pathlib.Path, address: str, sha256: str) -> None:
  """Writes what the server sends, whole or not at all."""
  digest, arrived, promised = hashlib.sha256(), 0, response.headers.get("Content-Length", "an unknown number of")
  try:
    with atomic_file(path) as file:
      while block := _next_block(response, address, arrived, promised):
        arrived += len(block)
        digest.update(block)
        file.write(block)
      if not digest.hexdigest().startswith(sha256):
        raise WeightsError(
          f"{address} arrived damaged: {arrived} of {promised} bytes, whose SHA-256 begins with "
          f"{digest.hexdigest()[: len(sha256)]} and not with {sha256}. Run it again."
        )
  except OSError as error:
    raise WeightsError(
      f"{address} can't be written to {path.parent}: {_words(error)}. Make room there, or set XDG_CACHE_HOME to a "
      "folder that can be written."
    ) from error


def _next_block(response: Any, address: str, arrived: int, promised: str) -> bytes:
  try:
    return response.read(1 << 20)
  except (OSError, http.client.HTTPException) as error:
    raise WeightsError(
      f"{address} broke off after {arrived} of {promised} bytes ({_words(error)}); run it again."
    ) from error


def _words(error: BaseException) -> str:
  """What an error of the network says, on one line."""
  if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
    error = error.reason
  said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
  return " ".join(said.split()) or type(error).__name__
