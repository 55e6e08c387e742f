"""What job benchmark measures of the way of the data: decoding, loading, caches, features, memory over many clips.

Every kind of case is a dataclass of `KINDS` with a method `prepare`. A peer is a function in `benchmarks/` that imports
its library when it is first called; where that fails the table says why in the place of times.
"""

from collections.abc import Mapping
from typing import Any

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError
from gasmcast.jobs import records
from gasmcast.jobs.benchmark import Prepared
from gasmcast.jobs.benchmark_extraction import ExtractionCase
from gasmcast.jobs.benchmark_loading import LoadCase, MemoryCase
from gasmcast.jobs.benchmark_peers import Peers
from gasmcast.jobs.benchmark_reading import DecodeCase, FrameCacheCase
from gasmcast.jobs.benchmark_store import FeaturesCase

_LIBRARIES = ("av", "torchcodec", "torch", "array_record")

KINDS = {
  "decode": DecodeCase,
  "load": LoadCase,
  "frame_cache": FrameCacheCase,
  "features": FeaturesCase,
  "memory": MemoryCase,
  "extraction": ExtractionCase,
}


def parse_case(values: Mapping[str, Any], where: str) -> Any:
  """A case of the kind that it names.

  Raises:
    ConfigError: there is no such kind, or a field is unknown or can't be.
  """
  fields = dict(values)
  kind = fields.pop("kind", None)
  if kind not in KINDS:
    raise ConfigError(f"{where}.kind = {kind!r} is no kind of case; use one of {', '.join(KINDS)}.")
  return parse(KINDS[kind], fields, where)


def versions() -> dict[str, str]:
  """Of the libraries that are measured, where they are installed."""
  return records.installed(*_LIBRARIES)


def prepare(where: str, case: Any, peers: Peers | None, platform: str) -> Prepared:
  """The sides of a case, ours first."""
  return case.prepare(where)
