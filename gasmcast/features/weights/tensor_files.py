"""safetensors files: read one tensor at a time, so that gigabytes are never in memory twice, and written whole."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors

from gasmcast.core.errors import DataError, WeightsError
from gasmcast.core.manifest import atomic_file, hash_arrays, read_json

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"  # of a folder
_CODES = {  # the floating types that weights have, and the integers and masks that stand beside them
  **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"},
  **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "bool": "BOOL"},
  **{"uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8"},
}
_TYPES = {code: name for name, code in _CODES.items()}
_CONTENT = "blake3"  # key of the metadata under which `write_tensors` keeps the hash of what it wrote


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTensor:
  """A tensor of a file; np.asarray reads it.

  Attributes:
    name: in the file.
    shape: as stored.
    dtype: the name of a NumPy type, or the code of the file for a type that NumPy does not have.
    file: an open safetensors file.
  """

  name: str
  shape: tuple[int, ...]
  dtype: str
  file: Any = dataclasses.field(repr=False)

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    array = self.file.get_tensor(self.name)
    return array if dtype is None else array.astype(dtype, copy=False)


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, StoredTensor], dict[str, str]]:
  """(tensors by name, metadata) of a safetensors file. The header alone is read.

  Raises:
    WeightsError: the file is absent, can't be read, is cut short or is no safetensors file.
  """
  path = pathlib.Path(path)
  try:
    size = path.stat().st_size
    with open(path, "rb"):
      pass  # the operating system's own words for what forbids it
    file = safetensors.safe_open(path, framework="numpy")
    tensors = {}
    for name in file.keys():  # noqa: SIM118 (it is no mapping)
      stored = file.get_slice(name)
      code = stored.get_dtype()
      tensors[name] = StoredTensor(name, tuple(stored.get_shape()), _TYPES.get(code, code), file)
    return tensors, file.metadata() or {}
  except FileNotFoundError as error:
    raise WeightsError(f"{path} does not exist.") from error
  except OSError as error:
    raise WeightsError(f"{path} can't be read: {error.strerror or error}.") from error
  except safetensors.SafetensorError as error:
    words = str(error).removeprefix("Error while deserializing header: ")
    raise WeightsError(
      f"{path} ({size:,} bytes) is cut short, damaged, or no safetensors file ({words}); get it again."
    ) from error


def read_folder(folder: pathlib.Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
  """(tensors, metadata) of model.safetensors in a folder, or of the shards that its index names.

  Raises:
    WeightsError: there is neither, or they can't be read or do not hold what the index says.
  """
  if (folder / WEIGHTS).exists():
    return read_tensors(folder / WEIGHTS)
  if not (folder / INDEX).exists():
    raise WeightsError(_no_weights(folder))
  tensors: dict[str, StoredTensor] = {}
  for file in shards(folder / INDEX):
    found, _ = read_tensors(folder / file)
    if twice := sorted(set(found) & set(tensors)):
      raise WeightsError(f"{folder}: {twice[0]} is in {file} and in another shard; get the folder again.")
    tensors.update(found)
  promised = set(read_object(folder / INDEX)["weight_map"])
  if differing := sorted(promised ^ set(tensors)):
    where = "the index alone" if differing[0] in promised else "a shard alone"
    raise WeightsError(
      f"{folder}: {INDEX} and its shards do not name the same tensors ({len(promised)} and {len(tensors)}); "
      f"{differing[0]} is in {where}. Get the folder again."
    )
  return tensors, {}


def shards(index: pathlib.Path) -> list[str]:
  """The files that an index names, each once.

  Raises:
    WeightsError: it is no index, or names a file outside of its folder.
  """
  names = read_object(index).get("weight_map")
  if not isinstance(names, dict) or not names or not all(isinstance(file, str) for file in names.values()):
    raise WeightsError(f'{index} has no "weight_map" from tensors to files; get it again.')
  files = sorted(set(names.values()))
  if other := [file for file in files if pathlib.PurePath(file).name != file or not file.endswith(".safetensors")]:
    raise WeightsError(f"{index} names {other[0]!r}, which is no safetensors file beside it; get it again.")
  return files


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """A JSON file that holds an object, such as config.json.

  Raises:
    WeightsError: it is absent, can't be read, or is something else.
  """
  try:
    value = read_json(path)
  except DataError as error:
    raise WeightsError(f"{error} Get it again.") from error
  if not isinstance(value, dict):
    raise WeightsError(f"{path} holds a {type(value).__name__}, not an object with named values; get it again.")
  return value


def _no_weights(folder: pathlib.Path) -> str:
  held = sorted(entry.name for entry in folder.iterdir())
  shown = f"{', '.join(held[:4])}{f' and {len(held) - 4} more' if len(held) > 4 else ''}" if held else "nothing"
  files = [name for name in held if name.endswith((".safetensors", ".pth", ".pt", ".bin"))]
  remedy = f"name its file, {folder / files[0]}" if len(files) == 1 else "name a file, or another folder"
  return f"{folder} holds neither {WEIGHTS} nor {INDEX}, but {shown}; {remedy}."


def write_tensors(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
  """Writes a safetensors file atomically, with a hash of its content that `is_intact` compares.

  Raises:
    TypeError: a tensor of a type that `_CODES` does not hold.
    OSError: the file can't be written.
  """
  arrays = {name: _in_file_order(tensors[name]) for name in sorted(tensors)}
  header: dict[str, Any] = {"__metadata__": {**metadata, _CONTENT: hash_arrays(arrays.items())}}
  order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # keeps every tensor aligned to its type
  end = 0
  for name in order:
    if arrays[name].dtype.name not in _CODES:
      raise TypeError(f"{name} is {arrays[name].dtype}, which a safetensors file does not hold.")
    start, end = end, end + arrays[name].nbytes
    header[name] = {
      "dtype": _CODES[arrays[name].dtype.name],
      "shape": list(arrays[name].shape),
      "data_offsets": [start, end],
    }
  text = json.dumps(header, separators=(",", ":")).encode("utf-8")
  text += b" " * (-len(text) % 8)
  with atomic_file(path) as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
      file.write(memoryview(arrays[name].reshape(-1).view(np.uint8)))


def is_intact(path: str | os.PathLike) -> bool:
  """Whether a file of `write_tensors` is there and holds what was written."""
  try:
    tensors, metadata = read_tensors(path)
    return metadata.get(_CONTENT) == hash_arrays((name, np.asarray(tensors[name])) for name in sorted(tensors))
  except (WeightsError, AttributeError):  # a damaged header can name a type that NumPy does not have
    return False


def _in_file_order(tensor: np.ndarray) -> np.ndarray:
  """Contiguous, little-endian; a 0-d array stays one."""
  array = np.asarray(tensor)
  return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
