"""The backbones beside PyTorch's, on this machine's CPU or accelerator: times, ratios, share of the peak, memory.

  python launch/main.py --config configs/benchmark_backbones.py --workdir runs/benchmark

Cost: see docs/performance.md. Without PyTorch (extra [torch]) our sides alone are measured. Expected: docs/performance.md.
Let nothing else run meanwhile. configs/benchmark_backbones.py:r3d_18 measures the cases whose names begin so.
Another batch: --config.cases.dinov3_vitb16_bfloat16_gpu.shape="(512, 1, 224, 224)".
"""

from ml_collections import ConfigDict

from configs import common

_EAGER = ("torch eager", "torch eager, channels last")
_FROZEN = ("torch.compile, freezing", "torch.compile, freezing, channels last")


def _dinov3(shape: tuple[int, ...], dtype: str, platforms: tuple[str, ...] = ("cpu",)) -> ConfigDict:
  sides = ("torch eager", "torch eager, explicit attention", "torch.compile")
  return ConfigDict(
    {
      "backbone": "dinov3_vitb16",
      "options": {},
      "shape": shape,
      "dtype": dtype,
      "peer": "benchmarks.backbones_torch:dinov3",
      "peer_sides": sides,
      "platforms": platforms,
    }
  )


def _r3d(
  shape: tuple[int, ...], dtype: str, sides: tuple[str, ...], mode: str, platforms: tuple[str, ...] = ("cpu",)
) -> ConfigDict:
  return ConfigDict(
    {
      "backbone": "r3d_18",
      "options": {"mode": mode, "classes": 400},
      "shape": shape,
      "dtype": dtype,
      "gradient": "",
      "peer": "benchmarks.backbones_torch:r3d",
      "peer_sides": sides,
      "platforms": platforms,
    }
  )


def _cpu_cases() -> ConfigDict:
  cases = ConfigDict()
  for dtype, ratio in (("float32", 2.0), ("bfloat16", 1.1)):
    case = cases[f"dinov3_vitb16_{dtype}"] = _dinov3((8, 1, 224, 224), dtype)
    case.target = ConfigDict({"against": "torch eager", "ratio": ratio})
  for dtype, ratio in (("float32", 0.55), ("bfloat16", 0.5)):
    case = cases[f"r3d_18_{dtype}"] = _r3d((1, 8, 112, 112), dtype, _EAGER + _FROZEN, "native")
    case.target = ConfigDict({"against": "torch.compile, freezing", "ratio": ratio})
  case = cases["r3d_18_float32_gradient"] = _r3d((1, 8, 112, 112), "float32", (*_EAGER, "torch.compile"), "native")
  case.gradient = "logits"
  cases["r3d_18_float32_atrous"] = _r3d((1, 16, 112, 112), "float32", _EAGER + _FROZEN, "atrous")
  return cases


def _gpu_cases() -> ConfigDict:
  cases = ConfigDict()
  sides = ("torch eager", "torch.compile", "torch.compile, channels last")
  cases.dinov3_vitb16_bfloat16_gpu = _dinov3((256, 1, 224, 224), "bfloat16", ("gpu", "tpu"))
  for mode, clip in (("native", (64, 16, 112, 112)), ("atrous", (32, 16, 112, 112))):
    cases[f"r3d_18_bfloat16_{mode}_gpu"] = _r3d(clip, "bfloat16", sides, mode, ("gpu", "tpu"))
  for case in cases.values():
    case.target = ConfigDict({"against": "torch.compile", "ratio": 1.0})
  return cases


def _make_tiny(cases: ConfigDict) -> None:
  """Networks of another size at the same code: seconds, and no target, as their times say nothing."""
  for name, case in cases.items():
    if name.startswith("dinov3"):
      case.options.update({"width": 32, "depth": 1, "heads": 2, "mlp_width": 64, "image_size": 32})
      case.shape = (2, 1, 32, 48)
    else:
      case.options.update({"widths": (4, 4, 8, 8), "blocks": (1, 1, 1, 1), "image_size": 32, "classes": 5})
      case.shape = (2, 8, 32, 32)
    case.peer_sides = case.peer_sides[:1]
    if "target" in case:
      del case.target
  cases.r3d_18_float32.peer_sides = ("torch eager", "torch.compile, freezing")
  cases.r3d_18_float32_gradient.peer_sides = ("torch eager, channels last",)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: cases=the beginning of names, runlocal (tiny networks, to see that it works)."""
  arguments = common.options(arg, cases="", runlocal=False)
  config = ConfigDict()
  config.job = "benchmark"
  config.subject = "backbones"
  config.schedule = ConfigDict({"rounds": 9, "turn_seconds": 0.3, "max_calls": 25, "pause_seconds": 0.05})
  config.peak = ConfigDict({"cpu": (1024, 2048, 4096), "gpu": (4096, 8192, 16384), "tpu": (4096, 8192)})
  config.peers = ConfigDict(
    {
      "enabled": True,
      "package": "torch",
      "module": "benchmarks.torch_library",
      "install": "pip install -e '.[torch]'",
    }
  )
  config.cases = _cpu_cases()
  config.cases.update(_gpu_cases())
  if arguments.runlocal:
    _make_tiny(config.cases)
    config.schedule.update({"rounds": 2, "turn_seconds": 0.0, "pause_seconds": 0.0})
    config.peak = ConfigDict({platform: (128,) for platform in config.peak})
  for name in [name for name in config.cases if not name.startswith(arguments.cases)]:
    del config.cases[name]
  return config
