"""Receipts: what is written down of a finished shard, and how it is compared with what is there."""

import dataclasses
import json
import pathlib
from typing import Any

from gasmcast.core.config import to_dict
from gasmcast.core.errors import DataError
from gasmcast.core.manifest import hash_file, read_json


@dataclasses.dataclass(frozen=True)
class Receipt:
  """What is known of a finished shard.

  Attributes:
    shard: its number.
    items: first and last, half open.
    file: the file's name in the folder.
    bytes: its size.
    blake3: its hash.
    work: hash of what work.json holds.
    result: what its worker had to say.
  """

  shard: int
  items: tuple[int, int]
  file: str
  bytes: int
  blake3: str
  work: str
  result: Any


def encode(value: Any) -> bytes:
  """A receipt, or any value that JSON can hold, as the content of a file.

  Raises:
    TypeError: it holds what JSON can't.
  """
  return (json.dumps(to_dict(value), indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def read(path: pathlib.Path, shard: int, items: tuple[int, int], file: str, work: str) -> Receipt:
  """The receipt in a file, of just this shard of this work.

  Raises:
    DataError: it is damaged, or that of something else.
  """
  content = read_json(path)
  names = {field.name for field in dataclasses.fields(Receipt)}
  if not isinstance(content, dict) or set(content) != names or not isinstance(content["items"], list):
    raise DataError(f"{path} is no receipt: it needs the entries {', '.join(sorted(names))}.")
  receipt = Receipt(**{**content, "items": tuple(content["items"])})
  if (receipt.shard, receipt.items, receipt.file, receipt.work) != (shard, items, file, work):
    raise DataError(f"{path} is the receipt of another shard or of other work.")
  return receipt


def difference_from(receipt: Receipt, path: pathlib.Path, full: bool) -> str | None:
  """How the file differs from its receipt, as a sentence; None if it does not.

  Args:
    full: compares the hash too, which reads the file.
  """
  try:
    size = path.stat().st_size
    if size != receipt.bytes:
      return f"{path} has {size} bytes, {receipt.bytes} were written."
    if full and hash_file(path) != receipt.blake3:
      return f"{path} has another BLAKE3 than what was written."
  except FileNotFoundError:
    return f"{path} does not exist."
  except OSError as error:
    return f"{path} can't be read: {error.strerror}."
  return None
