"""The moving-objects data set: rendered clips as real VP8 .webm files in the Something-Something-V2 layout.

    root/videos/<id>.webm     labels.json     {class name: "index"}
    root/train.json, validation.json, test.json     [{"id", "label", "template", "placeholders"}]
    root/pairs.json           {"mirrored" or "reversed in time": [[class name, class name]]}
    root/dataset.json         name, recipe, hash of the decoded pixels and annotations, hash of every file

The same recipe gives the same pixels. The files themselves differ from run to run (a .webm holds a random id), so the
data set is identified by what a decoder gives back. It appears under its name only when it is whole.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import multiprocessing
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from gasmcast.core.config import difference, require, to_dict
from gasmcast.core.errors import DataError
from gasmcast.core.manifest import hash_bytes, hash_file, hash_json, read_json, write_json
from gasmcast.core.rng import generator
from gasmcast.datasets.generated import motions, objects, rendering

SPLITS = ("train", "validation", "test")
_VERSION = 1  # raised whenever the same recipe gives other pixels
_KIND_SHARES = {"train": 0.7, "validation": 0.12, "test": 0.18}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Everything that the pixels depend on.

  Attributes:
    seed: of all random choices.
    train, validation, test: clips of each split, spread evenly over the 12 classes.
    height, width: of the videos, in pixels.
    frames_min, frames_max: the length of a clip is drawn from this range (both ends included).
    fps: frames per second that the container states.
  """

  seed: int = 0
  train: int = 1500
  validation: int = 240
  test: int = 300
  height: int = 80
  width: int = 88
  frames_min: int = 18
  frames_max: int = 24
  fps: int = 12

  def __post_init__(self):
    for split in SPLITS:
      clips = getattr(self, split)
      require(
        clips >= len(motions.TEMPLATES),
        f"recipe.{split} = {clips}: a split needs a clip of each of the {len(motions.TEMPLATES)} classes; use more.",
      )
    require(
      2 <= self.frames_min <= self.frames_max,
      f"recipe.frames_min = {self.frames_min}, frames_max = {self.frames_max}: need 2 <= frames_min <= frames_max.",
    )
    require(
      min(self.height, self.width) >= 32 and self.height % 2 == self.width % 2 == 0,
      f"recipe.height x width = {self.height} x {self.width}: both must be even and at least 32 pixels.",
    )


@dataclasses.dataclass(frozen=True)
class _Clip:
  id: int
  split: str
  template: str
  kinds: tuple[objects.ObjectKind, ...]


