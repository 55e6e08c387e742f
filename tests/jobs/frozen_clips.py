"""A few clips and two tiny frozen networks in files, for the jobs that extract features and those that read them."""

import csv
import json
import pathlib

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict

from configs import own_videos
from tests.features.random_weights import random_variables, save_variables

CLASSES = ("Moving to the left", "Moving to the right", "Waving")
CLIPS = {"train": 10, "validation": 8, "test": 3}
SEMANTIC = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 16, "patch": 8, "image_size": 32}
MOTION = {"widths": (8, 8, 8, 16), "blocks": (1, 1, 1, 1), "norm": "group", "image_size": 32}
_SIDE = 40


def write_data(root: pathlib.Path, clips: dict[str, int] | None = None) -> None:
  """The layout of Something-Something-V2: classes in turn, two clips a film, no answers of the test split."""
  (root / "videos").mkdir(parents=True)
  groups = []
  for split, count in (clips or CLIPS).items():
    entries = []
    for number in range(count):
      id, template = f"{split}{number}", CLASSES[number % 3]
      write_clip(root / "videos" / f"{id}.webm", number % 3, seed=len(groups))
      entries.append({"id": id} | ({} if split == "test" else {"template": template}))
      groups.append((id, f"{split} film {number // 2}"))
    (root / f"{split}.json").write_text(json.dumps(entries))
  (root / "labels.json").write_text(json.dumps({name: str(i) for i, name in enumerate(CLASSES)}))
  with (root / "sources.csv").open("w", newline="") as file:
    csv.writer(file).writerows([("id", "source_group"), *groups])


def write_clip(path: pathlib.Path, label: int, seed: int) -> None:
  """12 frames of a random picture that moves to the left, to the right, or not at all."""
  rng = np.random.default_rng(seed)
  picture = cv2.resize(rng.integers(0, 256, (5, 12, 3), np.uint8), (2 * _SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
  writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"VP80"), 12.0, (_SIDE, _SIDE))
  for frame in range(12):
    first = _SIDE // 2 + (frame, -frame, 0)[label]
    writer.write(np.ascontiguousarray(picture[:, first : first + _SIDE]))
  writer.release()


def write_networks(folder: pathlib.Path, seed: int = 0) -> None:
  """semantic.safetensors and motion.safetensors, as `Network.save` writes them."""
  for stream, family, name, fields in (
    ("semantic", "dinov3", "dinov3_vits16", SEMANTIC),
    ("motion", "r3d", "r3d_18", MOTION),
  ):
    config, variables = random_variables(family, fields, seed)
    smaller = jax.tree.map(lambda leaf: 0.3 * leaf, variables)
    save_variables(folder / f"{stream}.safetensors", smaller, name, config)


def make_config(root: pathlib.Path, networks: pathlib.Path) -> ConfigDict:
  """Job extract on these clips with these networks, float32, into shards of 3 clips; unlocked."""
  config = own_videos.get_config()
  config.job = "extract"
  config.data.update({"root": str(root), "classes": 3, "global_batch": 8, "frames": 8, "size": 32, "short_side": 40})
  config.model.semantic.update({"name": "dinov3", "weights": str(networks / "semantic.safetensors"), **SEMANTIC})
  config.model.motion.update({"name": "r3d", "weights": str(networks / "motion.safetensors"), **MOTION})
  config.model.fusion.update({"bottleneck": 16, "heads": 2, "auxiliary": False, "dropout": 0.0})
  config.extract.update({"batch": 2, "shard": 3})
  for stream in ("semantic", "motion"):
    config.extract[stream].precision = "float32"
  config.optim.warmup_steps = "1 steps"
  config.train.update({"steps": "3 steps", "log_every": "1 steps", "validate_every": "3 steps"})
  config.train.checkpoint_every = "3 steps"
  config.train.max_error_share = 0.5  # a clip of five can't be read
  return config
