"""Files that are either whole or absent, and the hashes that identify them.

A file is written beside its final name, flushed to the disk and renamed: a reader never sees half of it.
"""

import contextlib
import json
import os
import pathlib
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import blake3
import numpy as np

from gasmcast.core.errors import DataError


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """A binary file that appears under `path` when the block ends without an exception, and not at all otherwise.

  The temporary name is unique over threads, processes and machines, so that two writers of one path on a shared
  disk each write a whole file and the last one stays.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
  try:
    with open(temporary, "wb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes `value` as indented JSON, atomically."""
  with atomic_file(path) as file:
    file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))


def read_json(path: str | os.PathLike) -> Any:
  """Reads JSON (a byte-order mark is tolerated).

  Raises:
    DataError: the file is absent, can't be read or is not JSON; the message names file and place.
  """
  try:
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8-sig"))
  except FileNotFoundError as error:
    raise DataError(f"{path} does not exist.") from error
  except OSError as error:
    raise DataError(f"{path} can't be read: {error.strerror}.") from error
  except (ValueError, RecursionError) as error:  # not UTF-8, no JSON, numbers too long, nesting too deep
    raise DataError(f"{path} is not valid JSON: {error}.") from error


def hash_bytes(*parts: bytes | memoryview) -> str:
  """BLAKE3 of the parts one after the other, as 64 hexadecimal digits."""
  digest = blake3.blake3()
  for part in parts:
    digest.update(part)
  return digest.hexdigest()


def hash_file(path: str | os.PathLike) -> str:
  """BLAKE3 of a file's content, read in blocks."""
  digest = blake3.blake3()
  with open(path, "rb") as file:
    while block := file.read(1 << 20):
      digest.update(block)
  return digest.hexdigest()


def hash_arrays(arrays: Iterable[tuple[str, np.ndarray]]) -> str:
  """BLAKE3 of named arrays in this order: equal hashes mean equal names, types, shapes and bits."""
  hashes = []
  for name, array in arrays:
    content = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    hashes.append(hash_bytes(f"{name} {array.dtype} {array.shape}".encode(), content).encode())
  return hash_bytes(*hashes)


def hash_json(value: Any) -> str:
  """BLAKE3 of a JSON-able value in canonical form: equal values hash equally, whatever the order of their keys."""
  return hash_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii"))
