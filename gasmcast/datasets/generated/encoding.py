"""Frames to VP8 .webm files, by the FFmpeg that OpenCV brings, and back."""

import contextlib
import json
import os
from collections.abc import Iterator

import cv2
import numpy as np

from gasmcast.core.errors import DataError
from gasmcast.core.manifest import hash_bytes


def write(clip: np.ndarray, path: str, fps: int) -> None:
  """Encodes uint8 [T, H, W, 3] in RGB order.

  Raises:
    DataError: the file can't be written.
  """
  height, width = clip.shape[1:3]
  with _no_stderr():
    writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"VP80"), fps, (width, height))
  if not writer.isOpened():
    raise DataError(f"{path} can't be written: this OpenCV has no VP8 encoder, or the folder is not writable.")
  for frame in clip:
    writer.write(np.ascontiguousarray(frame[..., ::-1]))
  writer.release()


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
  """OpenCV prints a line for every VP8 file it opens ("tag 'VP80' is not supported"), past Python's own stderr."""
  kept = os.dup(2)
  with open(os.devnull, "wb") as nowhere:
    os.dup2(nowhere.fileno(), 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)


def hash_pixels(path: str, frames: int) -> str:
  """A hash of what a decoder gives back.

  Raises:
    DataError: it gives another number of frames.
  """
  capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
  parts = []
  while True:
    ok, frame = capture.read()
    if not ok:
      break
    parts.append(frame.tobytes())
  capture.release()
  if len(parts) != frames:
    raise DataError(f"{path}: wrote {frames} frames and read {len(parts)} back; is the disk full?")
  return hash_bytes(json.dumps([frames]).encode(), *parts)
