"""Repositories of the Hugging Face Hub, through huggingface_hub and its cache. Every refusal has its own words."""

import os
import pathlib
import urllib.parse
from collections.abc import Callable
from typing import TypeVar

import huggingface_hub
from huggingface_hub import constants, errors

from gasmcast.core.errors import WeightsError
from gasmcast.features.weights.download import ANSWER_WITHIN, NoAnswer, answer_within
from gasmcast.features.weights.tensor_files import CONFIG, INDEX, WEIGHTS, shards

T = TypeVar("T")

_DEFAULT_ENDPOINT = "https://huggingface.co"
_OFFLINE_SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_NO_NETWORK = "efficientnet_lite0 and i3d_rgb need no network but a package"


def fetch(name: str, revision: str | None = None) -> pathlib.Path:
  """The folder with model.safetensors (or its index and shards) and config.json of a repository, downloaded once.

  What is in the cache is used as it is, without asking the Hub. The endpoint is $HF_ENDPOINT, as ever.

  Raises:
    WeightsError: gated without a token, gated without access, offline, not found, no such revision, no safetensors
      file in it, or a download that fails; each says what to do.
  """
  if folder := _cached(name, revision):
    return folder
  switch = next((switch for switch in _OFFLINE_SWITCHES if _is_on(os.environ.get(switch))), None)
  if switch or constants.HF_HUB_OFFLINE:
    raise WeightsError(
      f"{_subject(name, revision)} is not in the cache, and {switch or _OFFLINE_SWITCHES[0]} forbids to ask the Hub: "
      f"unset it, or {_by_hand(name)}; {_NO_NETWORK}."
    )
  try:
    return _download(name, revision)
  except (errors.HfHubHTTPError, errors.HTTPError, errors.XetDownloadError, OSError, ValueError, RuntimeError) as error:
    raise WeightsError(_explain(error, name, revision)) from error
  except NoAnswer as error:
    raise WeightsError(_offline(str(error), name, revision)) from error


def _cached(name: str, revision: str | None) -> pathlib.Path | None:
  """The folder of the cache, if weights are whole there."""
  in_cache = lambda file: huggingface_hub.try_to_load_from_cache(name, file, revision=revision)
  try:
    if isinstance(found := in_cache(WEIGHTS), str):
      return pathlib.Path(found).parent
    if isinstance(found := in_cache(INDEX), str):
      index = pathlib.Path(found)
      whole = all(isinstance(in_cache(file), str) for file in shards(index))
      return index.parent if whole else None
  except (errors.HFValidationError, WeightsError, OSError):  # said in words when the Hub is asked
    return None
  return None


def _download(name: str, revision: str | None) -> pathlib.Path:
  """config.json first: weights in the cache then mean that it is there, or that there is none."""
  endpoint = _endpoint()
  address = huggingface_hub.hf_hub_url(name, CONFIG, revision=revision, endpoint=endpoint)
  ask = lambda: huggingface_hub.get_hf_file_metadata(address, timeout=ANSWER_WITHIN, endpoint=endpoint)
  get = lambda file: pathlib.Path(huggingface_hub.hf_hub_download(name, file, revision=revision, endpoint=endpoint))
  if _if_there(lambda: answer_within(ANSWER_WITHIN, ask)):  # once and quickly; a download tries again and again
    get(CONFIG)
  if weights := _if_there(lambda: get(WEIGHTS)):
    return weights.parent
  index = _if_there(lambda: get(INDEX))
  if index is None:
    raise WeightsError(
      f"{_subject(name, revision)} holds neither {WEIGHTS} nor {INDEX}. Use another revision or repository, or "
      "download its PyTorch file and give that by weights=PATH."
    )
  folders = {get(file).parent for file in shards(index)} | {index.parent}
  if len(folders) > 1:
    raise WeightsError(f"{_subject(name, revision)} changed while it was downloaded; run it again.")
  return index.parent


def _if_there(call: Callable[[], T]) -> T | None:
  """What `call` gives, None where the repository does not have the file it asks for."""
  try:
    return call()
  except errors.RemoteEntryNotFoundError:
    return None


