"""Random streams: equal on every machine, independent of each other."""

import zlib

import numpy as np
import pytest

from gasmcast.core.rng import generator, stream_id


def draw(*path: str | int) -> tuple[int, ...]:
  return tuple(generator(*path).integers(0, 1000, 4).tolist())


def test_stream_id_is_the_crc_of_the_name():
  assert stream_id("123456789") == 0xCBF43926  # the check value in every table of CRC-32
  assert stream_id("Bewegung ä") == zlib.crc32("Bewegung ä".encode())


def test_one_seed_gives_these_numbers():
  assert draw(7, "render", 12) == (232, 446, 680, 528)


def test_asking_twice_gives_the_same_and_touches_nothing_else():
  first = generator(7, "render", 12)
  first.random(100)
  assert draw(7, "render", 12) == draw(7, "render", 12)


@pytest.mark.parametrize(
  ("one", "other"),
  [
    ((7,), (8,)),
    ((7,), (7, 0)),
    ((7, "render"), (7, "render", 0)),
    ((7, "render", 1), (7, "decode", 1)),
    ((7, "render", 1), (7, 1, "render")),
    ((7, "ab", "c"), (7, "a", "bc")),
    ((7, "1"), (7, 1)),
    ((7, "render"), (7, stream_id("render"))),
    ((2**32 + 5,), (5, 1)),
    ((-1,), (1,)),
  ],
)
def test_different_paths_are_different_streams(one, other):
  assert draw(*one) != draw(*other)


def test_numpy_integers_name_the_same_stream_as_python_integers():
  assert draw(np.int64(7), "render", np.int32(12)) == draw(7, "render", 12)


def test_a_fraction_is_no_step():
  with pytest.raises(TypeError, match="float"):
    generator(7, "render", 1.5)
