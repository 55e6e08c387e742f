"""The moving-objects data set: rendered clips as real VP8 .webm files in the Something-Something-V2 layout.

    root/videos/<id>.webm     labels.json     {class name: "index"}
    root/train.json, validation.json, test.json     [{"id", "label", "template", "placeholders"}]
    root/pairs.json           {what sets them apart ("mirrored", "reversed in time", ...): [[class name, class name]]}
    root/dataset.json         name, recipe, hash of the decoded pixels and annotations, hash of every file

The defaults of a recipe are the easy setting. Four fields make it harder, each on its own: more templates, distractors,
a moving camera, and backgrounds of families that no two splits share. The class, motion and look of the actors are the
same with and without distractors and a moving camera.

The same recipe gives the same pixels. The files themselves differ from run to run (a .webm holds a random id), so the
data set is identified by what a decoder gives back. It appears under its name only when it is whole.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np

from gasmcast.core.config import difference, require, to_dict
from gasmcast.core.errors import DataError
from gasmcast.core.manifest import hash_file, hash_json, read_json, write_json
from gasmcast.core.rng import generator
from gasmcast.datasets.generated import (
  backgrounds,
  camera,
  distractors,
  encoding,
  motions,
  objects,
  rendering,
  templates,
)

SPLITS = ("train", "validation", "test")
_VERSION = 1  # raised whenever the same recipe gives other pixels
_KIND_SHARES = {"train": 0.7, "validation": 0.12, "test": 0.18}
_FAMILY_COUNTS = {"train": 6, "validation": 2, "test": 2}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Everything that the pixels depend on.

  Attributes:
    seed: of all random choices.
    train, validation, test: clips of each split, spread evenly over the classes.
    height, width: of the videos, in pixels.
    frames_min, frames_max: the length of a clip is drawn from this range (both ends included).
    fps: frames per second that the container states.
    templates: the classes; see templates.py. "twenty_four" begins with the "twelve".
    distractors: how many objects lie about that take no part; see distractors.py.
    camera: how far the image pans over every clip, in image heights, in any direction; see camera.py.
    zoom: by what share it grows or shrinks over every clip.
    backgrounds: "clouds" in all splits, or "families", of which no two splits share one; see backgrounds.py.
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
  templates: Literal["twelve", "twenty_four"] = "twelve"
  distractors: int = 0
  camera: float = 0.0
  zoom: float = 0.0
  backgrounds: Literal["clouds", "families"] = "clouds"

  def __post_init__(self):
    classes = len(templates.SETS[self.templates].names)
    for split in SPLITS:
      clips = getattr(self, split)
      require(
        clips >= classes,
        f"recipe.{split} = {clips}: a split needs a clip of each of the {classes} classes; use more.",
      )
    require(
      2 <= self.frames_min <= self.frames_max,
      f"recipe.frames_min = {self.frames_min}, frames_max = {self.frames_max}: need 2 <= frames_min <= frames_max.",
    )
    require(
      min(self.height, self.width) >= 32 and self.height % 2 == self.width % 2 == 0,
      f"recipe.height x width = {self.height} x {self.width}: both must be even and at least 32 pixels.",
    )
    require(
      0 <= self.distractors <= distractors.MOST,
      f"recipe.distractors = {self.distractors}: there is room for {distractors.MOST}; use 0 to {distractors.MOST}.",
    )
    require(
      0 <= self.camera <= camera.MAX_PAN and 0 <= self.zoom <= camera.MAX_ZOOM,
      f"recipe.camera = {self.camera}, zoom = {self.zoom}: the camera must move less than the objects do; use 0 to "
      f"{camera.MAX_PAN} image heights and 0 to {camera.MAX_ZOOM}.",
    )


@dataclasses.dataclass(frozen=True)
class _Clip:
  id: int
  split: str
  template: str
  kinds: tuple[objects.ObjectKind, ...]
  distractors: tuple[objects.ObjectKind, ...]
  background: str


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
  annotations = _annotations(clips, templates.SETS[recipe.templates])
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
  """Which clip shows what: classes in turn, objects and background drawn from those of the split."""
  kinds, names = objects.split_kinds(recipe.seed, _KIND_SHARES), templates.SETS[recipe.templates].names
  families = _families(recipe)
  ids = iter(generator(recipe.seed, "ids").permutation(recipe.train + recipe.validation + recipe.test) + 1)
  clips = []
  for split in SPLITS:
    for i in range(getattr(recipe, split)):
      template = names[i % len(names)]
      chosen = generator(recipe.seed, "kinds", split, i).choice(
        len(kinds[split]), motions.objects_needed(template), replace=False
      )
      others = np.setdiff1d(np.arange(len(kinds[split])), chosen)
      around = generator(recipe.seed, "distractors", split, i).choice(others, recipe.distractors, replace=False)
      family = families[split][generator(recipe.seed, "background", split, i).integers(len(families[split]))]
      actors, extras = (tuple(kinds[split][k] for k in picked) for picked in (chosen, around))
      clips.append(_Clip(int(next(ids)), split, template, actors, extras, family))
  return clips


def _families(recipe: Recipe) -> dict[str, tuple[str, ...]]:
  if recipe.backgrounds == "families":
    return backgrounds.split_families(recipe.seed, _FAMILY_COUNTS)
  return dict.fromkeys(SPLITS, (recipe.backgrounds,))


def _annotations(clips: list[_Clip], classes: templates.TemplateSet) -> dict[str, object]:
  files: dict[str, object] = {"labels.json": {_bare(name): str(i) for i, name in enumerate(classes.names)}}
  files["pairs.json"] = {
    kind: [[_bare(first), _bare(second)] for first, second in pairs] for kind, pairs in classes.pairs.items()
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
  frames = _render(clip, recipe)
  encoding.write(frames, path, recipe.fps)
  return encoding.hash_pixels(path, len(frames)), hash_file(path)


def _render(clip: _Clip, recipe: Recipe) -> np.ndarray:
  """The frames of one clip, uint8 [T, H, W, 3]."""
  rng = generator(recipe.seed, "clip", clip.id)
  frames = int(rng.integers(recipe.frames_min, recipe.frames_max + 1))
  sprites = tuple(objects.draw(kind, rng) for kind in clip.kinds)
  motion = templates.motion(clip.template, rng)
  surroundings = _surroundings(clip, recipe, motion)
  return rendering.render(motion, sprites, frames, recipe.height, recipe.width, rng, surroundings)


def _surroundings(clip: _Clip, recipe: Recipe, actors: motions.Motion) -> rendering.Surroundings:
  """Drawn from streams of their own, so that the actors are the same whatever is around them."""
  rng = generator(recipe.seed, "distractors of a clip", clip.id)
  placed = distractors.place(len(clip.distractors), actors, recipe.width / recipe.height, rng)
  return rendering.Surroundings(
    background=backgrounds.FAMILIES[clip.background],
    distractors=tuple((path, objects.draw(kind, rng)) for path, kind in zip(placed, clip.distractors, strict=False)),
    camera=camera.moving(recipe.camera, recipe.zoom, generator(recipe.seed, "camera", clip.id)),
  )
