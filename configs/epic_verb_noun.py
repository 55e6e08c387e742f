"""Verb and noun of the actions of EPIC-KITCHENS-100 from 8 frames, with attention between the two tasks.

  python launch/main.py --config configs/epic_verb_noun.py --workdir runs/verb_noun --job count
  python launch/main.py --config configs/epic_verb_noun.py:independent --workdir runs/independent --job count

The argument is the variant: cross_task; independent (a classifier a task behind the transformer) and baseline (behind
the mean of ResNet-50's features) to compare with. `tokens=none` leaves the backbone out: clips are features [8, 2048].
Cost: none, job count alone knows this system so far. Expected: 146,490,317 parameters, of which 145,045,389 trainable;
independent 128,844,237; baseline 25,809,869.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: variant=cross_task|independent|baseline, tokens=frames|none."""
  arguments = common.options(arg, variant="cross_task", tokens="frames")
  config = ConfigDict()
  config.job = "count"
  config.system = "verb_noun"
  config.model = ConfigDict(
    {
      "semantic": common.stream("resnet50", trainable=True, frozen_stages=2),
      "tokens": arguments.tokens,
      "variant": arguments.variant,
      "frames": 8,
      "verbs": 97,
      "nouns": 300,
      "temporal_layers": 2,
      "temporal_hidden": 8192,
      "heads": 8,
      "width": 1024,
      "cross_hidden": 2048,
      "hidden": 512,
      "dropout": 0.5,
      "temporal_dropout": 0.1,
      "drop_path": 0.1,
      "dtype": "bfloat16",
      "max_trainable": 0,
    }
  )
  config.optim = common.optim()
  config.optim.update({"lr": 5e-5, "weight_decay": 1e-4, "clip_norm": 1.0})
  config.optim.update({"schedule": "restarts", "cycle_steps": "10 epochs", "warmup_steps": "0 steps"})
  return config
