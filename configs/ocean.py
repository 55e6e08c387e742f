"""OCEAN: five personality traits from the features of a face (512) and of its motion (256).

  python launch/main.py --config configs/ocean.py --workdir runs/ocean --job count

Cost: none, job count alone knows this system so far. Expected: 371,461 trainable parameters, 256 buffers.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: none is known."""
  common.options(arg)
  config = ConfigDict()
  config.job = "count"
  config.system = "ocean"
  config.model = ConfigDict(
    {
      "static_dim": 512,
      "dynamic_dim": 256,
      "fusion_dim": 128,
      "num_heads": 4,
      "hidden_dim": 64,
      "dropout_rate": 0.3,
      "dtype": "float32",
      "max_trainable": 0,
    }
  )
  config.optim = common.optim()
  config.optim.update({"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "clip_norm": 1.0})
  config.optim.update({"schedule": "plateau", "warmup_steps": "0 steps"})
  config.optim.plateau.update({"factor": 0.5, "patience": 5, "min_scale": 1e-3})  # down to 1e-6
  return config
