"""Optuna's side of a search (extra [search]): its journal, and ranges and values in its words."""

import os
import pathlib
from types import ModuleType
from typing import Any

from gasmcast.core.errors import ConfigError
from gasmcast.jobs.search_space import Range


def import_optuna() -> ModuleType:
  """Optuna, quiet below warnings.

  Raises:
    ConfigError: it is not installed.
  """
  try:
    import optuna
  except ImportError as error:
    raise ConfigError('job search needs Optuna, which is not installed: pip install "gasmcast[search]"') from error
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  return optuna


def open_journal(path: pathlib.Path) -> Any:
  """The storage in a file, which is made if it isn't there.

  Raises:
    OSError: it can't be read or written.
    ValueError: a line of it is damaged.
  """
  storages = import_optuna().storages
  lock = storages.journal.JournalFileSymlinkLock(str(path))
  _mend(path, lock)
  return storages.JournalStorage(storages.journal.JournalFileBackend(str(path), lock_obj=lock))


def distribution(one: Range) -> Any:
  """The range as Optuna has it."""
  made = import_optuna().distributions
  if one.kind == "choice":
    return made.CategoricalDistribution([stored_value(value, one) for value in one.values])
  if one.kind == "int":
    return made.IntDistribution(one.low, one.high, log=one.log, step=one.step or 1)
  return made.FloatDistribution(one.low, one.high, log=one.log, step=one.step)


def suggest(trial: Any, one: Range) -> None:
  """Has the trial draw a value unless it has one."""
  if one.kind == "choice":
    trial.suggest_categorical(one.name, [stored_value(value, one) for value in one.values])
  elif one.kind == "int":
    trial.suggest_int(one.name, one.low, one.high, step=one.step or 1, log=one.log)
  else:
    trial.suggest_float(one.name, one.low, one.high, step=one.step, log=one.log)


def stored_value(value: Any, one: Range) -> Any:
  """A value as the journal holds it: of a choice that is neither a number nor a text, its representation."""
  if one.kind == "choice" and not isinstance(value, bool | int | float | str | None):
    return repr(value)
  return value


def value_of_stored(stored: Any, one: Range) -> Any:
  """The value of which `stored_value` is the form in the journal."""
  if one.kind != "choice":
    return float(f"{stored:.12g}") if one.kind == "float" and one.step else stored  # 0.3, not 0.30000000000000004
  return next(value for value in one.values if stored_value(value, one) == stored)


def _mend(journal: pathlib.Path, lock: Any) -> None:
  """Removes a last line that a crash of the machine or a full disk cut off; the next one would be appended to it."""
  if not journal.exists() or not _torn(journal):
    return
  lock.acquire()  # else the line of a worker that is just writing would be taken for one
  try:
    if _torn(journal):
      with open(journal, "r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
        os.fsync(file.fileno())
  finally:
    lock.release()


def _torn(journal: pathlib.Path) -> bool:
  with open(journal, "rb") as file:
    if file.seek(0, os.SEEK_END) == 0:
      return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
