"""Fields that several configs share. The defaults of the library stand in its dataclasses; here are the choices."""

from ml_collections import ConfigDict, config_dict

_STREAM_FIELDS = {
  str: "weights mode norm block positions",
  int: "width depth heads mlp_width patch tubelet registers position_grid stem stem_stride head width_divisor "
  "frozen_stages image_size",
  float: "layer_scale mlp_ratio epsilon",
  tuple: "widths blocks",
  bool: "gated_mlp antialias frozen_norm differences",
}
_FUSION_FIELDS = {
  str: "streams relative_bias graph_width graph_neighbours graph_score exchange direction pooling join",
  int: "heads semantic_blocks motion_blocks semantic_radius semantic_nearest motion_window motion_radius "
  "motion_nearest bottleneck lstm_width join_width",
  float: "bias_std graph_ffn_ratio layer_scale bcast_ffn_ratio embedding_std dropout drop_path",
  tuple: "windows merge_before",
  bool: "input_norm similarity_bias place_bias time_embedding space_embedding zero_init pool_time_bias auxiliary remat",
}
_STREAM_CHOICES = {"i3d_rgb": {"mode": "atrous"}}  # where the published network is not what a stream needs
_ODD_GRIDS = ("resnet50", "efficientnet_lite0")  # 7 x 7 tokens have no 2x2 merge


def options(arg: str, **defaults: str | bool | int) -> ConfigDict:
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
    elif isinstance(defaults[name], int):
      if not value.isdecimal():
        raise ValueError(f"config argument {name}={value}: use a whole number.")
      parsed[name] = int(value)
    else:
      parsed[name] = value
  return parsed


def stream(name: str, **fields) -> ConfigDict:
  """A backbone and every field that one of them has, None meaning "as published" (or the family's default).

  Args:
    name: of a published network ("dinov3_vitb16"; `weights` None: the published ones) or of a family of any size
      ("dinov3"; `weights` "random" with `trainable` True, or a file).
    **fields: that are given here.
  """
  config = ConfigDict({"name": name, "trainable": False, **_placeholders(_STREAM_FIELDS)})
  config.update(_STREAM_CHOICES.get(name, {}) | fields)
  return config


def fusion(semantic: str = "") -> ConfigDict:
  """Every field of the fusion, None meaning "as in the variant", so that each can be set from the command line.

  Args:
    semantic: name of the backbone; one with an odd grid has its merges turned off.
  """
  config = ConfigDict(_placeholders(_FUSION_FIELDS))
  if semantic in _ODD_GRIDS:
    config.merge_before = ()
  return config


def _placeholders(fields: dict[type, str]) -> dict:
  return {name: config_dict.placeholder(kind) for kind, names in fields.items() for name in names.split()}


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


def mixing() -> ConfigDict:
  """Rows of training batches mixed with each other, which is off: alpha 0; see systems/mixing.py."""
  return ConfigDict({"mixup": 0.0, "cutmix": 0.0, "probability": 1.0, "switch": 0.5})


def prepare(dataset: str, **options) -> ConfigDict:
  """Job prepare on a data set with these options of its reader; see jobs/preparation.py, metrics/quality_checks.py."""
  checks = {
    "official_counts": (0.0, "error"),
    "missing": (0.0, "error"),
    "unreadable": (0.001, "error"),
    "short": (0.01, "warning"),
    "black": (0.01, "warning"),
    "frozen": (0.01, "warning"),
    "small": (0.01, "warning"),
    "miscounted": (0.05, "warning"),
    "duplicates": (0.0, "warning"),
    "across_splits": (0.0, "warning"),
    "unmapped": (0.0, "error"),
    "fewest_examples": (1.0, "warning"),
    "changed": (0.0, "error"),
    "wrong_checksums": (0.0, "error"),
    "drift_examples": (0.01, "error"),
    "drift_flags": (0.01, "warning"),
    "drift_statistics": (0.2, "warning"),
    "drift_classes": (0.05, "warning"),
  }
  fields = {
    "dataset": dataset,
    "source": config_dict.placeholder(str),
    "annotations": config_dict.placeholder(str),
    "videos": config_dict.placeholder(str),
    "splits": ("train", "validation", "test"),
    "options": options,
    "checksums": (),
    "verify": False,
    "accept_changes": False,
    "baseline": config_dict.placeholder(str),
    "exclude": (),
    "workers": 0,
    "shard": 256,
    "timeout": 30.0,
    "memory": 300_000_000,
    "quality": {
      "min_frames": 8,
      "min_seconds": 0.5,
      "min_side": 64,
      "max_black": 0.5,
      "max_frozen": 0.9,
      "max_miscount": 0,
    },
    "checks": {name: {"limit": limit, "severity": severity} for name, (limit, severity) in checks.items()},
  }
  return ConfigDict({"job": "prepare", "prepare": fields})


