"""Files are whole or absent, and hashes identify content and nothing else."""

import json
import math

import pytest

from gasmcast.core.errors import DataError
from gasmcast.core.manifest import atomic_file, hash_bytes, hash_file, hash_json, read_json, write_json

HASH_OF_NOTHING = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
HASH_OF_ABC = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"


def test_a_file_appears_when_the_block_ends_with_its_folders(tmp_path):
  path = tmp_path / "a" / "b" / "file.bin"
  with atomic_file(path) as file:
    file.write(b"half")
    file.flush()
    assert not path.exists()
  assert path.read_bytes() == b"half"
  assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_block_leaves_the_old_file_and_no_traces(tmp_path, failure):
  path = tmp_path / "file.bin"
  path.write_bytes(b"old")
  with pytest.raises(type(failure)), atomic_file(path) as file:
    file.write(b"new")
    raise failure
  assert path.read_bytes() == b"old"
  assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_path_do_not_mix(tmp_path):
  path = tmp_path / "file.bin"
  with atomic_file(path) as outer:
    outer.write(b"outer")
    with atomic_file(path) as inner:
      inner.write(b"in")
    assert path.read_bytes() == b"in"
  assert path.read_bytes() == b"outer"


def test_json_comes_back_equal_and_readable(tmp_path):
  value = {"top1": 0.725, "classes": ["öffnen", "schließen"], "none": None, "nested": {"steps": 300}}
  path = tmp_path / "metrics.json"
  write_json(path, value)
  assert read_json(path) == value
  assert "öffnen" in path.read_text(encoding="utf-8")
  assert path.read_bytes().endswith(b"}\n")


def test_what_is_no_json_is_not_written(tmp_path):
  path = tmp_path / "metrics.json"
  with pytest.raises(TypeError, match="set is not JSON serializable"):
    write_json(path, {"classes": {1, 2}})
  assert list(tmp_path.iterdir()) == []


def test_a_byte_order_mark_is_tolerated(tmp_path):
  path = tmp_path / "labels.json"
  path.write_bytes(b"\xef\xbb\xbf[1, 2]")
  assert read_json(path) == [1, 2]


def test_an_absent_file_and_a_folder_are_named(tmp_path):
  with pytest.raises(DataError, match=r"labels\.json does not exist\."):
    read_json(tmp_path / "labels.json")
  with pytest.raises(DataError, match=r"can't be read: Is a directory\."):
    read_json(tmp_path)


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b'{"a": 1', "Expecting ',' delimiter: line 1 column 8"),
    (b"", "Expecting value: line 1 column 1"),
    (b'{"a": "\xff"}', "can't decode byte 0xff in position 7"),
    (b"1" * 5000, "4300"),
    (b"[" * 100_000, "maximum recursion depth"),
  ],
  ids=["cut", "empty", "not UTF-8", "long number", "deep"],
)
def test_damaged_json_is_a_data_error_that_names_the_file(tmp_path, content, reason):
  path = tmp_path / "labels.json"
  path.write_bytes(content)
  with pytest.raises(DataError) as error:
    read_json(path)
  assert str(error.value).startswith(f"{path} is not valid JSON: ")
  assert reason in str(error.value)


def test_hashes_are_the_published_ones_of_blake3(tmp_path):
  assert hash_bytes() == HASH_OF_NOTHING
  assert hash_bytes(b"abc") == HASH_OF_ABC


def test_parts_hash_like_their_concatenation():
  assert hash_bytes(b"a", memoryview(b"bc")) == HASH_OF_ABC


def test_a_file_hashes_like_its_bytes_over_block_borders(tmp_path):
  content = bytes(range(256)) * 4097  # one block of 1 MiB and 256 bytes
  path = tmp_path / "weights.bin"
  path.write_bytes(content)
  assert hash_file(path) == hash_bytes(content)


def test_the_hash_of_a_value_ignores_the_order_of_keys_and_nothing_else():
  value = {"seed": 7, "mix": [0.5, 0.25], "name": "ä"}
  assert hash_json(value) == hash_json(dict(reversed(value.items())))
  assert hash_json(value) == hash_bytes(b'{"mix":[0.5,0.25],"name":"\\u00e4","seed":7}')
  assert hash_json(value) != hash_json(value | {"mix": [0.25, 0.5]})
  assert hash_json((1, 2)) == hash_json([1, 2])


def test_floats_survive_json_to_the_last_bit(tmp_path):
  path = tmp_path / "numbers.json"
  numbers = [0.1, 1 / 3, math.pi, 5e-324, 1.7976931348623157e308]
  write_json(path, numbers)
  assert read_json(path) == numbers
  assert json.loads(path.read_text()) == numbers
