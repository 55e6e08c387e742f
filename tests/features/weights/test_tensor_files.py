"""safetensors files and folders of them: read lazily, written whole, and every damage told in words."""

import json
import pathlib

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from gasmcast.core.errors import WeightsError
from gasmcast.features.weights.tensor_files import (
  is_intact,
  read_folder,
  read_object,
  read_tensors,
  shards,
  write_tensors,
)

TENSORS = {
  "b/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
  "a": np.float64([1.5]),
  "count": np.array(7),
  "half": np.float16([1, 2, 3]),
  "brain": np.array([1, 2], ml_dtypes.bfloat16),
  "mask": np.array([True, False, True]),
  "none": np.zeros((0, 3), np.float32),
  "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
}


@pytest.fixture
def file(tmp_path) -> pathlib.Path:
  write_tensors(tmp_path / "t.safetensors", TENSORS, {"name": "made up"})
  return tmp_path / "t.safetensors"


def test_what_is_written_is_a_safetensors_file(file):
  read = safetensors.numpy.load_file(file)
  assert set(read) == set(TENSORS)
  for name, tensor in TENSORS.items():
    np.testing.assert_array_equal(read[name], tensor, strict=True)
  with safetensors.safe_open(file, framework="numpy") as opened:
    assert opened.metadata()["name"] == "made up"


def test_names_shapes_and_types_are_known_before_anything_is_read(file):
  tensors, metadata = read_tensors(file)
  assert metadata["name"] == "made up"
  assert {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()} == {
    name: (tensor.shape, tensor.dtype.name) for name, tensor in TENSORS.items()
  }
  for name, tensor in tensors.items():
    np.testing.assert_array_equal(np.asarray(tensor), TENSORS[name], strict=True)
  assert np.asarray(tensors["half"], np.float64).dtype == np.float64
  assert len(repr(tensors["b/kernel"])) < 100


def test_a_type_without_a_safetensors_name_is_a_defect(tmp_path):
  with pytest.raises(TypeError, match="a is complex64, which a safetensors file does not hold"):
    write_tensors(tmp_path / "t.safetensors", {"a": np.zeros(2, np.complex64)}, {})
  assert list(tmp_path.iterdir()) == []


def test_a_file_is_intact_until_a_byte_changes(file):
  assert is_intact(file)
  content = bytearray(file.read_bytes())
  content[-3] ^= 1
  file.write_bytes(content)
  assert not is_intact(file)
  file.write_bytes(content[:-3])
  assert not is_intact(file)
  safetensors.numpy.save_file({"a": np.ones(2)}, file)  # whole, but nobody's hash vouches for it
  assert not is_intact(file)
  assert not is_intact(file.with_name("absent"))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      lambda content: content[:-1],
      r"\(\d[\d,]* bytes\) is cut short, damaged, or no safetensors file \(incomplete metad",
    ),
    (lambda content: content[:50], "invalid header length"),
    (lambda content: b"<!DOCTYPE html><html>Sign in</html>", r"no safetensors file \(header too large\)"),
    (lambda content: b"", r"\(0 bytes\) is cut short"),
  ],
)
def test_a_damaged_file_is_told_in_one_line(file, change, message):
  file.write_bytes(change(file.read_bytes()))
  with pytest.raises(WeightsError, match=message) as caught:
    read_tensors(file)
  assert (
    str(file) in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).endswith("get it again.")
  )


def test_an_absent_or_forbidden_file_is_told(file, monkeypatch):
  with pytest.raises(WeightsError, match=r"absent\.safetensors does not exist\.$"):
    read_tensors(file.with_name("absent.safetensors"))

  def refuse(*arguments, **options):
    raise PermissionError(13, "Permission denied", str(file))

  monkeypatch.setattr("builtins.open", refuse)  # root may read whatever its mode is
  with pytest.raises(WeightsError, match=r"t\.safetensors can't be read: Permission denied\.$"):
    read_tensors(file)


