"""Fields that several configs share. The defaults of the library stand in its dataclasses; here are the choices."""

from ml_collections import ConfigDict, config_dict


def options(arg: str, **defaults: str | bool) -> ConfigDict:
  """The config argument "name=value,flag" as fields; the first value may stand without its name.

  Raises:
    ValueError: an unknown name or a value that is not of the default's type.
  """
  parsed = ConfigDict(defaults)
  for position, part in enumerate(filter(None, (arg or "").split(","))):
    name, given, value = part.partition("=")
    if not given:
      if isinstance(defaults.get(name), bool):
        value = "True"
      elif position == 0:
        name, value = next(iter(defaults)), part
    if name not in defaults:
      raise ValueError(f"config argument {part!r} is unknown; known: {', '.join(defaults)}.")
    if isinstance(defaults[name], bool):
      if value not in ("True", "False"):
        raise ValueError(f"config argument {name}={value}: use True or False.")
      parsed[name] = value == "True"
    else:
      parsed[name] = value
  return parsed


def fusion() -> ConfigDict:
  """Every field of the fusion, None meaning "as in the variant", so that each can be set from the command line."""
  kinds = {
    str: (
      "streams relative_bias graph_width graph_neighbours graph_score direction pooling",
    ),
    int: (
      "heads semantic_blocks motion_blocks semantic_radius semantic_nearest motion_window motion_radius motion_nearest",
      "bottleneck",
    ),
    float: ("bias_std graph_ffn_ratio layer_scale bcast_ffn_ratio embedding_std dropout drop_path",),
    tuple: ("windows merge_before",),
    bool: ("time_embedding space_embedding zero_init pool_time_bias auxiliary remat",),
  }
  return ConfigDict(
    {name: config_dict.placeholder(kind) for kind, names in kinds.items() for name in " ".join(names).split()}
  )


def augmentation() -> ConfigDict:
  """Random changes of training clips; see videos/pipeline.py."""
  return ConfigDict(
    {
      "scale": (0.5, 1.0),
      "ratio": (0.75, 4 / 3),
      "brightness": 0.2,
      "contrast": 0.2,
      "saturation": 0.2,
      "flip": 0.5,
    }
  )


def optim() -> ConfigDict:
  """AdamW with warm-up and cosine; see training/optim.py."""
  return ConfigDict(
    {
      "optimizer": "adamw",
      "lr": 1e-3,
      "warmup_steps": "500 steps",
      "final_lr_fraction": 0.0,
      "beta1": 0.9,
      "beta2": 0.999,
      "eps": 1e-8,
      "clip_norm": 1.0,
      "weight_decay": 0.05,
    }
  )
