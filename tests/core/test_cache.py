"""One folder for what can be made again, where the desktop says or below the home folder."""

import pathlib

import pytest

from gasmcast.core.cache import cache_folder
from gasmcast.core.errors import ConfigError


def test_the_cache_is_where_xdg_cache_home_says(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert cache_folder("weights") == tmp_path / "gasmcast" / "weights"
  assert list(tmp_path.iterdir()) == []  # asking makes nothing


@pytest.mark.parametrize("base", [None, "", "relative/folder", "~/cache"])
def test_without_an_absolute_folder_it_is_below_the_home(monkeypatch, tmp_path, base):
  monkeypatch.setenv("HOME", str(tmp_path))
  if base is None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  else:
    monkeypatch.setenv("XDG_CACHE_HOME", base)
  assert cache_folder("jax") == tmp_path / ".cache" / "gasmcast" / "jax"


def test_a_user_without_home_is_told_what_to_set(monkeypatch):
  def no_home():
    raise RuntimeError("Could not determine home directory.")

  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  monkeypatch.setattr(pathlib.Path, "home", no_home)
  with pytest.raises(ConfigError, match="no home folder.*set XDG_CACHE_HOME to a folder that can be written"):
    cache_folder("jax")