def _explain(error: Exception, name: str, revision: str | None) -> str:
  """The words for what the Hub or the network did."""
  subject = _subject(name, revision)
  if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
    error = error.__cause__  # what kept the library from asking
  status = getattr(getattr(error, "response", None), "status_code", None)
  if isinstance(error, errors.GatedRepoError):
    return _gated(name, subject)
  if isinstance(error, errors.RevisionNotFoundError):
    return f"{name} has no revision {revision or 'main'!r} on the Hub; take another one behind the @, or none."
  if isinstance(error, errors.RepositoryNotFoundError):
    private = (
      "private to others than the owner of your token" if _has_token() else "private (hf auth login, or set HF_TOKEN)"
    )
    return (
      f"{name!r} is not found: there is no such folder here, and on the Hub it is misspelt, removed, or {private}. "
      f"Look at {_DEFAULT_ENDPOINT}/{name}."
    )
  if isinstance(error, errors.RemoteEntryNotFoundError):
    return f"{subject}: its {INDEX} names a shard that is not there; use another revision or repository."
  if isinstance(error, errors.HFValidationError):
    return f"{name!r} is neither a folder here nor a name that the Hub allows ({_line(error)})."
  if status == 401:
    return f"{subject}: the Hub refuses your token (expired or misspelt); log in again: hf auth login, or set HF_TOKEN."
  if status == 403:
    return (
      f"{subject}: the Hub forbids it with your token (HTTP 403). Allow the token to read gated repositories in its "
      f"settings, {_DEFAULT_ENDPOINT}/settings/tokens."
    )
  if status is not None:
    return f"{subject}: {_shown(_endpoint())} answers HTTP {status}; try again later, or {_by_hand(name)}."
  if isinstance(error, errors.FileMetadataError):
    return f"{subject}: {_shown(_endpoint())} does not answer as a Hub does; check HF_ENDPOINT and the proxy."
  if isinstance(error, errors.HTTPError) and not isinstance(error, OSError):
    return _offline(_line(error), name, revision)
  if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
    return (
      f"{subject} can't be written to {constants.HF_HUB_CACHE}: {error.strerror or _line(error)}. Make "
      "room there, or set HF_HOME to a folder that can be written."
    )
  return f"{subject}: the download broke off ({_line(error)}); run it again."


def _gated(name: str, subject: str) -> str:
  page = f"{_DEFAULT_ENDPOINT}/{name}"
  other = f" Without waiting: dinov2_vitb14 is not gated, {_NO_NETWORK}." if name.startswith("facebook/dinov3") else ""
  if _has_token():
    return (
      f"{subject} is gated, and the account of your token has no access yet: request it at {page}, and wait until it "
      f"is granted.{other}"
    )
  return (
    f"{subject} is gated, and there is no token: request access at {page}, then run hf auth login or set HF_TOKEN."
    f"{other}"
  )


def _offline(why: str, name: str, revision: str | None) -> str:
  return (
    f"{_subject(name, revision)} is not in the cache, and {_shown(_endpoint())} can't be reached ({why}): this machine "
    f"is offline, or a proxy is missing (https_proxy). Run it once online, or {_by_hand(name)}; {_NO_NETWORK}."
  )


def _by_hand(name: str) -> str:
  return f"download it elsewhere (hf download {name}) and give the folder by weights=PATH"


def _subject(name: str, revision: str | None) -> str:
  return f"{name}@{revision}" if revision else name


def _has_token() -> bool:
  try:
    return huggingface_hub.get_token() is not None
  except Exception:  # a token that can't be exchanged is none
    return False


def _endpoint() -> str:
  return (os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")


def _shown(address: str) -> str:
  """An address without the user and password that it may hold."""
  parts = urllib.parse.urlsplit(address)
  return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _is_on(value: str | None) -> bool:
  return (value or "").upper() in ("1", "ON", "YES", "TRUE")


def _line(error: Exception) -> str:
  """The first line of what an error says."""
  return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
