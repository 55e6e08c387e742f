"""Named arrays as bytes, and many of those in one file with random access.

A record is a head, the names, types and shapes in msgpack, and then the arrays' own bytes, each from a multiple of 16
on, so that they are read where they lie. It holds numbers only: nothing in it can run.

Files are ArrayRecord with one record a group, neither compressed nor written by several threads: equal records make
equal bytes, and a read costs the disk and one checksum. (Compression would make bfloat16 features about a sixth and
int8 ones up to a third smaller, and reading four times as slow.) ArrayRecord keeps a hash of every record and raises
where one doesn't agree.
"""

import collections
import errno
import math
import os
import pathlib
import struct
import threading
from collections.abc import Iterable, Mapping

import ml_dtypes
import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from gasmcast.core.errors import DataError, WorkdirError

WRITER_OPTIONS = "group_size:1,uncompressed,max_parallelism:1"
DTYPES = {
  name: np.dtype(getattr(ml_dtypes, name, name))
  for name in (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bfloat16", "float16", "float32", "float64"),
  )
}
OPEN_FILES = 256  # opening a file takes ten times as long as reading a small record; 1024 is what many systems allow

_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0,footer_prefetch_bytes:64k"  # for random access
_READER_BUFFER = 1 << 15  # bytes; a larger one is filled for every small record
_ALIGNMENT = 16
_HEAD = struct.Struct("<4sI")  # what it is, bytes of the table
_MAGIC = b"GCR1"
_REMEDY = "it is damaged or was not written by gasmcast; make it anew."


def encode(arrays: Mapping[str, np.ndarray]) -> bytes:
  """The arrays as one record; the same arrays in the same order give the same bytes.

  Raises:
    DataError: an array is not of a plain type of numbers (`DTYPES`).
  """
  table, contents = [], []
  for name, array in arrays.items():
    array = np.asarray(array)
    if array.dtype.name not in DTYPES:
      raise DataError(f"the array {name!r} is of type {array.dtype}; a record holds {', '.join(DTYPES)} only.")
    stored = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    table.append([name, array.dtype.name, list(array.shape)])
    contents.append(stored)
  packed = msgpack.packb(table)
  parts = [_HEAD.pack(_MAGIC, len(packed)), packed]
  length = _HEAD.size + len(packed)
  for content in contents:
    parts.append(bytes(_padding(length)))
    parts.append(content.reshape(-1).view(np.uint8).data if content.size else b"")
    length += _padding(length) + content.nbytes
  return b"".join(parts)


def decode(record: bytes) -> dict[str, np.ndarray]:
  """The arrays of a record: views of its bytes, which can't be written to.

  Raises:
    DataError: the bytes are no record.
  """
  table, position = _table(record)
  arrays = {}
  for name, dtype, shape in table:
    count = math.prod(shape)
    position += _padding(position)
    if position + count * DTYPES[dtype].itemsize > len(record):
      raise DataError(
        f"a record of {len(record)} bytes ends inside the array {name!r} of type {dtype} and shape {shape}; {_REMEDY}"
      )
    arrays[name] = np.frombuffer(record, DTYPES[dtype], count, position if count else 0).reshape(shape)
    position += arrays[name].nbytes
  if position != len(record):
    raise DataError(f"a record of {len(record)} bytes holds {len(record) - position} beyond its arrays; {_REMEDY}")
  return arrays


def _padding(length: int) -> int:
  return -length % _ALIGNMENT


def _table(record: bytes) -> tuple[list[tuple[str, str, list[int]]], int]:
  """[(name, type, shape)] and the position behind it."""
  magic, length = _HEAD.unpack_from(record) if len(record) >= _HEAD.size else (b"", 0)
  if magic != _MAGIC or _HEAD.size + length > len(record):
    raise DataError(f"{len(record)} bytes beginning with {bytes(record[:8])!r} are no record of arrays; {_REMEDY}")
  end = _HEAD.size + length
  try:
    table = msgpack.unpackb(record[_HEAD.size : end])
  except (ValueError, msgpack.UnpackException, RecursionError) as error:
    raise DataError(f"the table of a record of {len(record)} bytes can't be read ({error}); {_REMEDY}") from error
  if not isinstance(table, list) or not all(map(_is_entry, table)):
    raise DataError(f"the table of a record is no list of name, type and shape; {_REMEDY}")
  if len({name for name, _, _ in table}) != len(table):
    raise DataError(f"the table of a record names an array twice; {_REMEDY}")
  return table, end


