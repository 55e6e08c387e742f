"""Named random streams: the same (seed, name, step) gives the same numbers on every machine.

A stream is identified by words and integers, never by the order in which it was asked for, so adding a new
consumer of randomness leaves all others as they were. On the device the same names are folded into a jax key
by `jax.random.fold_in(key, stream_id(name))`.
"""

import operator
import zlib

import numpy as np

from gasmcast.core.manifest import hash_json


def stream_id(name: str) -> int:
  """A stable unsigned 32-bit number for a stream's name (CRC-32 of its UTF-8 bytes)."""
  return zlib.crc32(name.encode("utf-8"))


def generator(seed: int, *path: str | int) -> np.random.Generator:
  """A numpy generator for the stream `path` under `seed`, for example `generator(7, "render", 12)`.

  Seed and path are hashed as a whole. A `SeedSequence` of the bare numbers would not do: it pads with zeros and
  splits large numbers, so that (7,) and (7, 0), or (2**32 + 5,) and (5, 1), would be one stream.
  """
  words = [part if isinstance(part, str) else operator.index(part) for part in (seed, *path)]
  return np.random.default_rng(int(hash_json(words), 16))
