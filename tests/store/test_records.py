"""Arrays come back as they were, and bytes that are no record are refused."""

import contextlib
import errno
import os
import pathlib
import pickle
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import msgpack
import numpy as np
import pytest

from gasmcast.core.errors import DataError, WorkdirError
from gasmcast.core.manifest import hash_file
from gasmcast.store.records import DTYPES, OPEN_FILES, RecordFiles, decode, encode, write_records

OPEN = pathlib.Path("/proc/self/fd")
FULL = pathlib.Path("/dev/full")


def numbers(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
  return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(DTYPES[dtype])


def record_of(table: object, content: bytes = b"") -> bytes:
  packed = msgpack.packb(table)
  head = b"GCR1" + len(packed).to_bytes(4, "little") + packed
  return head + bytes(-len(head) % 16) + content


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 5), (2, 0, 5)])
def test_every_type_and_shape_comes_back(dtype, shape):
  array = numbers(dtype, shape)
  found = decode(encode({"x": array}))["x"]
  assert found.dtype == array.dtype and found.shape == array.shape
  assert found.tobytes() == array.tobytes()


def test_names_and_their_order_come_back():
  arrays = {"1/motion": np.float32([1.5]), "ä": np.int8([1, 2, 3]), "": np.uint8(7)}
  found = decode(encode(arrays))
  assert list(found) == ["1/motion", "ä", ""]
  assert found["ä"].tolist() == [1, 2, 3] and found[""] == 7 and found["1/motion"] == 1.5


def test_no_arrays_are_a_record_too():
  assert decode(encode({})) == {}


def test_the_layout_of_memory_and_of_bytes_does_not_matter():
  array = np.arange(6, dtype=np.int32).reshape(2, 3)
  expected = encode({"x": array})
  assert encode({"x": np.asfortranarray(array)}) == expected
  assert encode({"x": array.astype(">i4")}) == expected
  assert encode({"x": np.repeat(array, 2, 1)[:, ::2]}) == expected


def test_an_array_lies_in_the_record_where_it_is_read():
  record = encode({"a": np.int8([1, 2, 3]), "b": np.float32([4, 5])})
  found = decode(record)
  assert not found["b"].flags.writeable and not found["b"].flags.owndata
  assert found["b"].flags.aligned
  assert record.endswith(np.float32([4, 5]).tobytes())
  assert (len(record) - 8) % 16 == 0


@pytest.mark.parametrize(
  "array",
  [np.array([{}]), np.array(["a"]), np.array([b"a"]), np.zeros(1, "M8[s]"), np.zeros(1, complex), np.zeros(1, "i4,f4")],
  ids=["object", "text", "bytes", "date", "complex", "structured"],
)
def test_what_is_no_plain_number_is_refused(array):
  with pytest.raises(DataError, match=r"the array 'x' is of type .*; a record holds bool, int8, .*float64 only\."):
    encode({"x": array})


@pytest.mark.parametrize(
  ("record", "reason"),
  [
    (b"", r"0 bytes beginning with b'' are no record"),
    (b"GCR1\x00\x00", "6 bytes beginning with .* are no record"),
    (b"PK\x03\x04" + bytes(20), "24 bytes beginning with b'PK.* are no record"),
    (b"GCR1\xff\xff\xff\xff" + bytes(20), "are no record"),
    (b"GCR1\x01\x00\x00\x00\xc1", "the table of a record of 9 bytes can't be read"),
    (b"GCR1\x02\x00\x00\x00\x90\x90", "the table of a record of 10 bytes can't be read"),
    (record_of({}), "no list of name, type and shape"),
    (record_of([1]), "no list of name, type and shape"),
    (record_of([["x", "object", [1]]], bytes(8)), "no list of name, type and shape"),
    (record_of([["x", "int8", [-1]]], bytes(8)), "no list of name, type and shape"),
    (record_of([["x", "int8", [True]]], bytes(1)), "no list of name, type and shape"),
    (record_of([["x", "int8", [2**62, 0]]]), "no list of name, type and shape"),
    (record_of([["x", "int8", [1] * 33]], bytes(1)), "no list of name, type and shape"),
    (record_of([[b"x", "int8", [1]]], bytes(1)), "no list of name, type and shape"),
    (record_of([["x", ["int8"], [1]]], bytes(1)), "no list of name, type and shape"),
    (record_of([["x", "int8", [1]], ["x", "int8", [1]]], bytes(17)), "names an array twice"),
    (record_of([["x", "int8", [5]]], bytes(4)), r"ends inside the array 'x' of type int8 and shape \[5\]"),
    (record_of([["x", "int64", [2**30, 2**30, 2**30]]], bytes(4)), "ends inside the array 'x'"),
    (record_of([["x", "int8", [5]]], bytes(6)), "holds 1 beyond its arrays"),
  ],
)
def test_what_is_no_record_is_refused(record, reason):
  with pytest.raises(DataError, match=f"(?s){reason}.*; it is damaged or was not written by gasmcast; make it anew."):
    decode(record)


def test_a_damaged_record_raises_data_errors_alone():
  record = encode({"a": np.arange(5, dtype=np.float32), "b": np.ones((2, 3), ml_dtypes.bfloat16)})
  rng = random.Random(0)
  for _ in range(2000):
    damaged = bytearray(record)
    for _ in range(rng.randint(1, 3)):
      damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    with contextlib.suppress(DataError):
      decode(bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])]))


def write(path, count: int, start: int = 0) -> list[bytes]:
  records = [encode({"x": np.full(500, start + i, np.int32)}) for i in range(count)]
  assert write_records(path, iter(records)) == count
  return records