def extract() -> ConfigDict:
  """The store of features and who fills it; see jobs/extraction.py and store/compression.py."""
  return ConfigDict(
    {
      "store": config_dict.placeholder(str),
      "splits": ("train", "validation"),
      "semantic": {"tokens": 0, "precision": "bfloat16", "pca": 0},
      "motion": {"tokens": 0, "precision": "bfloat16", "pca": 0},
      "views": 1,
      "pca_clips": 256,
      "batch": 8,
      "shard": 256,
      "threads": 2,
      "lease": 60.0,
      "verify": False,
    }
  )


def fidelity(semantic: str = "") -> ConfigDict:
  """The forms of features that job cache_fidelity compares; see jobs/cache_fidelity.py and store/compression.py.

  Args:
    semantic: name of the backbone, whose grid decides to how many tokens it can be averaged.
  """
  fewer = 0 if semantic in _ODD_GRIDS else 64 if semantic.startswith("dinov2") else 49
  forms = [(0, "bfloat16", 0), (0, "int8", 0), (fewer, "bfloat16", 0), (fewer, "int8", 0), (fewer, "int8", 256)]
  forms += [(1, "bfloat16", 0), (1, "int8", 0)]
  return ConfigDict(
    {
      "variants": tuple({"tokens": n, "precision": name, "pca": pca} for n, name, pca in dict.fromkeys(forms)),
      "split": "validation",
      "clips": 256,
      "pca_split": "train",
      "pca_clips": 256,
      "stored": True,
      "head": config_dict.placeholder(str),
    }
  )


def jobs_on_features(semantic: str = "") -> ConfigDict:
  """Sections of the jobs that make and use stored features, and who fills the store; see docs/features.md.

  Args:
    semantic: name of the backbone.
  """
  return ConfigDict(
    {
      "extract": extract(),
      "engine": "local",
      "cluster": {"workers": 1, "cpus": 1.0, "gpus": 0.0, "address": config_dict.placeholder(str)},
      "predict": {"splits": ("test",), "stored": True},
      "fidelity": fidelity(semantic),
    }
  )


def search() -> ConfigDict:
  """Ranges of what most often decides a training of GASM-CAST; see jobs/search_plan.py and docs/search.md."""
  return ConfigDict(
    {
      "trials": 20,
      "workers": 1,
      "gpus": 0,
      "fixed": (),
      "baseline": True,
      "known": (),
      "startup": 8,
      "pruner": "median",
      "pruner_startup": 4,
      "grace": 1,
      "max_failures": 3,
      "space": {
        "optim": {
          "lr": {"low": 1e-4, "high": 1e-2, "log": True},
          "weight_decay": {"low": 1e-3, "high": 0.3, "log": True},
        },
        "model": {
          "label_smoothing": {"values": (0.0, 0.05, 0.1, 0.2)},
          "fusion": {"dropout": {"low": 0.0, "high": 0.5, "step": 0.1}},
        },
      },
    }
  )


def keep_cases(cases: ConfigDict, wanted: str) -> None:
  """Keeps, of the cases of a benchmark, the one of this name, or those whose names begin so.

  Raises:
    ValueError: no case begins so.
  """
  kept = [wanted] if wanted in cases else [name for name in cases if name.startswith(wanted)]
  if not kept:
    raise ValueError(f"config argument cases={wanted}: no case begins so; there are {', '.join(cases)}.")
  for name in set(cases) - set(kept):
    del cases[name]


def optim() -> ConfigDict:
  """AdamW with warm-up and cosine, and every field of the others; see training/optim.py and docs/training.md."""
  return ConfigDict(
    {
      "optimizer": "adamw",
      "lr": 1e-3,
      "warmup_steps": "500 steps",
      "schedule": "cosine",
      "final_lr_fraction": 0.0,
      "cycle_steps": "0 steps",
      "cycle_multiplier": 1,
      "plateau": {"factor": 0.1, "patience": 2, "threshold": 1e-4, "min_scale": 1e-3, "cooldown": 0},
      "beta1": 0.9,
      "beta2": 0.999,
      "eps": 1e-8,
      "momentum": config_dict.placeholder(float),
      "nesterov": config_dict.placeholder(bool),
      "clip_norm": 1.0,
      "weight_decay": 0.05,
      "decay_rules": ((r"(^|[/_])kernel$", True), (".*", False)),
      "lr_rules": ((".*", 1.0),),
      "trained": (),
      "muon_rules": (
        (r"(^|/)(head|depthwise)/kernel$", "adam"),
        (r"(^|/)qkv_kernel$", "qkv"),
        (r"(^|/)kernel$", "matrix"),
        (".*", "adam"),
      ),
    }
  )


