"""PyTorch files become safetensors in the cache once; what could run code is refused."""

import collections
import os
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest
import safetensors.numpy

from gasmcast.core.errors import WeightsError
from gasmcast.core.manifest import hash_file
from gasmcast.features.weights import pytorch_files
from gasmcast.features.weights.pytorch_files import as_safetensors, is_pytorch, require_torch
from gasmcast.features.weights.tensor_files import write_tensors
from tests.golden import make_legacy_state_dict

LEGACY = make_legacy_state_dict.FILE


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> pathlib.Path:
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  return tmp_path / "cache" / "gasmcast" / "weights"


@pytest.fixture
def without_torch(monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails as if it were not installed


def test_files_of_torch_are_known_by_how_they_begin():
  assert is_pytorch(LEGACY.read_bytes()[:64])
  assert is_pytorch(b"PK\x03\x04 and so on")
  assert not is_pytorch(b"\x80\x04\x95 another pickle")
  assert not is_pytorch(b"\x10\0\0\0\0\0\0\0{}")


def test_without_torch_the_remedy_is_named(without_torch):
  with pytest.raises(WeightsError) as caught:
    as_safetensors(LEGACY)
  assert str(caught.value) == (
    f"{LEGACY} is a PyTorch file; reading it the first time takes PyTorch, which is not installed: "
    'pip install "gasmcast[torch]", once: its conversion is kept and read without PyTorch from then on.'
  )


def test_a_conversion_in_the_cache_needs_no_torch(without_torch, cache):
  kept = cache / f"{hash_file(LEGACY)}.safetensors"
  write_tensors(kept, {"weight": np.ones(2)}, {})
  assert as_safetensors(LEGACY) == kept


def test_a_damaged_conversion_is_not_used(without_torch, cache):
  kept = cache / f"{hash_file(LEGACY)}.safetensors"
  write_tensors(kept, {"weight": np.ones(2)}, {})
  kept.write_bytes(kept.read_bytes()[:-1] + b"\x01")
  with pytest.raises(WeightsError, match="which is not installed"):
    as_safetensors(LEGACY)


def test_an_old_torch_is_refused(monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__="2.5.1+cpu"))
  with pytest.raises(WeightsError, match=r"2\.5\.1\+cpu is installed, whose weights-only reading .*CVE-2025-32434"):
    require_torch("a.pth")


def test_a_broken_torch_says_why(tmp_path, monkeypatch):
  (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.delitem(sys.modules, "torch", raising=False)
  with pytest.raises(WeightsError, match=r"which can't be imported \(libcudart\.so\.12: cannot open"):
    require_torch("a.pth")


def test_a_file_that_is_gone_is_told(tmp_path):
  with pytest.raises(WeightsError, match="can't be read: No such file or directory"):
    as_safetensors(tmp_path / "a.pth")


@pytest.fixture
def torch():
  return pytest.importorskip("torch")


@pytest.mark.torch
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
  "wrap", [lambda d: d, lambda d: {"epoch": 3, "state_dict": d}, lambda d: {"model": {"teacher": d}}]
)
def test_a_state_dict_is_converted_wherever_it_lies(torch, tmp_path, legacy, wrap):
  tensors = {
    "module.weight": torch.arange(6.0).reshape(2, 3).T,
    "module.half": torch.tensor([1.5]).half(),
    "module.brain": torch.tensor([1.5]).bfloat16(),
    "module.bn.num_batches_tracked": torch.tensor(7),
    "bias": torch.nn.Parameter(torch.ones(2)),
  }
  path = tmp_path / "a.pth"
  torch.save(wrap(collections.OrderedDict(tensors)), path, _use_new_zipfile_serialization=not legacy)
  read = safetensors.numpy.load_file(as_safetensors(path))
  assert set(read) == {"weight", "half", "brain", "bn.num_batches_tracked", "bias"}
  np.testing.assert_array_equal(read["weight"], [[0, 3], [1, 4], [2, 5]])
  assert {name: str(array.dtype) for name, array in read.items()} == {
    "weight": "float32",
    "half": "float16",
    "brain": "float32",
    "bn.num_batches_tracked": "int64",
    "bias": "float32",
  }
  assert read["bn.num_batches_tracked"].shape == ()


