"""The cache keeps to its limit, drops what it says it drops, and decodes a video once however many ask."""

import math
import threading
import time

import numpy as np
import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.videos.frame_cache import FrameCache


def video(size, value=0):
  """A video of `size` bytes, a multiple of 3."""
  return np.full((size // 3, 1, 1, 3), value, np.uint8)


def ask(cache, keys, size=30):
  """Reads videos of one size; the keys that had to be decoded."""
  decoded = []
  for key in keys:
    cache.get(key, lambda room, key=key: decoded.append(key) or video(size))
  return "".join(decoded)


def test_the_video_read_longest_ago_is_dropped():
  cache = FrameCache(90)
  assert ask(cache, "abc") == "abc"
  assert ask(cache, "a") == ""  # so that b is the one read longest ago
  assert ask(cache, "d") == "d"
  assert ask(cache, "acd") == ""
  assert ask(cache, "b") == "b"  # drops a, the first of "acd"
  assert ask(cache, "cdb") == ""
  assert ask(cache, "a") == "a"


def test_without_eviction_what_came_first_stays():
  cache = FrameCache(90, "none")
  assert ask(cache, "abcd") == "abcd"
  assert ask(cache, "dabcd") == "dd"
  assert cache.statistics.evictions == 0


def test_as_many_are_dropped_as_a_large_one_needs():
  cache = FrameCache(90)
  ask(cache, "abc")
  ask(cache, "D", size=60)
  statistics = cache.statistics
  assert (statistics.evictions, statistics.videos, statistics.bytes) == (2, 2, 90)
  assert ask(cache, "cD") == ""


@pytest.mark.parametrize("eviction", ["lru", "none"])
def test_the_bytes_are_those_of_the_videos_kept_and_never_above_the_limit(eviction):
  rng = np.random.default_rng(0)
  sizes = 3 * rng.integers(1, 40, 50)
  cache, reads = FrameCache(1000, eviction), 3000
  for key in rng.integers(0, 50, reads).tolist():
    cache.get(key, lambda room, key=key: video(sizes[key]) if sizes[key] <= room else None)
    assert cache.statistics.bytes <= 1000
  statistics, before = cache.statistics, cache.statistics.hits
  held = [key for key in range(50) if cache.get(key, lambda room: None) is not None]
  assert statistics.hits + statistics.misses == reads
  assert statistics.bytes == sizes[held].sum() and statistics.videos == len(held)
  assert cache.statistics.hits == before + len(held)
  assert (statistics.evictions > 0) == (eviction == "lru")


def test_the_decoder_learns_how_many_bytes_may_be_kept():
  rooms = []
  for eviction in ("lru", "none"):
    cache = FrameCache(90, eviction)
    ask(cache, "ab")
    cache.get("c", lambda room: rooms.append(room))
  assert rooms == [90, 30]


def test_a_video_above_the_limit_is_handed_out_and_drops_nothing():
  cache = FrameCache(90)
  ask(cache, "abc")
  assert cache.get("large", lambda room: video(93)).nbytes == 93
  assert ask(cache, "abc") == ""


def test_what_was_not_decoded_is_a_miss():
  cache = FrameCache(90)
  assert cache.get("a", lambda room: None) is None
  assert (cache.statistics.hits, cache.statistics.misses, cache.statistics.hit_rate) == (0, 1, 0.0)


def test_an_error_is_raised_and_not_remembered():
  cache = FrameCache(90)

  def fail(room):
    raise DataError("a.webm is damaged.")

  for _ in range(2):
    with pytest.raises(DataError, match="a.webm is damaged"):
      cache.get("a", fail)
  assert ask(cache, "a") == "a"
  assert cache.statistics.misses == 3


def test_a_video_handed_out_can_not_be_changed():
  cache = FrameCache(90)
  with pytest.raises(ValueError, match="read-only"):
    cache.get("a", lambda room: video(30))[:] = 1


@pytest.mark.parametrize("fails", [False, True])
def test_threads_that_ask_for_one_video_wait_for_one_decoding(fails):
  cache, started, finish, calls = FrameCache(90), threading.Event(), threading.Event(), []

  def decode(room):
    calls.append(room)
    started.set()
    finish.wait(10)
    if fails:
      raise DataError("damaged.")
    return video(30, 7)

  answers = []

  def read():
    try:
      answers.append(int(cache.get("a", decode).max()))
    except DataError as error:
      answers.append(str(error))

  threads = [threading.Thread(target=read) for _ in range(4)]
  threads[0].start()
  assert started.wait(10)
  for thread in threads[1:]:
    thread.start()
  assert ask(cache, "b") == "b"  # another video is not held up
  time.sleep(0.05)
  finish.set()
  for thread in threads:
    thread.join(10)
  statistics = cache.statistics
  assert calls == ([90] * 4 if fails else [90])  # who waited for a failure tries again
  assert answers == (["damaged."] * 4 if fails else [7] * 4)
  assert (statistics.hits, statistics.misses) == ((0, 5) if fails else (3, 2))


def test_many_threads_leave_exact_accounts():
  cache = FrameCache(300)
  rng = np.random.default_rng(1)
  orders = [rng.integers(0, 30, 500).tolist() for _ in range(8)]
  wrong = []

  def read(order):
    for key in order:
      answer = cache.get(key, lambda room, key=key: video(30, key))
      if answer[0, 0, 0, 0] != key:
        wrong.append(key)

  threads = [threading.Thread(target=read, args=(order,)) for order in orders]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  statistics = cache.statistics
  assert not wrong
  assert statistics.hits + statistics.misses == 4000
  assert (statistics.videos, statistics.bytes) == (10, 300)
  assert statistics.misses == statistics.evictions + statistics.videos


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_hit_rates_of_shuffled_passes_are_those_of_the_formulas(share):
  """5 passes over 2,000 videos after the first; the standard error of a rate is at most 0.005 (binomial)."""
  rng, count, passes = np.random.default_rng(2), 2000, 5
  rates = {}
  for eviction in ("lru", "none"):
    cache = FrameCache(int(share * count) * 3, eviction)
    for _ in range(passes + 1):
      for key in rng.permutation(count).tolist():
        cache.get(key, lambda room: video(3))
    statistics = cache.statistics
    rates[eviction] = statistics.hits / (passes * count)  # the first pass can't hit
  assert rates["none"] == pytest.approx(share, abs=1e-9)
  assert rates["lru"] == pytest.approx(share + (1 - share) * math.log(1 - share), abs=0.015)


def test_every_read_after_the_first_pass_hits_where_all_fit():
  for eviction in ("lru", "none"):
    cache = FrameCache(90, eviction)
    assert ask(cache, "abc" + "cab" + "bca") == "abc"
    assert cache.statistics.hit_rate == 6 / 9


@pytest.mark.parametrize(
  ("arguments", "message"),
  [((90, "random"), "cache_eviction = 'random': it must be one of lru, none"), ((-1,), "cache_bytes = -1: it must be")],
)
def test_impossible_limits_are_refused(arguments, message):
  with pytest.raises(ConfigError, match=message):
    FrameCache(*arguments)
