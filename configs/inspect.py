"""Looks at real clips through two backbones: a picture and a file of numbers for each.

  python launch/main.py --config configs/inspect.py --workdir runs/inspect --config.inspect.video=clip.mp4

Cost: compilation, then one pass of the motion network for each of its segments and one more, a clip. The default
networks need no network access, only the extra [weights]. The argument names others by family or in full:
configs/inspect.py:dinov2, configs/inspect.py:dinov3_vitl16,motion=r3d_18.
"""

from ml_collections import ConfigDict, config_dict

from configs import common

_SEMANTIC = {"efficientnet": "efficientnet_lite0", "dinov2": "dinov2_vits14", "dinov3": "dinov3_vitb16"}
_MOTION = {"i3d": "i3d_rgb", "r3d": "r3d_18", "vjepa2": "vjepa2_vitl16"}


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: semantic=efficientnet|dinov2|dinov3|(a name), motion=i3d|r3d|vjepa2|(a name), runlocal (tiny networks with
  random weights on a rendered clip, to see that it works)."""
  arguments = common.options(arg, semantic="efficientnet", motion="i3d", runlocal=False)
  semantic = _SEMANTIC.get(arguments.semantic, arguments.semantic)
  motion = _MOTION.get(arguments.motion, arguments.motion)
  config = ConfigDict()
  config.job = "inspect"
  config.inspect = ConfigDict(
    {
      "video": config_dict.placeholder(str),
      "semantic": {
        "name": semantic,
        "weights": config_dict.placeholder(str),
        # EfficientNet has a token for 32 x 32 pixels; a larger frame makes the picture as fine as that of a ViT.
        "options": {"image_size": 448 if semantic == "efficientnet_lite0" else 224},
      },
      "motion": {
        "name": motion,
        "weights": config_dict.placeholder(str),
        "options": {} if motion.startswith("vjepa2") else {"mode": "atrous"},
      },
      "frames": 16,
      "start": config_dict.placeholder(float),
      "stop": config_dict.placeholder(float),
      "save_features": False,
    }
  )
  if arguments.runlocal:
    config.inspect.video = "rendered"
    tiny = {"width": 32, "depth": 2, "heads": 4, "mlp_width": 64, "patch": 8, "image_size": 64}
    config.inspect.semantic = ConfigDict({"name": "dinov3_vitb16", "weights": "random", "options": tiny})
    tiny = {"mode": "atrous", "widths": (8, 8, 16, 32), "blocks": (1, 1, 1, 1), "image_size": 64}
    config.inspect.motion = ConfigDict({"name": "r3d_18", "weights": "random", "options": tiny})
  return config
