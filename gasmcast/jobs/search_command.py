"""From the command that was typed to the command of one trial, ready to be pasted into a shell."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

_SWITCHES = ("debug", "nodebug")  # flags without a value
_OF_MANY = ("search.", "ablate.")  # fields that no single training has
_FLAG = re.compile(r"--?[A-Za-z]")


def trial_command(command: str, workdir: PurePath, job: str, values: Mapping[str, Any]) -> str:
  """`command` with another workdir and job, without its search or grid, and with these values of fields.

  Args:
    command: as it was typed, quoted for a shell.
    values: dotted name -> value. None is left out: it can't be written, and is what the config file says.
  """
  words = shlex.split(command)
  first = next((place for place, word in enumerate(words) if _FLAG.match(word)), len(words))
  kept = words[:first]
  for name, given in _flags(words[first:]):
    field = name.removeprefix("no").removeprefix("config.")
    if name not in ("workdir", "job") and not field.startswith(_OF_MANY) and field not in values:
      kept += given
  kept += ["--workdir", str(workdir), "--job", job]
  kept += [f"--config.{name}={_written(value)}" for name, value in values.items() if value is not None]
  return shlex.join(kept)


def _flags(words: list[str]) -> Iterator[tuple[str, list[str]]]:
  """(name, words) of each flag, whether its value is joined to it by "=" or the next word."""
  place = 0
  while place < len(words):
    name, joined, _ = words[place].lstrip("-").partition("=")
    last = place + 1
    if not joined and name not in _SWITCHES and last < len(words) and not _FLAG.match(words[last]):
      last += 1
    yield name, words[place:last]
    place = last


def _written(value: Any) -> str:
  return value if isinstance(value, str) else repr(value)
