"""What is recorded of a run, and what is said where nothing can be written."""

import errno
import re

import pytest

from gasmcast.core.errors import WorkdirError
from gasmcast.jobs import records


def test_versions_of_what_is_installed():
  found = records.installed("numpy", "no-such-package-as-this")
  assert list(found) == ["numpy"] and re.fullmatch(r"\d+\.\d+\.\d+.*", found["numpy"])


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path):
  said = f"^{tmp_path} can't be written"
  with pytest.raises(
    WorkdirError, match=rf"{said} \(No space left on device\); make room or choose another --workdir.$"
  ):
    _raise_in(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
  with pytest.raises(WorkdirError, match=rf"{said} \(Is a directory: folder/file\); make room"):
    _raise_in(tmp_path, OSError(errno.EISDIR, "Is a directory", "folder/file"))


def test_other_errors_pass(tmp_path):
  with pytest.raises(ZeroDivisionError):
    _raise_in(tmp_path, ZeroDivisionError())


def _raise_in(folder, error):
  with records.writing(folder):
    raise error
