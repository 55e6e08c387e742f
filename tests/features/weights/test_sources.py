"""`find` takes a file, a folder, a hub id or the default, and says what is wrong with anything else."""

import json
import os
import pathlib
import shutil
import sys

import numpy as np
import pytest

from gasmcast.core.errors import WeightsError
from gasmcast.core.manifest import hash_file
from gasmcast.features.weights import hub
from gasmcast.features.weights import sources as module
from gasmcast.features.weights.sources import Hub, Package, Url, find, split_id
from gasmcast.features.weights.tensor_files import write_tensors
from tests.golden import make_legacy_state_dict

LEGACY = make_legacy_state_dict.FILE
DEFAULT = Hub("made/default")
WAYS = 'a .safetensors file, a folder with model.safetensors, a Hugging Face id "owner/name", or None'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> pathlib.Path:
  """The current folder, empty; the Hub and every address are out of bounds."""

  def forbidden(*arguments):
    raise AssertionError(f"the network was asked for {arguments}")

  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  monkeypatch.setattr(hub, "fetch", forbidden)
  monkeypatch.setattr(module.download, "download", forbidden)
  return tmp_path


def folder(path: pathlib.Path, config: object = None) -> pathlib.Path:
  write_tensors(path / "model.safetensors", {"a": np.float32([1, 2])}, {})
  if config is not None:
    (path / "config.json").write_text(json.dumps(config))
  return path


def values(found) -> dict[str, list[float]]:
  return {name: np.asarray(tensor).tolist() for name, tensor in found.tensors.items()}


def test_a_file_whatever_it_is_called(here):
  write_tensors("net.weights", {"a": np.float32([1, 2])}, {"name": "made up"})
  found = find("net.weights", DEFAULT)
  assert values(found) == {"a": [1, 2]}
  assert found.config is None and found.origin == "net.weights" and found.metadata["name"] == "made up"
  assert values(find(here / "net.weights", DEFAULT)) == {"a": [1, 2]}


def test_a_header_whose_length_looks_like_a_pickle(here):
  """A safetensors file begins with the length of its header, here one whose first byte is that of a pickle."""
  for padding in range(0, 400):
    write_tensors("net.safetensors", {"a": np.float32([1, 2])}, {"name": "x" * padding})
    if (here / "net.safetensors").read_bytes()[0] == 0x80:
      break
  assert (here / "net.safetensors").read_bytes()[0] == 0x80
  assert values(find("net.safetensors", DEFAULT)) == {"a": [1, 2]}


def test_a_folder_with_and_without_config(here):
  assert find(folder(here / "net"), DEFAULT).config is None
  found = find(str(folder(here / "net", {"hidden_size": 8})), DEFAULT)
  assert values(found) == {"a": [1, 2]} and found.config == {"hidden_size": 8} and found.origin == str(here / "net")


def test_the_home_folder_can_be_written_as_a_tilde(here, monkeypatch):
  monkeypatch.setenv("HOME", str(here))
  folder(here / "net")
  assert values(find("~/net", DEFAULT)) == {"a": [1, 2]}


def test_a_local_folder_goes_before_a_hub_id(here, monkeypatch):
  folder(here / "owner" / "name")
  assert find("owner/name", DEFAULT).origin == "owner/name"
  shutil.rmtree(here / "owner")
  monkeypatch.setattr(hub, "fetch", lambda name, revision: folder(here / "snapshots" / "0123456789ab", {"a": 1}))
  found = find("owner/name", DEFAULT)
  assert found.origin == "owner/name at 01234567" and found.config == {"a": 1}


def test_none_is_the_default_and_a_revision_stands_behind_an_at(here, monkeypatch):
  asked = []
  monkeypatch.setattr(hub, "fetch", lambda *given: asked.append(given) or folder(here / "0123456789ab"))
  find(None, DEFAULT)
  find(None, Hub("made/default", "v2"))
  find("owner/name@refs/pr/1", DEFAULT)
  assert asked == [("made/default", None), ("made/default", "v2"), ("owner/name", "refs/pr/1")]