@pytest.mark.torch
def test_torch_is_needed_once_and_damage_is_mended(torch, tmp_path, cache, monkeypatch):
  shutil.copy(LEGACY, tmp_path / "a.pth")
  kept = as_safetensors(tmp_path / "a.pth")
  content = kept.read_bytes()
  assert [file.name for file in cache.iterdir()] == [f"{hash_file(LEGACY)}.safetensors"]
  kept.write_bytes(content[:-1] + b"\x01")
  assert as_safetensors(tmp_path / "a.pth") == kept and kept.read_bytes() == content
  monkeypatch.setitem(sys.modules, "torch", None)
  assert as_safetensors(LEGACY) == kept  # another path, the same content
  np.testing.assert_array_equal(safetensors.numpy.load_file(kept)["tail"], [4, 5])


class RunsCode:
  def __reduce__(self):
    return os.mkdir, ("was_run",)


@pytest.mark.torch
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_could_run_code_is_refused(torch, tmp_path, monkeypatch, legacy):
  monkeypatch.chdir(tmp_path)
  torch.save({"a": RunsCode()}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
  with pytest.raises(
    WeightsError, match=r"refused: .* more than tensors \(it asks for posix\.mkdir\), and reading it cou"
  ):
    as_safetensors(tmp_path / "a.pth")
  torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
  with pytest.raises(WeightsError, match=r"it asks for torch\.nn\.modules\.linear\.Linear"):
    as_safetensors(tmp_path / "a.pth")
  assert not (tmp_path / "was_run").exists()


@pytest.mark.torch
@pytest.mark.parametrize(
  ("content", "message"),
  [
    (lambda torch: [torch.ones(2)], "holds a list, not a state dict: name -> tensor"),
    (lambda torch: {}, "holds no tensors; get it again"),
    (lambda torch: {"step": 3, "a": torch.ones(2)}, r"it holds 'step' \(int\), which are no tensors"),
    (lambda torch: {str(i): i for i in range(6)}, r"'3' \(int\) and 2 more"),
    (lambda torch: {"a": torch.ones(2).to_sparse()}, r"a is torch\.float32, torch\.sparse_coo; save it as a dense"),
    (lambda torch: {"a": torch.ones(2, device="meta")}, "a is without values"),
    (lambda torch: {"a": torch.ones(2, dtype=torch.complex64)}, r"a is torch\.complex64, torch\.strided"),
    (lambda torch: {"a": torch.ones(2), "module.a": torch.ones(2)}, 'with and without the prefix "module." under one'),
  ],
)
def test_what_is_no_state_dict_is_told(torch, tmp_path, content, message):
  torch.save(content(torch), tmp_path / "a.pth")
  with pytest.raises(WeightsError, match=message) as caught:
    as_safetensors(tmp_path / "a.pth")
  assert "\n" not in str(caught.value)


@pytest.mark.torch
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [100, -100])
def test_a_file_that_is_cut_short_is_told(torch, tmp_path, legacy, kept):
  torch.save({"a": torch.ones(1000)}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
  (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:kept])
  with pytest.raises(WeightsError, match=r"a\.pth is damaged or no PyTorch file \(.*\); get it again\.$"):
    as_safetensors(tmp_path / "a.pth")


@pytest.mark.torch
def test_a_cache_that_cannot_be_written_is_told(torch, tmp_path, monkeypatch):
  def full(*arguments):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(pytorch_files, "write_tensors", full)
  with pytest.raises(
    WeightsError, match=r"can't be written to .*weights: No space left on device\. Make room there, or"
  ):
    as_safetensors(LEGACY)
