"""Training on this machine: a train step of the fusion beside PyTorch's, the loop beside bare steps, memory.

  python launch/main.py --config configs/benchmark_training.py --workdir runs/benchmark_training

About 12 minutes and 4 GB on two cores; expected numbers: docs/performance.md. Without PyTorch (extra [torch]) our sides
alone are measured. Let nothing else run meanwhile. configs/benchmark_training.py:step measures the cases whose names
begin so. Another batch: --config.cases.step_base_bfloat16_gpu.fusion.clips=64.
"""

from ml_collections import ConfigDict

from configs import common

_COMPILED = "torch.compile"


def _fusion(variant: str, clips: int, dtype: str = "float32", grid: int = 14, stored: str = "float32") -> ConfigDict:
  """The fusion on features of DINOv3 ViT-B/16 and R3D-18; an odd grid is not merged."""
  shapes = {"time": 8, "grid": (grid, grid), "semantic_width": 768, "motion_width": 512, "motion_grid": (1, 1)}
  options = {"merge_before": ()} if grid % 2 else {}
  values = {"variant": variant, "clips": clips, "classes": 174, "shapes": shapes, "options": options}
  return ConfigDict(values | {"dtype": dtype, "stored": stored})


def _optim() -> ConfigDict:
  """AdamW that changes parameters so much that an error in the update shows.

  The epsilon is far above the rounding of a gradient: an Adam that divides it by little else turns rounding into steps.
  """
  values = {"optimizer": "adamw", "lr": 1e-3, "schedule": "constant", "warmup_steps": 0, "beta1": 0.9, "beta2": 0.999}
  return ConfigDict(values | {"eps": 1e-6, "clip_norm": 1.0, "weight_decay": 0.5})


def _target(against: str, ratio: float) -> ConfigDict:
  """The time of the fastest side whose name begins so, divided by ours, is to be at least `ratio`."""
  return ConfigDict({"against": against, "ratio": ratio})


def _step(fusion: ConfigDict, ours: tuple[str, ...], peers: tuple[str, ...], platforms: tuple[str, ...]) -> ConfigDict:
  case = {"kind": "step", "our_sides": ours, "peer": "benchmarks.torch_fusion:TrainStep", "peer_sides": peers}
  return ConfigDict(case | {"platforms": platforms, "fusion": fusion.to_dict(), "optim": _optim().to_dict()})


def _cases() -> ConfigDict:
  cases, ours, torch = ConfigDict(), ("gasmcast",), ("torch eager", _COMPILED)
  few = ConfigDict({"rounds": 5, "turn_seconds": 0.0, "max_calls": 1, "pause_seconds": 0.05})
  for variant in ("base", "efficient"):
    cases[f"step_{variant}_float32"] = _step(_fusion(variant, 8), ours, torch, ("cpu",))
    cases[f"step_{variant}_bfloat16_gpu"] = _step(_fusion(variant, 32, "bfloat16"), ours, torch, ("gpu",))
  for case in cases.values():
    case.target = _target(_COMPILED, 1.0)
  less_memory = ("gasmcast", "gasmcast, remat", "gasmcast, 2 parts")
  cases.less_memory_float32 = _step(_fusion("efficient", 8), less_memory, (), ("cpu",))
  cases.less_memory_bfloat16_gpu = _step(_fusion("base", 32, "bfloat16"), less_memory, (), ("gpu",))
  cases.less_memory_float32.schedule = few.to_dict() | {"rounds": 3}
  for variant in ("base", "efficient"):
    cases[f"step_{variant}_float32"].schedule = few.to_dict()  # a call takes seconds
  cases.loop = ConfigDict({"kind": "loop", "steps": 50, "checkpoint_every": 1000, "limit": 3.0, "platforms": ("cpu",)})
  cases.loop.fusion = _fusion("efficient", 2, grid=7, stored="bfloat16")  # over 100 ms a step on two cores
  cases.loop.optim, cases.loop.schedule = _optim(), few.to_dict() | {"rounds": 3}
  cases.loop.target = _target("bare steps", 1 / 1.03)
  cases.memory = ConfigDict({"kind": "memory", "steps": 5000, "log_every": 50, "save_every": 500, "growth": 1.0})
  cases.memory.fusion = _fusion("efficient", 8)
  cases.memory.optim = _optim()
  _make_small(cases.memory.fusion)
  return cases


def _make_small(fusion: ConfigDict) -> None:
  """A step of milliseconds."""
  fusion.clips, fusion.classes = 8, 5
  fusion.shapes.update({"time": 4, "grid": (4, 4), "semantic_width": 32, "motion_width": 16})
  with fusion.unlocked():
    fusion.options = {
      "bottleneck": 16,
      "heads": 4,
      "windows": (1, 3),
      "merge_before": (2,),
      "semantic_nearest": 3,
      "motion_window": 1,
      "motion_nearest": 1,
    }


def _make_tiny(cases: ConfigDict) -> None:
  """Small networks, few steps and no target, as these times say nothing."""
  for case in cases.values():
    _make_small(case.fusion)
    if "target" in case:
      del case.target
    if "schedule" in case:
      case.schedule.update({"rounds": 2, "pause_seconds": 0.0})
    if case.kind == "step":
      case.peer_sides = case.peer_sides[:1]  # eager: to compile takes a minute
    if case.kind == "loop":
      case.update({"steps": 3, "limit": 1000.0})
  cases.memory.update({"steps": 60, "log_every": 3, "save_every": 12, "growth": 1000.0})


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: cases=a name or the beginning of several, runlocal (small networks, to see that it works)."""
  arguments = common.options(arg, cases="", runlocal=False)
  config = ConfigDict()
  config.job = "benchmark"
  config.subject = "training"
  config.schedule = ConfigDict({"rounds": 7, "turn_seconds": 0.3, "max_calls": 25, "pause_seconds": 0.05})
  config.peak = ConfigDict({"cpu": (1024, 2048, 3072), "gpu": (4096, 8192, 16384)})
  config.peers = ConfigDict(
    {"enabled": True, "package": "torch", "module": "benchmarks.torch_library", "install": "pip install -e '.[torch]'"}
  )
  config.cases = _cases()
  if arguments.runlocal:
    _make_tiny(config.cases)
    config.schedule.update({"rounds": 2, "turn_seconds": 0.0, "pause_seconds": 0.0})
    config.peak = ConfigDict({platform: (128,) for platform in config.peak})
  common.keep_cases(config.cases, arguments.cases)
  return config
