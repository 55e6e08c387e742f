"""Names that reach the disk in the order they were given, and full or unwritable disks told in words."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

from gasmcast.core.errors import WorkdirError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def create(path: pathlib.Path, content: bytes, part: pathlib.Path) -> None:
  """Makes a file, whole or not at all. If it is there already it stays as it is.

  Args:
    part: where it is written before it gets its name; in the same folder.

  Raises:
    OSError: the folder can't be written.
  """
  try:
    with open(part, "wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    try:
      os.link(part, path)  # unlike a renaming it fails where the file exists
    except FileExistsError:
      return
    except OSError as error:
      if error.errno not in _WITHOUT_LINKS:
        raise
      if not path.exists():
        part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def sync(path: pathlib.Path) -> None:
  """Waits until a file's content, or the names in a folder, are on the disk.

  Raises:
    OSError: they can't get there; a disk across the network may say only now that it is full.
  """
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  except OSError as error:
    if error.errno != errno.EINVAL or not path.is_dir():  # some file systems don't do it for folders
      raise
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def explained(folder: pathlib.Path, room: Callable[[], str] | None = None) -> Iterator[None]:
  """Turns an OSError of reading and writing in a folder into a WorkdirError.

  Args:
    room: what is known of the room that is needed and there, as sentences; the free bytes by default.
  """
  try:
    yield
  except OSError as error:
    if error.errno in _FULL:
      raise no_space(folder, room() if room else free(folder)) from error
    at = f" ({error.filename})" if error.filename else ""
    raise WorkdirError(
      f"{folder} can't be used: {error.strerror}{at}. Give this user the right to write there, or use another folder."
    ) from error


def no_space(folder: pathlib.Path, room: str) -> WorkdirError:
  """The error of a full disk. `room`: see `explained`."""
  return WorkdirError(f"{folder}: no space is left on the disk. {room} Free some and run the same command again.")


def free(folder: pathlib.Path) -> str:
  """A sentence about the bytes that are free in a folder, which may not exist yet."""
  there = next(path for path in (folder, *folder.parents) if path.exists())
  return f"{shutil.disk_usage(there).free} bytes are free."


def is_full(error: BaseException | None, folder: pathlib.Path) -> bool:
  """Whether an error raised by whoever wrote a file into the folder means that the disk is full.

  Libraries make of it an error of their own, of which the text or the cause tells.
  """
  while error is not None:
    if isinstance(error, OSError) and error.errno in _FULL:
      elsewhere = error.filename is not None and folder not in _absolute(error.filename).parents
      return not elsewhere
    if os.strerror(errno.ENOSPC) in str(error):
      return True
    error = error.__cause__
  return False


def _absolute(name: str | bytes) -> pathlib.Path:
  return pathlib.Path(os.fsdecode(name)).absolute()
