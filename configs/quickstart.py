"""GASM-CAST, small, on rendered videos: the whole way from video files to a report on a laptop.

  python launch/main.py --config configs/quickstart.py --workdir runs/quickstart

Cost: 7 to 13 minutes on 2 CPU cores. Expected: top-1 0.96 to 0.99 on test (docs/results.md).
The argument names the streams, for comparison: configs/quickstart.py:semantic, configs/quickstart.py:motion.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: streams=both|semantic|motion, runlocal (a run of seconds, to see that it works)."""
  arguments = common.options(arg, streams="both", runlocal=False)
  config = ConfigDict()
  config.job = "generate,train,evaluate,report"
  config.system = "gasmcast"
  config.seed = 0

  config.generate = common.moving_objects()
  config.data = _data()
  config.model = _model(arguments.streams)

  config.init = common.init()
  config.optim = common.optim()
  config.optim.lr = 3e-3
  config.optim.warmup_steps = "50 steps"
  config.optim.weight_decay = 0.02
  config.optim.decay_rules = ((r"(^|/)kernel$", True), (".*", False))  # as its numbers were made: not qkv_kernel

  config.train = common.train(steps="6 epochs", log_every="20 steps", checkpoint_every="100 steps")
  config.evaluate = ConfigDict({"splits": ("validation", "test"), "attention_clips": 4})
  config.sharding = common.sharding()
  config.search = common.search()

  if arguments.runlocal:
    common.run_on_rendered_videos(config)
  return config


def _data() -> ConfigDict:
  data = ConfigDict(
    {
      "dataset": "something_something",
      "root": "data/moving_objects",
      "classes": 12,
      "global_batch": 16,
      "frames": 16,
      "size": 64,
      "short_side": 80,
      "augmentation": common.augmentation(),
      "sampling": "uniform",
      "workers": 0,
      "threads": 2,
      "prefetch": 4,
      "cache_bytes": 1_000_000_000,
      "cache_eviction": "none",
    }
  )
  data.augmentation.scale = (0.7, 0.9)
  data.augmentation.ratio = (0.9, 1.1)
  return data


def _model(streams: str) -> ConfigDict:
  model = ConfigDict(
    {
      "variant": "efficient",
      "semantic_tokens": "patches",
      "motion_tokens": "grid",
      "repeat_motion": False,
      "stride": 2,
      "fusion": common.fusion(),
      "semantic": common.stream(
        "dinov3",
        weights="random",
        trainable=True,
        width=64,
        depth=2,
        heads=4,
        mlp_width=128,
        patch=8,
        image_size=48,
      ),
      "motion": common.stream(
        "r3d",
        weights="random",
        trainable=True,
        widths=(16, 32, 64, 128),
        blocks=(1, 1, 1, 1),
        norm="group",
        image_size=32,
        differences=True,
      ),
      "dtype": "float32",
      "label_smoothing": 0.1,
      "class_weights": "none",
      "class_weights_beta": 0.999,
      "mixing": common.mixing(),
      "auxiliary_weight": 0.2,
      "max_trainable": 20_000_000,
    }
  )
  model.fusion.streams = streams
  model.fusion.bottleneck = 64
  model.fusion.heads = 4
  model.fusion.bcast_ffn_ratio = 2.0
  model.fusion.auxiliary = True
  model.fusion.dropout = 0.0
  return model