def _is_entry(entry: object) -> bool:
  if not isinstance(entry, list) or len(entry) != 3:
    return False
  name, dtype, shape = entry
  if not isinstance(name, str) or not isinstance(dtype, str) or dtype not in DTYPES or not isinstance(shape, list):
    return False
  # without an upper bound of a side, [2**62, 0] would be an array of nothing that numpy can't make
  return len(shape) <= 32 and all(type(side) is int and 0 <= side < 2**31 for side in shape)


def write_records(path: str | os.PathLike, records: Iterable[bytes]) -> int:
  """Writes the records, in their order, into an ArrayRecord file and returns their number.

  The file is written where `path` says, neither atomically nor flushed to the disk: that is for `core.shards`.

  Raises:
    OSError: the disk is full; leaving a claim with it tells how much room the whole work needs.
    WorkdirError: the file can't be written for another reason.
  """
  count = 0
  try:
    writer = ArrayRecordWriter(os.fspath(path), WRITER_OPTIONS)
  except (RuntimeError, OSError) as error:
    raise _cannot_write(path, error) from error
  try:
    for record in records:
      try:
        writer.write(record)
      except RuntimeError as error:
        raise _cannot_write(path, error) from error
      count += 1
  except BaseException:
    _close_quietly(writer)
    raise
  try:
    writer.close()
  except RuntimeError as error:
    raise _cannot_write(path, error) from error
  return count


def _cannot_write(path: str | os.PathLike, error: Exception) -> Exception:
  if os.strerror(errno.ENOSPC) in str(error):
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
  return WorkdirError(
    f"{path} can't be written ({_reason(error)}); give this user the right to write there, or use another folder."
  )


def _reason(error: Exception) -> str:
  """What ArrayRecord has to say, without what it adds about its own parts."""
  text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
  return " ".join(text.split(";")[0].split()).rstrip(".")


def _close_quietly(writer: ArrayRecordWriter) -> None:
  """The reason why writing ends is on its way already; that the file can't be closed either adds nothing."""
  try:
    writer.close()
  except RuntimeError:
    return


class RecordFiles:
  """Records of many ArrayRecord files by number of the file and of the record in it.

  A file is opened when it is first read, in each process anew, and at most `limit` are open at a time, the longest
  unused being closed first. Safe in several threads; can be pickled.
  """

  def __init__(self, paths: Iterable[str | os.PathLike], counts: Iterable[int], limit: int = OPEN_FILES):
    """`counts`: the records that each file must hold."""
    self._paths = tuple(os.fspath(path) for path in paths)
    self._counts = tuple(counts)
    self._limit = limit
    self._forget()

  def _forget(self) -> None:
    self._lock = threading.Lock()
    self._process = os.getpid()
    self._open: collections.OrderedDict[int, ArrayRecordReader] = collections.OrderedDict()

  def __getstate__(self) -> dict[str, object]:
    return {"_paths": self._paths, "_counts": self._counts, "_limit": self._limit}

  def __setstate__(self, state: dict[str, object]) -> None:
    self.__dict__.update(state)
    self._forget()

  def path(self, file: int) -> pathlib.Path:
    """Of the file with this number."""
    return pathlib.Path(self._paths[file])

  def read(self, file: int, position: int) -> bytes:
    """The record with this position in the file with this number.

    Raises:
      DataError: the file is missing, or it or the record is damaged.
    """
    try:
      return self._reader(file).read([position])[0]
    except (RuntimeError, OSError) as error:
      raise DataError(f"record {position} of {self._paths[file]} can't be read ({_reason(error)}).") from error

  def _reader(self, file: int) -> ArrayRecordReader:
    if self._process != os.getpid():  # after a fork the lock may be held by a thread that isn't here
      self._forget()
    with self._lock:
      reader = self._open.get(file)
      if reader is None:
        reader = self._open[file] = self._opened(file)
        if len(self._open) > self._limit:
          # Not closed here, for another thread may be reading from it: its last user drops it, and that closes it.
          self._open.popitem(last=False)
      else:
        self._open.move_to_end(file)
      return reader

  def _opened(self, file: int) -> ArrayRecordReader:
    self.path(file).stat()  # raises: of a file that is missing ArrayRecord says that it holds nothing
    reader = ArrayRecordReader(self._paths[file], _READER_OPTIONS, file_reader_buffer_size=_READER_BUFFER)
    if reader.num_records() != self._counts[file]:
      raise DataError(
        f"{self._paths[file]} holds {reader.num_records()} readable records; {self._counts[file]} were written."
      )
    return reader