def sharded(folder: pathlib.Path, index: object = None) -> pathlib.Path:
  """Two shards of `TENSORS` and their index."""
  names = sorted(TENSORS)
  files = {name: f"model-{1 + (name > 'c')}.safetensors" for name in names}
  for file in set(files.values()):
    safetensors.numpy.save_file(
      {name: np.array(TENSORS[name], order="C") for name in names if files[name] == file}, folder / file
    )
  content = {"weight_map": files} if index is None else index
  (folder / "model.safetensors.index.json").write_text(json.dumps(content))
  return folder


def test_shards_are_one_set_of_tensors(tmp_path):
  tensors, _ = read_folder(sharded(tmp_path))
  assert shards(tmp_path / "model.safetensors.index.json") == ["model-1.safetensors", "model-2.safetensors"]
  assert set(tensors) == set(TENSORS)
  for name, tensor in TENSORS.items():
    np.testing.assert_array_equal(np.asarray(tensors[name]), tensor)


def test_one_file_goes_before_shards(tmp_path):
  sharded(tmp_path)
  write_tensors(tmp_path / "model.safetensors", {"only": np.ones(2)}, {})
  assert list(read_folder(tmp_path)[0]) == ["only"]


@pytest.mark.parametrize(
  ("index", "message"),
  [
    ({}, 'has no "weight_map" from tensors to files'),
    ({"weight_map": {}}, 'has no "weight_map"'),
    ({"weight_map": {"a": 1}}, 'has no "weight_map"'),
    ([], "holds a list, not an object with named values"),
    (
      {"weight_map": {"a": "../other.safetensors"}},
      r"names '\.\./other\.safetensors', which is no safetensors file besid",
    ),
    ({"weight_map": {"a": "model.bin"}}, "names 'model.bin', which is no safetensors file beside it"),
    ({"weight_map": {"a": "model-3.safetensors"}}, r"model-3\.safetensors does not exist"),
    (
      {"weight_map": {"a": "model-1.safetensors"}},
      r"its shards do not name the same tensors \(1 and 3\); b/kernel is in a shard alone\. Get the folder again",
    ),
    (
      {"weight_map": dict.fromkeys(("a", "b/kernel", "lost"), "model-1.safetensors")},
      r"\(3 and 3\); brain is in a shard alone",
    ),
  ],
)
def test_a_wrong_index_is_told(tmp_path, index, message):
  with pytest.raises(WeightsError, match=message):
    read_folder(sharded(tmp_path, index))


def test_a_tensor_in_two_shards_is_told(tmp_path):
  sharded(tmp_path)
  (tmp_path / "model-2.safetensors").write_bytes((tmp_path / "model-1.safetensors").read_bytes())
  with pytest.raises(WeightsError, match=r"a is in model-2\.safetensors and in another shard"):
    read_folder(tmp_path)


def test_a_folder_without_weights_says_what_it_holds(tmp_path):
  message = "holds neither model.safetensors nor model.safetensors.index.json, but"
  with pytest.raises(WeightsError, match=f"{message} nothing; name a file, or another folder"):
    read_folder(tmp_path)
  for name in ("pytorch_model.bin", "config.json"):
    (tmp_path / name).touch()
  with pytest.raises(
    WeightsError, match=f"{message} config.json, pytorch_model.bin; name its file, .*pytorch_model.bin"
  ):
    read_folder(tmp_path)
  for i in range(4):
    (tmp_path / f"{i}.pth").touch()
  with pytest.raises(WeightsError, match=f"{message} 0.pth, 1.pth, 2.pth, 3.pth and 2 more; name a file"):
    read_folder(tmp_path)


@pytest.mark.parametrize(
  ("content", "message"),
  [("{", "is not valid JSON"), ("[1]", "holds a list, not an object"), (None, "does not exist. Get it again")],
)
def test_a_malformed_config_is_told(tmp_path, content, message):
  if content is not None:
    (tmp_path / "config.json").write_text(content)
  with pytest.raises(WeightsError, match=message):
    read_object(tmp_path / "config.json")
