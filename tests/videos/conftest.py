"""Small real VP8 files in which every frame shows its own number."""

import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from gasmcast.core.types import Dataset, Example


def picture(number: int, height: int, width: int) -> np.ndarray:
  """Left half: a grey level for number % 50; right half: one for number // 50. The codec darkens by about 3."""
  frame = np.empty((height, width, 3), np.uint8)
  frame[:, : width // 2] = 5 * (number % 50) + 3
  frame[:, width // 2 :] = 5 * (number // 50) + 3
  return frame


def read_numbers(frames: np.ndarray) -> list[int]:
  """The numbers that decoded frames [T, H, W, 3] show."""
  half, edge = frames.shape[2] // 2, frames.shape[2] // 16
  left, right = (part.mean((1, 2, 3)) / 5 for part in (frames[:, :, : half - edge], frames[:, :, half + edge :]))
  return [round(a) + 50 * round(b) for a, b in zip(left, right, strict=True)]


def encode(path: pathlib.Path, frames: Sequence[np.ndarray], rate: float = 12.0, code: str = "VP80") -> str:
  """Encodes BGR frames; returns the path as a string."""
  height, width = frames[0].shape[:2]
  writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), rate, (width, height))
  assert writer.isOpened()
  for frame in frames:
    writer.write(frame)
  writer.release()
  return str(path)


def numbered_video(path: pathlib.Path, count: int, height: int = 48, width: int = 64, rate: float = 12.0) -> str:
  return encode(path, [picture(number, height, width) for number in range(count)], rate)


@pytest.fixture(scope="session")
def numbers():
  return read_numbers


@pytest.fixture(scope="session")
def write_video():
  return encode


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> dict[str, str]:
  """Name -> path of intact files."""
  folder = tmp_path_factory.mktemp("videos")
  return {
    "short": numbered_video(folder / "short.webm", 10),
    "clip": numbered_video(folder / "clip.webm", 48),
    "long": numbered_video(folder / "long.webm", 420, rate=30.0),
    "portrait": numbered_video(folder / "portrait.webm", 12, height=160, width=96),
  }


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Dataset:
  """Seven examples of 20 frames 32 x 32, of which number 3 can't be decoded."""
  folder = tmp_path_factory.mktemp("dataset")
  examples = []
  for index in range(7):
    path = folder / f"{index}.webm"
    labels = {"action": index % 3}
    examples.append(Example(id=str(index), path=numbered_video(path, 20, height=32, width=32), labels=labels))
  (folder / "3.webm").write_bytes(b"not a video")
  classes = {"action": ("Pushing left", "Pushing right", "Waving")}
  return Dataset("numbered", "train", tuple(examples), classes, "fingerprint")
