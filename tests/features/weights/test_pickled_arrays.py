"""Pickles of packages become arrays, and nothing in them is run."""

import os
import pathlib
import pickle

import numpy as np
import pytest
import safetensors.numpy

from gasmcast.core.errors import WeightsError
from gasmcast.features.backbones import BACKBONES
from gasmcast.features.weights.packages import installed_file
from gasmcast.features.weights.pickled_arrays import read_legacy_state_dict, read_nested_arrays
from tests.golden import make_legacy_state_dict

LEGACY = make_legacy_state_dict.FILE


class RunsCode:
  def __reduce__(self):
    return os.mkdir, ("was_run",)


class BuildsAnotherArray:
  def __reduce__(self):
    return np._core.multiarray._reconstruct, (np.matrix, (0,), b"b")


def write(path: pathlib.Path, content) -> pathlib.Path:
  path.write_bytes(pickle.dumps(content, protocol=4))
  return path


def test_nested_keys_are_joined(tmp_path):
  kernel, mean = np.arange(6, dtype=np.float32).reshape(2, 3), np.float64([1, 2])
  content = {"params": {"Mixed_3b/Branch_0": {"kernel": kernel}}, "batch_stats": {"mean": mean}}
  arrays = read_nested_arrays(write(tmp_path / "a.ckpt", content))
  assert list(arrays) == ["params|Mixed_3b/Branch_0|kernel", "batch_stats|mean"]
  np.testing.assert_array_equal(arrays["params|Mixed_3b/Branch_0|kernel"], kernel)
  assert arrays["batch_stats|mean"].dtype == np.float64


def test_names_of_numpy_1_are_understood(tmp_path):
  content = pickle.dumps({"a": np.ones(3)}, protocol=3)  # protocol 4 has lengths that would have to be mended
  assert b"numpy._core.multiarray" in content
  (tmp_path / "a.ckpt").write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
  np.testing.assert_array_equal(read_nested_arrays(tmp_path / "a.ckpt")["a"], np.ones(3))


@pytest.mark.reliability(17)
@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({"a": RunsCode()}, r"a.ckpt is refused: it asks for posix\.mkdir, which could run code\.$"),
    ({"a": BuildsAnotherArray()}, r"it asks for numpy\.matrix, which could run code\.$"),
    ([np.ones(2)], "holds a list, not a dict of arrays"),
    ({"a": {"b": "text"}}, r"a\|b is a str, not numbers"),
    ({"a": np.array([None, 1])}, "a is an array of object, not numbers"),
  ],
)
def test_anything_but_arrays_is_refused(tmp_path, monkeypatch, content, message, figure):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(WeightsError, match=message):
    read_nested_arrays(write(tmp_path / "a.ckpt", content))
  assert not (tmp_path / "was_run").exists()
  figure("pickles of anything but arrays: refused with what they ask for, nothing run")


def test_a_damaged_or_absent_pickle_is_told(tmp_path):
  path = write(tmp_path / "a.ckpt", {"a": np.ones(100)})
  path.write_bytes(path.read_bytes()[:-50])
  with pytest.raises(WeightsError, match=r"a\.ckpt is damaged \(UnpicklingError: .*\); get it again\.$"):
    read_nested_arrays(path)
  with pytest.raises(WeightsError, match="can't be read: No such file or directory"):
    read_nested_arrays(tmp_path / "none.ckpt")


def test_a_legacy_state_dict_is_read_without_torch():
  arrays = read_legacy_state_dict(LEGACY)
  assert list(arrays) == ["weight", "transposed", "tail", "count"]
  np.testing.assert_array_equal(arrays["weight"], [[0, 1, 2], [3, 4, 5]])
  np.testing.assert_array_equal(arrays["transposed"], [[0, 3], [1, 4], [2, 5]])
  np.testing.assert_array_equal(arrays["tail"], [4, 5])
  assert arrays["count"].shape == () and arrays["count"] == 7 and arrays["count"].dtype == np.int64
  assert arrays["weight"].dtype == np.float32 and arrays["transposed"].flags.c_contiguous


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda content: content[:-4], r"damaged \(ValueError: buffer is smaller than requested size\)"),
    (lambda content: content.replace(b"FloatStorage", b"HalfStorageX"), "it asks for torch.HalfStorageX, which could"),
    (lambda content: content.replace(b"OrderedDict", b"defaultdict"), "it asks for collections.defaultdict"),
    (lambda content: content[15:], "is refused: it is no file of PyTorch before 1.6"),
    (lambda content: b"", r"damaged \(EOFError"),
  ],
)
def test_a_damaged_or_foreign_legacy_file_is_told(tmp_path, change, message):
  path = tmp_path / "a.pth"
  path.write_bytes(change(LEGACY.read_bytes()))
  with pytest.raises(WeightsError, match=message):
    read_legacy_state_dict(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
  """The second of the tensors with 6 elements is made to have 7 rows."""
  content = LEGACY.read_bytes()
  shape = b"K\x03K\x02\x86"  # (3, 2) in the opcodes of pickle
  assert content.count(shape) == 1
  (tmp_path / "a.pth").write_bytes(content.replace(shape, b"K\x07K\x02\x86"))
  with pytest.raises(WeightsError, match=r"damaged \(ValueError: a tensor of the shape \(7, 2\) reaches beyond"):
    read_legacy_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize(
  ("name", "read", "copy"),
  [
    ("i3d_rgb", read_nested_arrays, "i3d_k400_rgb.safetensors"),
    ("efficientnet_lite0", read_legacy_state_dict, "efficientnet_lite0.safetensors"),
  ],
)
def test_the_published_packages_give_their_tensors(shared_data, name, read, copy):
  source = BACKBONES[name].source
  try:
    path = installed_file(source.distribution, source.file, source.blake3)
  except WeightsError as error:
    pytest.skip(str(error))
  arrays, expected = read(path), safetensors.numpy.load_file(shared_data / "weights" / copy)
  assert set(arrays) == set(expected)
  for key, value in expected.items():
    np.testing.assert_array_equal(arrays[key].reshape(value.shape), value, err_msg=key)
    assert arrays[key].dtype == value.dtype
