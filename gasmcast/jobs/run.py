"""What every job is given: a configuration and the working directory it is run in."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

from rich.console import Console

from gasmcast.core.config import parse, to_dict

T = TypeVar("T")


class Run:
  """A configuration in a working directory.

  Args:
    config: the tree of the config file with its overrides.
    workdir: holds everything of the run.
    command: as it was typed, for the records.
  """

  def __init__(
    self, config: Mapping[str, Any], workdir: str | os.PathLike, command: str, console: Console | None = None
  ):
    self.raw = to_dict(config)
    self.workdir = pathlib.Path(workdir)
    self.command = command
    self.console = console or Console()

  def only_section(self, name: str, fields: type[T]) -> T:
    """The fields `config.<name>` of a config that holds nothing else but the job.

    Raises:
      ConfigError: a field is unknown or impossible.
    """
    whole = dataclasses.make_dataclass("Config", [("job", str), (name, fields)], frozen=True)
    return getattr(parse(whole, self.raw, "config"), name)
