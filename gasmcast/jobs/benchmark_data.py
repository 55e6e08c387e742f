"""What job benchmark measures of the way of the data: decoding, loading, caches, features, memory over many clips.

Every kind of case is a dataclass of `KINDS` with a method `prepare`. A peer is a function in `benchmarks/` that imports
its library when it is first called; where that fails the table says why in the place of times.
"""

import functools
from typing import Any

from gasmcast.core.config import parse_kind
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

parse_case = functools.partial(parse_kind, KINDS)


def versions() -> dict[str, str]:
  """Of the libraries that are measured, where they are installed."""
  return records.installed(*_LIBRARIES)


def prepare(where: str, case: Any, peers: Peers | None, platform: str) -> Prepared:
  """The sides of a case, ours first."""
  return case.prepare(where)
