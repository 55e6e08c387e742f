"""Small real videos and their annotations in the form of the official download, and job prepare on them."""

import json
import pathlib

import cv2
import numpy as np
from rich.console import Console

from configs import prepare as any_config
from gasmcast.jobs import prepare
from tests.videos.conftest import encode

CLASSES = ("Moving something up", "Moving something down")
SPLITS = {"train": range(8), "validation": range(8, 12), "test": range(12, 14)}


def clip(path, number, frames, height=80, width=96):
  """A pattern of blocks that moves; every number is another pattern."""
  blocks = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
  size = {"dsize": (width, height), "interpolation": cv2.INTER_NEAREST}
  return pathlib.Path(encode(path, [cv2.resize(np.roll(blocks, n, axis=1), **size) for n in range(frames)]))


def annotate(folder, splits=SPLITS):
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "labels.json").write_text(json.dumps({name: str(number) for number, name in enumerate(CLASSES)}))
  for split, ids in splits.items():
    entries = [{"id": str(n), "template": CLASSES[n % 2].replace("something", "[something]")} for n in ids]
    entries = [{"id": one["id"]} for one in entries] if split == "test" else entries
    (folder / f"{split}.json").write_text(json.dumps(entries))


def setup(workdir, source, dataset="something_something", config=None, **fields):
  """A checked setup; fields by dotted name with "__" for the dots."""
  config = config or any_config.get_config(dataset)
  fields = {
    "source": None if source is None else str(source),
    "splits": tuple(SPLITS),
    "workers": 1,
    "shard": 4,
    **fields,
  }
  for name, value in fields.items():
    *path, last = name.split("__")
    place = config.prepare
    for part in path:
      place = place[part]
    place[last] = value
  made = prepare.Setup(config, workdir, "python launch/main.py", Console(record=True, width=160))
  prepare.check(made)
  return made


def run(*arguments, **fields):
  """quality.json and what was printed."""
  made = setup(*arguments, **fields)
  prepare.run(made)
  return json.loads((made.workdir / "quality.json").read_text()), made.console.export_text()


def state(folder):
  """Path -> content hash and time of every file and folder."""
  return {
    str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
    for path in [folder, *folder.rglob("*")]
  }


def results(workdir):
  """What a run has made, without what names the working directory or the moment."""
  names = ("videos.jsonl", "flagged.jsonl", "checksums.b3", "index/index.json", "index/train.jsonl")
  text = {name: (workdir / name).read_text().replace(str(workdir), "") for name in names}
  index_json = json.loads(text["index/index.json"])
  for split in index_json["splits"].values():
    del split["blake3"]  # of a file with paths
  return text | {"index/index.json": index_json}


def checks(quality):
  return {one["name"]: one for one in quality["checks"]}