def test_equal_records_make_equal_files(tmp_path):
  for name in ("a", "b", "c"):
    write(tmp_path / name, 100)
  assert len({hash_file(tmp_path / name) for name in ("a", "b", "c")}) == 1
  write(tmp_path / "d", 100, 1)
  assert hash_file(tmp_path / "d") != hash_file(tmp_path / "a")


def test_the_bytes_of_a_file_are_these(tmp_path):
  """Another release of ArrayRecord that writes other bytes must not go unnoticed: shards are compared by hash."""
  write_records(tmp_path / "a", [encode({"x": np.arange(4, dtype=np.int8)})])
  assert hash_file(tmp_path / "a")[:16] == "9bffc8112c6386d7"


def test_records_are_read_at_random(tmp_path):
  records = [write(tmp_path / str(file), 7, 100 * file) for file in range(3)]
  files = RecordFiles([tmp_path / str(file) for file in range(3)], [7, 7, 7])
  for file, position in [(2, 6), (0, 0), (1, 3), (2, 0), (0, 6)]:
    assert files.read(file, position) == records[file][position]
  assert files.path(1) == tmp_path / "1"


def test_records_written_up_to_a_failure_leave_the_failure(tmp_path):
  def records():
    yield encode({})
    raise DataError("a clip can't be read")

  with pytest.raises(DataError, match="a clip can't be read"):
    write_records(tmp_path / "a", records())


def open_files() -> int:
  return len(list(OPEN.iterdir()))


@pytest.mark.skipif(not OPEN.is_dir(), reason="open files are counted in /proc")
@pytest.mark.parametrize("options", [{}, {"limit": 10}])
def test_few_of_many_files_are_open_at_a_time(tmp_path, options):
  write(tmp_path / "a", 2)
  files = RecordFiles([tmp_path / "a"] * 300, [2] * 300, **options)
  before = open_files()
  for turn in range(2):
    for file in range(300):
      files.read(file, turn)
      assert open_files() <= before + options.get("limit", OPEN_FILES)
  del files
  assert open_files() == before


def test_several_threads_read_the_same_as_one(tmp_path):
  records = [write(tmp_path / str(file), 20, 100 * file) for file in range(4)]
  files = RecordFiles([tmp_path / str(file) for file in range(4)], [20] * 4, limit=2)
  places = [(file, position) for file in range(4) for position in range(20)] * 10
  random.Random(0).shuffle(places)
  with ThreadPoolExecutor(8) as pool:
    assert list(pool.map(lambda place: files.read(*place), places)) == [records[f][p] for f, p in places]


def test_a_copy_by_pickle_opens_the_files_anew(tmp_path):
  records = write(tmp_path / "a", 2)
  files = RecordFiles([tmp_path / "a"], [2])
  files.read(0, 0)
  assert pickle.loads(pickle.dumps(files)).read(0, 1) == records[1]


def test_a_forked_process_does_not_wait_for_a_lock_of_a_thread_that_is_not_there(tmp_path, monkeypatch):
  records = write(tmp_path / "a", 1)
  files = RecordFiles([tmp_path / "a"], [1])
  files.read(0, 0)
  files._lock.acquire()
  monkeypatch.setattr(os, "getpid", lambda: -1)
  done = threading.Event()
  found = []
  threading.Thread(target=lambda: (found.append(files.read(0, 0)), done.set()), daemon=True).start()
  assert done.wait(10) and found == records


def test_a_missing_a_cut_and_a_strange_file_are_named(tmp_path):
  write(tmp_path / "whole", 50)
  content = (tmp_path / "whole").read_bytes()
  for name, bytes_ in {"empty": b"", "cut": content[:-5000], "half": content[:65536], "strange": b"x" * 70000}.items():
    (tmp_path / name).write_bytes(bytes_)
  with pytest.raises(DataError, match=r"^record 2 of .*missing can't be read \(No such file or directory\)\.$"):
    RecordFiles([tmp_path / "missing"], [50]).read(0, 2)
  for name in ("empty", "cut", "half", "strange"):
    files = RecordFiles([tmp_path / name], [50])
    with pytest.raises(DataError, match=rf"{name}( can't be read \(| holds \d+ readable records; 50 were written\.)"):
      for position in range(50):
        files.read(0, position)


def test_a_file_with_another_number_of_records_is_refused(tmp_path):
  write(tmp_path / "a", 3)
  with pytest.raises(DataError, match=r"a holds 3 readable records; 4 were written\."):
    RecordFiles([tmp_path / "a"], [4]).read(0, 0)


def test_a_position_beyond_the_file_is_an_error(tmp_path):
  write(tmp_path / "a", 3)
  with pytest.raises(DataError, match=r"record 3 of .*a can't be read \(.*3 out of bound 3.*\)"):
    RecordFiles([tmp_path / "a"], [3]).read(0, 3)


@pytest.mark.skipif(not FULL.exists(), reason="a device that is always full is needed")
def test_a_full_disk_is_an_error_of_the_system_whatever_array_record_makes_of_it():
  with pytest.raises(OSError, match=r"No space left on device: '/dev/full'") as error:
    write_records(FULL, [encode({"x": np.zeros(1 << 20)})])
  assert error.value.errno == errno.ENOSPC


def test_a_folder_that_is_not_there_is_told(tmp_path):
  with pytest.raises(WorkdirError, match=r"absent/a can't be written \(.*No such file.*\); give this user"):
    write_records(tmp_path / "absent" / "a", [])
