"""Files below a folder."""

import pytest

from gasmcast.core.errors import DataError
from gasmcast.datasets.files import directories, files_below


def write(root, *paths):
  for path in paths:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()


def test_files_come_in_order_without_hidden_ones_down_to_a_depth(tmp_path):
  write(tmp_path, "b", "a", "c/2", "c/1", "c/d/e", ".f", ".g/h", "c/d/e2/i")
  names = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path, 2)]
  assert names == ["a", "b", "c/1", "c/2", "c/d/e"]
  assert [path.name for path in files_below(tmp_path, 0)] == ["a", "b"]
  assert directories(tmp_path) == ["c"]


def test_links_to_folders_are_followed_and_those_that_lead_back_refused(tmp_path):
  write(tmp_path, "real/a")
  (tmp_path / "shown").mkdir()
  (tmp_path / "shown" / "train").symlink_to(tmp_path / "real")
  assert [path.name for path in files_below(tmp_path / "shown", 4)] == ["a"]
  (tmp_path / "real" / "back").symlink_to(tmp_path)
  with pytest.raises(DataError, match=r"real/back is a link that leads back to a folder above it; remove it"):
    list(files_below(tmp_path, 8))


def test_a_folder_that_can_not_be_listed_is_refused(tmp_path):
  with pytest.raises(DataError, match=r"none can't be listed: No such file or directory"):
    directories(tmp_path / "none")
  write(tmp_path, "file")
  with pytest.raises(DataError, match=r"file can't be listed: Not a directory"):
    list(files_below(tmp_path / "file", 1))
