"""GASM-CAST on Something-Something-V2: frozen published backbones, 174 classes, under 20M trainable parameters.

  python launch/main.py --config configs/ssv2_gasmcast.py --workdir runs/ssv2
  python launch/main.py --config configs/ssv2_gasmcast.py:base --workdir runs/count --job count

The argument is the variant: literal, small, base, large, efficient (the default: graphs at the bottleneck width, which
keeps fusion and graphs together under half the arithmetic of vanilla cross-attention), and the backbones:

  :efficient                                           DINOv3 ViT-B/16 (asks for access on the Hugging Face Hub), R3D-18
  :efficient,semantic=dinov2_vitb14                    without asking for access
  :efficient,semantic=efficientnet_lite0,motion=i3d_rgb    from Python packages, no network (7 x 7 tokens: no 2x2 merge)

Weights that lie here: --config.model.semantic.weights=FILE_OR_FOLDER, --config.model.motion.weights=FILE.
Cost and expected number: nothing of this size has been run so far. Every epoch passes every clip through both
backbones: with the defaults 143 GMAC (DINOv3 ViT-B/16 on 8 frames) and 53 GMAC (R3D-18, a-trous, 16 frames).
`runlocal` trains the same code in seconds on the rendered videos: configs/ssv2_gasmcast.py:efficient,runlocal
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: variant=literal|small|base|large|efficient, semantic=NAME, motion=NAME (published backbones), runlocal."""
  arguments = common.options(arg, variant="efficient", semantic="dinov3_vitb16", motion="r3d_18", runlocal=False)
  config = ConfigDict()
  config.job = "train,evaluate,report"
  config.system = "gasmcast"
  config.seed = 0

  config.data = ConfigDict(
    {
      "dataset": "something_something",
      "options": {},
      "root": "data/something_something_v2",
      "store": config_dict.placeholder(str),
      "classes": 174,
      "global_batch": 64,
      "frames": 16,
      "size": 224,
      "short_side": 256,
      "augmentation": common.augmentation(),
      "sampling": "uniform",
      "workers": 8,
      "threads": 2,
      "prefetch": 4,
      "cache_bytes": 0,
      "cache_eviction": "none",
    }
  )
  config.update(common.jobs_on_features(arguments.semantic))
  config.model = ConfigDict(
    {
      "variant": arguments.variant,
      "semantic_tokens": "patches",
      "motion_tokens": "segments",
      "repeat_motion": False,
      "stride": 2,
      "fusion": common.fusion(arguments.semantic),
      "semantic": common.stream(arguments.semantic),
      "motion": common.stream(arguments.motion),
      "dtype": "bfloat16",
      "label_smoothing": 0.1,
      "class_weights": "none",
      "class_weights_beta": 0.999,
      "mixing": common.mixing(),
      "auxiliary_weight": 0.2,
      "max_trainable": 20_000_000,
    }
  )
  config.model.fusion.auxiliary = True
  config.model.fusion.dropout = 0.1

  config.init = common.init()
  config.optim = common.optim()
  config.train = common.train(steps="30 epochs", patience=5, max_error_share=0.01)
  config.evaluate = ConfigDict({"splits": ("validation",), "attention_clips": 8})
  config.sharding = common.sharding()

  if arguments.runlocal:
    common.run_on_rendered_videos(config)
  return config
