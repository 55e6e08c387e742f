"""GASM-CAST, small, on features whose best possible accuracy is known by construction.

  python launch/main.py --config configs/feature_sets.py --workdir runs/feature_sets
  python launch/main.py --config configs/feature_sets.py:conjunction_in_place --workdir runs/conjunction_in_place

The argument names the task: object_trajectory (the default), directions, conjunction_in_time, conjunction_in_place; see
docs/ceilings.md. The features are made on the spot, so nothing is downloaded and no backbone runs.
Cost: about a minute on 2 CPU cores. Expected: top-1 1.00 on test, where one stream alone reaches at most 0.125 or 0.25.
More noise: --config.data.options.noise=1.5
"""

from ml_collections import ConfigDict, config_dict

from configs import common

OBJECTS, TRAJECTORIES, KINDS = 8, 8, 2
TASKS = {  # name -> (fields of the task, classes, steps)
  "object_trajectory": ({"time": 8, "pairs_of_trajectories": TRAJECTORIES // 2}, OBJECTS * TRAJECTORIES, 400),
  "directions": ({"time": 6}, OBJECTS * 4, 400),
  "conjunction_in_time": ({"time": 8, "kinds": KINDS}, OBJECTS * KINDS, 600),
  "conjunction_in_place": ({"time": 4, "kinds": KINDS}, OBJECTS * KINDS, 600),
}


def data(task: str) -> ConfigDict:
  """What differs from task to task: the fields of `config.data` that say which features there are."""
  fields, classes, _ = TASKS[task]
  absent = {name: config_dict.placeholder(int) for name in ("pairs_of_trajectories", "kinds")}  # of other tasks
  options = {"task": task, "objects": OBJECTS, "grid": (4, 4), **absent, **fields}
  sizes = {"semantic_width": 32, "motion_width": 24, "amplitude": 3.0, "background": 0.3, "noise": 0.0}
  clips = {"train": 8192, "validation": 512, "test": 2048, "seed": 0}
  return ConfigDict({"classes": classes, "options": options | sizes | clips})


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: task=object_trajectory|directions|conjunction_in_time|conjunction_in_place, runlocal (a run of seconds)."""
  arguments = common.options(arg, task="object_trajectory", runlocal=False)
  if arguments.task not in TASKS:
    raise ValueError(f"config argument task={arguments.task}: use one of {', '.join(TASKS)}.")
  config = ConfigDict()
  config.job = "train,evaluate,report"
  config.system = "gasmcast"
  config.seed = 0

  loading = {"global_batch": 32, "sampling": "uniform", "workers": 0, "threads": 1, "prefetch": 4}
  config.data = ConfigDict({"dataset": "feature_sets", **loading})
  config.data.update(data(arguments.task))
  config.model = ConfigDict(
    {
      "variant": "efficient",
      "semantic_tokens": "patches",
      "motion_tokens": "segments",
      "repeat_motion": False,
      "stride": 1,
      "fusion": common.fusion(),
      "semantic": {"name": "given"},
      "motion": {"name": "given"},
      "dtype": "float32",
      "label_smoothing": 0.1,
      "class_weights": "none",
      "class_weights_beta": 0.999,
      "mixing": common.mixing(),
      "auxiliary_weight": 0.2,
      "max_trainable": 20_000_000,
    }
  )
  config.model.fusion.update({"bottleneck": 32, "heads": 4, "bcast_ffn_ratio": 2.0, "dropout": 0.0})

  config.init = common.init()
  config.optim = common.optim()
  config.optim.update({"lr": 3e-3, "warmup_steps": "50 steps", "weight_decay": 0.02})
  steps = TASKS[arguments.task][2]
  config.train = common.train(steps=f"{steps} steps", log_every="50 steps", validate_every=f"{steps} steps")
  config.evaluate = ConfigDict({"splits": ("validation", "test"), "attention_clips": 4})
  config.sharding = common.sharding()

  if arguments.runlocal:
    config.data.options.update({"train": 64, "validation": 32, "test": 32})
    config.train.update({"steps": "4 steps", "log_every": "1 steps", "validate_every": "4 steps"})
    config.optim.warmup_steps = "1 steps"
  return config
