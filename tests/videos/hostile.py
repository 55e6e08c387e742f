"""Videos that are damaged at random or made to exhaust a machine, and what workers find out about them."""

import pathlib
import struct
import time

import cv2
import numpy as np

from gasmcast.core.errors import DataError
from gasmcast.videos.decode import read_frames
from gasmcast.videos.quality import probe
from gasmcast.videos.sample import centre_frames

KEY_FRAME = b"\x9d\x01\x2a"  # a VP8 key frame's mark; width and height follow


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
  """One of seven kinds of damage, or several. Half of the places are in the first 2,000 bytes, which say most."""
  for _ in range(rng.integers(1, 4)):
    changed, size = bytearray(content), len(content)
    at = int(rng.integers(0, min(size, 2000) if rng.random() < 0.5 else size))
    length = int(rng.integers(1, max(2, size // 10)))
    other = int(rng.integers(0, size))
    kind = rng.integers(7)
    if kind == 0:
      for place in (at + rng.integers(-200, 200, rng.integers(1, 16))) % size:
        changed[place] = rng.integers(256)
    elif kind == 1:
      changed[at] ^= 1 << rng.integers(8)
    elif kind == 2:
      del changed[max(1, at) :]
    elif kind == 3:
      changed[at:at] = rng.bytes(length)
    elif kind == 4:
      changed[at : at + length], changed[other : other + length] = (
        content[other : other + length],
        content[at : at + length],
      )
    elif kind == 5:
      changed[at : at + 8] = rng.choice([b"\0", b"\xff", b"\x7f"]) * 8
    else:
      del changed[at : at + length]
    content = bytes(changed) or b"\0"
  return content


def judge(path: str) -> dict:
  """What probing says of a file, and where it says a number of frames, what plain reading to the end says."""
  began = time.monotonic()
  try:
    found = probe(path)
  except DataError as error:
    named = str(path) in str(error) and "\n" not in str(error)
    return {"refused": str(error), "named": named, "seconds": time.monotonic() - began}
  seconds = time.monotonic() - began
  asked = []
  frames = read_frames(path, lambda total: asked.append(total) or centre_frames(total, 4))
  return {
    "refused": "",
    "seconds": seconds,
    "frames": found.frames,
    "plain": plain_count(path),
    "trained_on": asked[-1],
    "shape": frames.shape == (4, found.height, found.width, 3),
  }


def plain_count(path: str) -> int:
  capture, count = cv2.VideoCapture(path, cv2.CAP_FFMPEG), 0
  while capture.read()[0]:
    count += 1
  capture.release()
  return count


def judge_bomb(path: str) -> dict:
  """Whether probing refuses a path, after how many seconds of a processor, with how many bytes of memory at most."""
  status = pathlib.Path("/proc/self/status")
  bytes_of = lambda name: int(status.read_text().partition(f"{name}:")[2].split()[0]) * 1024
  pathlib.Path("/proc/self/clear_refs").write_text("5")  # lets VmHWM begin again
  before, began, refused = bytes_of("VmRSS"), time.process_time(), ""
  try:
    probe(path)
  except DataError as error:
    refused = str(error)
  return {"refused": refused, "seconds": time.process_time() - began, "bytes": bytes_of("VmHWM") - before}


def with_key_frame_size(content: bytes, width: int, height: int) -> bytes:
  """A VP8 file whose container says the old size and whose first key frame says this one."""
  changed, at = bytearray(content), content.index(KEY_FRAME) + len(KEY_FRAME)
  changed[at : at + 4] = struct.pack("<HH", width, height)
  return bytes(changed)


def element(name: str, content: bytes) -> bytes:
  """An EBML element; `name` in hexadecimal digits."""
  return bytes.fromhex(name) + (len(content) | 1 << 56).to_bytes(8) + content


def webm(frame: bytes, frames: int, width: int, height: int) -> bytes:
  """A VP8 file without a duration that repeats one key frame."""
  number = lambda value: value.to_bytes(4)
  video = element("e0", element("b0", number(width)) + element("ba", number(height)))
  track = element("d7", b"\1") + element("73c5", b"\1") + element("83", b"\1") + element("86", b"V_VP8") + video
  per_cluster = 30_000
  blocks = np.tile(np.frombuffer(element("a3", b"\x81\0\0\x80" + frame), np.uint8), (per_cluster, 1))
  blocks[:, 10:12] = np.arange(per_cluster, dtype=">i2").view(np.uint8).reshape(-1, 2)
  clusters = [
    element("1f43b675", element("e7", number(start)) + blocks[: frames - start].tobytes())
    for start in range(0, frames, per_cluster)
  ]
  kind = element("4286", b"\1") + element("42f7", b"\1") + element("42f2", b"\4") + element("42f3", b"\x08")
  kind += element("4282", b"webm") + element("4287", b"\2") + element("4285", b"\2")
  information = element("1549a966", element("2ad7b1", (1_000_000).to_bytes(3)))
  tracks = element("1654ae6b", element("ae", track))
  return element("1a45dfa3", kind) + element("18538067", information + tracks + b"".join(clusters))
