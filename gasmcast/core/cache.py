"""Where gasmcast keeps what can be made again: compiled programs, converted weights."""

import os
import pathlib

from gasmcast.core.errors import ConfigError


def cache_folder(kind: str) -> pathlib.Path:
  """$XDG_CACHE_HOME/gasmcast/`kind`, below ~/.cache without that variable; it may not exist yet.

  A relative $XDG_CACHE_HOME is ignored, as the XDG base directory specification says.

  Raises:
    ConfigError: the variable is not set and there is no home folder.
  """
  base = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
  if not base.is_absolute():
    try:
      base = pathlib.Path.home() / ".cache"
    except RuntimeError as error:
      raise ConfigError(
        "this user has no home folder to keep compiled programs and converted weights in; set XDG_CACHE_HOME to a "
        "folder that can be written."
      ) from error
  return base / "gasmcast" / kind