@pytest.mark.parametrize(
  ("weights", "message"),
  [
    ("net", f"net does not exist; give {WAYS} for the published default."),
    ("runs/net.safetensors", f"runs/net.safetensors does not exist; give {WAYS} for the published default."),
    ("./owner/name", f"owner/name does not exist; give {WAYS} for the published default."),
    (pathlib.Path("owner/name"), f"owner/name does not exist; give {WAYS} for the published default."),
    ("a/b/c", f"a/b/c does not exist; give {WAYS} for the published default."),
    ("", f'weights = "" names nothing; give {WAYS}.'),
    (3, f"weights is of type int; give {WAYS}, and arrays to features.convert."),
    ({"a": np.ones(2)}, f"weights is of type dict; give {WAYS}, and arrays to features.convert."),
  ],
)
def test_what_is_neither_here_nor_an_id_is_told(weights, message):
  with pytest.raises(WeightsError) as caught:
    find(weights, DEFAULT)
  assert str(caught.value) == message


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", r"net\.pth is empty \(0 bytes\); get it again\.$"),
    (
      b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
      "is a pointer of Git LFS, not the weights; run git lfs",
    ),
    (
      b"\x80\x04\x95 a pickle of something else",
      "is a pickle that PyTorch did not write; it is not read, as it could run",
    ),
    (b"<html>not found</html>", "is cut short, damaged, or no safetensors file"),
  ],
)
def test_a_file_of_another_kind_is_told(here, content, message):
  (here / "net.pth").write_bytes(content)
  with pytest.raises(WeightsError, match=message):
    find("net.pth", DEFAULT)


@pytest.mark.parametrize(
  ("weights", "split"),
  [
    ("facebook/dinov2-base", ("facebook/dinov2-base", None)),
    ("a/b@v1", ("a/b", "v1")),
    ("a/b@refs/pr/1", ("a/b", "refs/pr/1")),
    ("a/b@", ("a/b", None)),
    ("a", None),
    ("a/b/c", None),
    ("/a/b", None),
    ("./a", None),
    ("../a", None),
    ("~/a", None),
    ("a b/c", None),
    ("C:\\nets\\a", None),
  ],
)
def test_what_can_be_an_id(weights, split):
  assert split_id(weights) == split


def test_a_pipe_is_no_file(here):
  os.mkfifo(here / "pipe")
  with pytest.raises(WeightsError, match="pipe is neither a file nor a folder"):
    find("pipe", DEFAULT)


def test_a_name_that_the_system_refuses_is_told():
  with pytest.raises(WeightsError, match="can't be read: File name too long"):
    find("a" * 300, DEFAULT)


def test_a_pytorch_file_is_read_from_its_conversion(here, monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  shutil.copy(LEGACY, "net.pth")
  with pytest.raises(WeightsError, match=r'net\.pth is a PyTorch file.*pip install "gasmcast\[torch\]", once'):
    find("net.pth", DEFAULT)
  write_tensors(here / "cache/gasmcast/weights" / f"{hash_file(LEGACY)}.safetensors", {"a": np.float32([3])}, {})
  found = find("net.pth", DEFAULT)
  assert values(found) == {"a": [3]} and found.origin == "net.pth"


def test_a_package_is_read_without_torch(here, monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  shutil.copy(LEGACY, here / "net.pth")
  (here / "made_up-1.dist-info").mkdir()
  (here / "made_up-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1\n")
  monkeypatch.syspath_prepend(str(here))
  found = find(None, Package("made-up", "net.pth", hash_file(LEGACY)))
  assert values(found)["tail"] == [4, 5] and found.origin == "net.pth of made-up"


def test_an_address_is_not_asked_when_torch_is_missing(monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(WeightsError, match=r"^https://made-up\.invalid/net\.pth is a PyTorch file; .* is not installed"):
    find(None, Url("https://made-up.invalid/net.pth", "01234567"))


def test_an_address_is_downloaded_and_converted(here, monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", type("Torch", (), {"__version__": "2.13.0"}))
  monkeypatch.setattr(module.download, "download", lambda address, sha256: shutil.copy(LEGACY, here / "net.pth"))
  write_tensors(here / "cache/gasmcast/weights" / f"{hash_file(LEGACY)}.safetensors", {"a": np.float32([3])}, {})
  monkeypatch.setattr(module, "_read_file", lambda path, read=module._read_file: read(pathlib.Path(path)))
  assert values(find(None, Url("https://made-up.invalid/net.pth", "01234567"))) == {"a": [3]}
