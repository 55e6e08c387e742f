"""Frozen features and GASM-CAST on a small set of real clips: prepare, extract once, cross-validate.

  pip install -e ".[weights,report]"
  python launch/main.py --config configs/fight.py --workdir runs/fight --config.data.root=data/fight

The data: 240 clips of 2 s from surveillance cameras, fights and everyday scenes (Akti et al., IPTA 2019), in
the layout of Something-Something-V2 with sources.csv, which says what film each clip was cut from. No film is in two
folds. Any other set in this layout, or with groups of its own, goes the same way.
Cost: 5 minutes of extraction, then 45 trainings of half a minute, on 2 CPU cores. Expected: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import common, own_videos


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: semantic=NAME, motion=NAME (of published backbones)."""
  arguments = common.options(arg, semantic="efficientnet_lite0", motion="i3d_rgb")
  config = own_videos.get_config(f"semantic={arguments.semantic},motion={arguments.motion}")
  config.job = "extract,cross_validate"
  config.data.update({"root": "data/fight", "classes": 2, "store": "data/fight_features", "global_batch": 16})
  config.data.frames = 32
  config.extract.update({"batch": 4, "shard": 32})
  config.folds = ConfigDict(
    {
      "folds": 5,
      "seeds": (0, 1, 2),
      "splits": ("train", "validation"),
      "streams": ("semantic", "motion", "both"),
      "strength": 0.01,
    }
  )

  # Four segments of eight frames from the network as published, and the frame that begins each.
  config.model.stride = 8
  config.model.motion.mode = "native"
  # 190 clips to train on: a small head, few passes. Chosen on divisions (seeds from 100) that the table does not use.
  config.model.fusion.update({"bottleneck": 32, "heads": 4, "dropout": 0.5, "auxiliary": False, "pooling": "mean"})
  config.optim.lr = 3e-4
  config.optim.weight_decay = 0.1
  config.train.steps = "3 epochs"
  return config