def train(**fields) -> ConfigDict:
  """How long, and what to do along the way; see training/config.py and docs/training.md.

  Args:
    **fields: that differ; at least "steps".
  """
  config = {
    "log_every": "50 steps",
    "validate_every": "1 epochs",
    "checkpoint_every": "1000 steps",
    "best_metric": "top1",
    "best_mode": "max",
    "patience": 0,
    "accumulate": 1,
    "average_decay": 0.0,
    "non_finite": "skip",
    "max_non_finite": 5,
    "max_rollbacks": 3,
    "max_error_share": 0.05,
    "watchdog": 1800.0,
    "trackers": ("tensorboard",),
    "profile": (),
  }
  return ConfigDict(config | fields)


def layer_decay(blocks: int, factor: float, stream: str = "semantic") -> tuple[tuple[str, float], ...]:
  """`config.optim.lr_rules` for a stream whose blocks are block_0, block_1, ...: slower towards the frames.

  The last block has the learning rate times `factor`, the one before times its square, and so on; what comes before
  the blocks is slowest, the norm after them and everything else has the full learning rate (Bao et al. 2022, BEiT).
  """
  deep = tuple((f"^{stream}/block_{i}/", factor ** (blocks - i)) for i in range(blocks))
  return ((f"^{stream}/norm/", 1.0), *deep, (f"^{stream}/", factor ** (blocks + 1)), (".*", 1.0))


def last_blocks(depth: int, blocks: int, stream: str = "semantic") -> tuple[tuple[str, bool], ...]:
  """`config.optim.trained` for a stream of which the last blocks learn, and the norm behind them.

  Raises:
    ValueError: there are not so many.
  """
  if not 1 <= blocks <= depth:
    raise ValueError(f"{blocks} blocks of {depth} can't learn; use 1 to {depth}.")
  names = "|".join(f"block_{i}" for i in range(depth - blocks, depth))
  return ((f"^{stream}/({names}|norm)/", True), (f"^{stream}/", False))


def init() -> ConfigDict:
  """Parameters of another run to begin with, and what may be new beside them; see training/warm_start.py."""
  return ConfigDict(
    {
      "weights": config_dict.placeholder(str),
      "new": ((r"^fusion/(head|auxiliary_\d+)/", True), (".*", False)),
    }
  )


def sharding() -> ConfigDict:
  """A copy of everything on every device, batches split over all of them; see training/sharding.py."""
  return ConfigDict({"model": 1, "fsdp": False, "parameters": (), "min_size": 2**20})


def moving_objects() -> ConfigDict:
  """The rendered data set; see datasets/generated/moving_objects.py."""
  return ConfigDict(
    {
      "seed": 0,
      "train": 1500,
      "validation": 240,
      "test": 300,
      "height": 80,
      "width": 88,
      "frames_min": 18,
      "frames_max": 24,
      "fps": 12,
      "templates": "twelve",
      "distractors": 0,
      "camera": 0.0,
      "zoom": 0.0,
      "backgrounds": "clouds",
    }
  )


def run_on_rendered_videos(config: ConfigDict) -> None:
  """Turns a config of GASM-CAST, in place, into a run of seconds on a CPU: a few rendered videos, tiny networks."""
  config.job = "generate,train,evaluate,report"
  config.generate = moving_objects()
  config.generate.update({"train": 24, "validation": 12, "test": 12})
  config.data.update({"root": "data/moving_objects_tiny", "classes": 12, "global_batch": 8, "workers": 0})
  config.data.update({"size": 32, "short_side": 40})
  config.model.dtype = "float32"
  config.model.semantic.update({"name": "dinov3", "weights": "random", "trainable": True, "width": 32, "depth": 1})
  config.model.semantic.update({"heads": 4, "mlp_width": 64, "patch": 8, "image_size": 32})
  config.model.motion.update({"name": "r3d", "weights": "random", "trainable": True, "image_size": 32})
  config.model.motion.update({"widths": (8, 8, 16, 32), "blocks": (1, 1, 1, 1)})
  config.model.fusion.update({"bottleneck": 32, "heads": 4})
  config.optim.warmup_steps = "1 steps"
  config.train.update({"steps": "8 steps", "log_every": "1 steps", "validate_every": "4 steps", "patience": 0})
  config.train.checkpoint_every = "2 steps"
  config.evaluate.update({"splits": ("validation", "test"), "attention_clips": 1})
