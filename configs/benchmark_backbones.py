"""The backbones beside PyTorch's, on this machine's CPU or accelerator: times, ratios, share of the peak, memory.

  python launch/main.py --config configs/benchmark_backbones.py --workdir runs/benchmark

Cost and expected numbers: docs/performance.md. Without PyTorch (extra [torch]) our sides alone are measured.
Let nothing else run meanwhile. configs/benchmark_backbones.py:r3d_18 measures the cases whose names begin so.
Another batch: --config.cases.dinov3_vitb16_bfloat16_gpu.shape="(512, 1, 224, 224)".
"""

from ml_collections import ConfigDict

from configs import common

_EAGER = ("torch eager", "torch eager, channels last")
_FROZEN = ("torch.compile, freezing", "torch.compile, freezing, channels last")


def _case(
  backbone: str,
  shape: tuple[int, ...],
  dtype: str,
  peer: str,
  sides: tuple[str, ...],
  platforms: tuple[str, ...],
  options: dict[str, object],
) -> ConfigDict:
  return ConfigDict(
    {
      "backbone": backbone,
      "options": options,
      "shape": shape,
      "dtype": dtype,
      "gradient": "",
      "our_sides": ("gasmcast",),
      "peer": f"benchmarks.backbones_torch:{peer}",
      "peer_sides": sides,
      "platforms": platforms,
    }
  )


def _dinov3(shape: tuple[int, ...], dtype: str, platforms: tuple[str, ...]) -> ConfigDict:
  sides = ("torch eager", "torch eager, explicit attention", "torch.compile")
  return _case("dinov3_vitb16", shape, dtype, "dinov3", sides, platforms, {})


def _r3d(
  shape: tuple[int, ...], dtype: str, sides: tuple[str, ...], platforms: tuple[str, ...], mode: str = "native"
) -> ConfigDict:
  return _case("r3d_18", shape, dtype, "r3d", sides, platforms, {"mode": mode, "classes": 400})


def _target(against: str, ratio: float) -> ConfigDict:
  """The time of the fastest side that is named so, divided by ours, is to be at least `ratio`."""
  return ConfigDict({"against": against, "ratio": ratio})


def _cpu_cases() -> ConfigDict:
  cases, clip, here = ConfigDict(), (1, 8, 112, 112), ("cpu",)
  cases.dinov3_vitb16_float32 = _dinov3((8, 1, 224, 224), "float32", here)
  cases.dinov3_vitb16_float32.target = _target("torch eager", 2.0)
  cases.dinov3_vitb16_bfloat16 = _dinov3((8, 1, 224, 224), "bfloat16", here)
  cases.dinov3_vitb16_bfloat16.target = _target("torch eager", 1.1)
  cases.r3d_18_float32 = _r3d(clip, "float32", _EAGER + _FROZEN, here)
  cases.r3d_18_float32.target = _target("torch.compile, freezing", 0.55)
  cases.r3d_18_bfloat16 = _r3d(clip, "bfloat16", _EAGER + _FROZEN, here)
  cases.r3d_18_float32_gradient = _r3d(clip, "float32", (*_EAGER, "torch.compile"), here)
  cases.r3d_18_float32_gradient.gradient = "logits"
  cases.r3d_18_float32_atrous = _r3d((1, 16, 112, 112), "float32", _EAGER + _FROZEN, here, "atrous")
  return cases


def _accelerator_cases() -> ConfigDict:
  cases, there = ConfigDict(), ("gpu", "tpu")
  sides = ("torch eager", "torch.compile", "torch.compile, channels last")
  cases.dinov3_vitb16_bfloat16_gpu = _dinov3((256, 1, 224, 224), "bfloat16", there)
  cases.r3d_18_bfloat16_gpu = _r3d((64, 16, 112, 112), "bfloat16", sides, there)
  cases.r3d_18_bfloat16_atrous_gpu = _r3d((32, 16, 112, 112), "bfloat16", sides, there, "atrous")
  for case in cases.values():
    case.target = _target("torch.compile", 1.0)
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
    case.peer_sides = case.peer_sides[:1]  # eager: to compile takes a minute
    if "target" in case:
      del case.target
  cases.r3d_18_float32_gradient.peer_sides = ("torch eager, channels last",)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: cases=a name or the beginning of several, runlocal (tiny networks, to see that it works)."""
  arguments = common.options(arg, cases="", runlocal=False)
  config = ConfigDict()
  config.job = "benchmark"
  config.subject = "backbones"
  config.schedule = ConfigDict({"rounds": 9, "turn_seconds": 0.3, "max_calls": 25, "pause_seconds": 0.05})
  config.peak = ConfigDict({"cpu": (1024, 2048, 3072), "gpu": (4096, 8192, 16384), "tpu": (4096, 8192)})
  config.peers = ConfigDict(
    {
      "enabled": True,
      "package": "torch",
      "module": "benchmarks.torch_library",
      "install": "pip install -e '.[torch]'",
    }
  )
  config.cases = _cpu_cases()
  config.cases.update(_accelerator_cases())
  if arguments.runlocal:
    _make_tiny(config.cases)
    config.schedule.update({"rounds": 2, "turn_seconds": 0.0, "pause_seconds": 0.0})
    config.peak = ConfigDict({platform: (128,) for platform in config.peak})
  common.keep_cases(config.cases, arguments.cases)
  return config