def generate(
  root: str | os.PathLike, recipe: Recipe, workers: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict:
  """Makes the data set under `root`, or finds it there whole, and returns its dataset.json.

  Args:
    root: the folder to make; its parent is created.
    recipe: what to make.
    workers: processes that render and encode; 1 stays in this process.
    progress: called with (clips done, clips in total).

  Raises:
    DataError: `root` holds something else (another recipe, a changed or missing file, a folder of other origin), or a
      video can't be written.
  """
  root = pathlib.Path(root)
  if root.exists():
    return verify(root, recipe)
  partial = root.with_name(f".{root.name}.{uuid.uuid4().hex}.part")
  try:
    _make(partial, recipe, workers, progress)
    if not root.exists():  # another run may have been faster
      partial.rename(root)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  return verify(root, recipe)


def _make(partial: pathlib.Path, recipe: Recipe, workers: int, progress: Callable[[int, int], None]) -> None:
  """Fills the folder; dataset.json comes last."""
  (partial / "videos").mkdir(parents=True)
  clips = _plan(recipe)
  pixels, files = {}, {}
  for clip, (pixel_hash, file_hash) in zip(clips, _write_all(clips, recipe, partial, workers), strict=True):
    pixels[str(clip.id)], files[f"videos/{clip.id}.webm"] = pixel_hash, file_hash
    progress(len(pixels), len(clips))
  annotations = _annotations(clips)
  for name, content in annotations.items():
    write_json(partial / name, content)
    files[name] = hash_file(partial / name)
  description = {
    "name": "moving_objects",
    "version": _VERSION,
    "recipe": to_dict(recipe),
    "pixels": hash_json([annotations, pixels]),
    "files": files,
  }
  write_json(partial / "dataset.json", description)


def verify(root: pathlib.Path, recipe: Recipe) -> dict:
  """The dataset.json under `root`, if it was made by `recipe` and every file is as it was written.

  Raises:
    DataError: otherwise; the message names the difference.
  """
  description = read_json(root / "dataset.json") if (root / "dataset.json").is_file() else None
  if not isinstance(description, dict) or not isinstance(description.get("files"), dict):
    raise DataError(
      f"{root} was not made by the job generate (it has no dataset.json of it) and is left alone. To use it as it is, "
      "run --job train,evaluate,report; to generate, set config.data.root to a folder that does not exist."
    )
  remedy = f"Remove {root} to have it made anew, or choose another config.data.root."
  wanted = {"recipe": to_dict(recipe), "version": _VERSION}
  found = {key: description.get(key) for key in wanted}
  if lines := difference(found, wanted, "dataset"):
    raise DataError(f"{root} was made by another recipe ({'; '.join(lines)}). {remedy}")
  for name, wanted_hash in description["files"].items():
    path = root / name
    if not path.is_file():
      raise DataError(f"{path} is missing from the generated data set. {remedy}")
    if hash_file(path) != wanted_hash:
      raise DataError(f"{path} has changed since it was generated. {remedy}")
  return description


def _plan(recipe: Recipe) -> list[_Clip]:
  """Which clip shows what: classes in turn, objects drawn from the kinds of the split."""
  kinds = objects.split_kinds(recipe.seed, _KIND_SHARES)
  ids = iter(generator(recipe.seed, "ids").permutation(recipe.train + recipe.validation + recipe.test) + 1)
  clips = []
  for split in SPLITS:
    for i in range(getattr(recipe, split)):
      template = motions.TEMPLATES[i % len(motions.TEMPLATES)]
      chosen = generator(recipe.seed, "kinds", split, i).choice(
        len(kinds[split]), motions.objects_needed(template), replace=False
      )
      clips.append(_Clip(int(next(ids)), split, template, tuple(kinds[split][k] for k in chosen)))
  return clips


def _annotations(clips: list[_Clip]) -> dict[str, object]:
  names = [_bare(template) for template in motions.TEMPLATES]
  files: dict[str, object] = {"labels.json": {name: str(i) for i, name in enumerate(names)}}
  files["pairs.json"] = {
    kind: [[_bare(first), _bare(second)] for first, second in pairs]
    for kind, pairs in (("mirrored", motions.MIRRORED), ("reversed in time", motions.PAIRS))
  }
  for split in SPLITS:
    files[f"{split}.json"] = [
      {
        "id": str(clip.id),
        "label": _fill(clip.template, clip.kinds),
        "template": clip.template,
        "placeholders": [f"a {kind}" for kind in clip.kinds],
      }
      for clip in clips
      if clip.split == split
    ]
  return files


def _bare(template: str) -> str:
  return template.replace("[", "").replace("]", "")


def _fill(template: str, kinds: tuple[objects.ObjectKind, ...]) -> str:
  for kind in kinds:
    template = template.replace("[something]", f"a {kind}", 1)
  return template.lower()


def _write_all(clips: list[_Clip], recipe: Recipe, folder: pathlib.Path, workers: int):
  jobs = [(clip, recipe, str(folder / "videos" / f"{clip.id}.webm")) for clip in clips]
  if workers <= 1:
    yield from map(_write, jobs)
    return
  # Spawned, because the parent may hold threads of jax that a fork would copy in an undefined state.
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
    yield from pool.map(_write, jobs, chunksize=16)


def _write(job: tuple[_Clip, Recipe, str]) -> tuple[str, str]:
  """Renders, encodes and decodes one clip; (hash of the decoded pixels, hash of the file)."""
  cv2.setNumThreads(1)
  clip, recipe, path = job
  rng = generator(recipe.seed, "clip", clip.id)
  frames = int(rng.integers(recipe.frames_min, recipe.frames_max + 1))
  sprites = tuple(objects.draw(kind, rng) for kind in clip.kinds)
  motion = motions.motion(clip.template, rng)
  _encode(rendering.render(motion, sprites, frames, recipe.height, recipe.width, rng), path, recipe.fps)
  return _hash_pixels(path, frames), hash_file(path)


def _encode(clip: np.ndarray, path: str, fps: int) -> None:
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


def _hash_pixels(path: str, frames: int) -> str:
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
