"""From pixels, at a harder setting: does the fusion earn its place when appearance and motion are learned from videos?

  python launch/main.py --config configs/moving_objects.py --workdir runs/moving_objects

24 actions in pairs that are each other mirrored, reversed in time, in another order or nearer and farther; three
objects that take no part, a camera that pans and zooms, backgrounds of families that no two splits share. Five models
with the same data, steps and settings, three seeds; the pairs are reported on their own. Nothing was searched for any
of them: the settings are those of configs/quickstart.py, with four passes in place of six, validated once, at the end.
Cost: about an hour on 2 CPU cores (one worker); expected numbers: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import common, quickstart
from configs.ablations import settings
from configs.ablations.settings import LATE, VANILLA, variant

VARIANTS = (
  variant("GASM-CAST"),
  variant("vanilla cross-attention", graph_neighbours="none", **VANILLA),
  variant("late concat", **LATE, pooling="mean"),
  variant("semantic alone", streams="semantic"),
  variant("motion alone", streams="motion"),
)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: runlocal (a grid of seconds, to see that it works)."""
  arguments = common.options(arg, runlocal=False)
  config = quickstart.get_config("runlocal" if arguments.runlocal else "")
  config.job = "generate,ablate"
  config.generate.update({"templates": "twenty_four", "distractors": 3, "camera": 0.15, "zoom": 0.1})
  config.generate.update({"backgrounds": "families", "train": 1440, "validation": 240, "test": 480})
  config.data.update({"root": "data/moving_objects_hard", "classes": 24})
  config.model.fusion.auxiliary = False  # without layers there is nothing between them to hang a head on
  config.train.update({"steps": "4 epochs", "validate_every": "4 epochs", "trackers": ()})
  data = ({"name": "rendered videos"},)
  config.ablate = settings.grid("Streams and their fusion, from pixels", VARIANTS, "GASM-CAST", data)
  if arguments.runlocal:
    config.generate.update({"train": 24, "validation": 24, "test": 24})
    config.data.root = "data/moving_objects_hard_tiny"
    config.train.update({"steps": "8 steps", "validate_every": "8 steps"})
    config.ablate.seeds = (0,)
  return config
