"""Where gasmcast keeps what can be made again: compiled programs, converted weights."""

import os
import pathlib


def cache_folder(kind: str) -> pathlib.Path:
  """$XDG_CACHE_HOME/gasmcast/`kind`, below ~/.cache without that variable; it may not exist yet."""
  base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(base) / "gasmcast" / kind
