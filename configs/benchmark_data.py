"""The way of the data beside other libraries: decoding, loading, caches, stored features, memory.

  python launch/main.py --config configs/benchmark_data.py --workdir runs/benchmark_data

About 10 minutes and 2 GB on two cores; expected numbers: docs/performance.md. PyAV, torchcodec and torch are the extra
[peers]; what is not installed is named and left out. Let nothing else run meanwhile.
configs/benchmark_data.py:decode measures the cases whose names begin so. Real videos in place of rendered ones:
--config.cases.decode_vp9.videos.folder=a folder of .webm files.
"""

from ml_collections import ConfigDict

from configs import common, own_videos

_DECODERS = {
  "PyAV": "benchmarks.decode_peers:pyav",
  "torchcodec, exact": "benchmarks.decode_peers:torchcodec",
  "torchcodec, approximate": "benchmarks.decode_peers:torchcodec_approximate",
}


def _videos(codec: str, bits: int) -> ConfigDict:
  """Videos as those of Something-Something-V2: 4 s of 12 frames, 240 pixels high."""
  values = {"codec": codec, "count": 6, "frames": 48, "height": 240, "width": 427, "rate": 12, "bits": bits}
  return ConfigDict(values | {"encoder": "benchmarks.decode_peers:encode", "folder": ""})


def _data(batch: int, size: int) -> ConfigDict:
  """A training's way of loading: two threads, random crops and colours."""
  augmentation = {"scale": (0.5, 1.0), "ratio": (0.75, 4 / 3), "brightness": 0.2, "contrast": 0.2, "saturation": 0.2}
  loading = {"workers": 0, "threads": 2, "prefetch": 4, "cache_bytes": 0}
  shape = {"global_batch": batch, "frames": 8, "size": size, "short_side": 256}
  return ConfigDict({**shape, **loading, "augmentation": {**augmentation, "flip": 0.5}})


def _target(against: str, ratio: float) -> ConfigDict:
  """The time of the fastest side that is named so ("": of all), divided by ours, is to be at least `ratio`."""
  return ConfigDict({"against": against, "ratio": ratio})


def _cases() -> ConfigDict:
  cases, vp9 = ConfigDict(), _videos("vp9", 180_000)
  for name, videos in (("decode_vp9", vp9), ("decode_h264", _videos("h264", 400_000))):
    cases[name] = ConfigDict({"kind": "decode", "videos": videos.to_dict(), "take": 8, "peers": _DECODERS})
    cases[name].target = _target("", 1.1)
  loader = {"torch DataLoader, 2 workers": "benchmarks.loader_peer:batches"}
  cases.load = ConfigDict({"kind": "load", "videos": vp9.to_dict(), "peers": loader, "workers": 2, "batches": 4})
  cases.load.data = _data(batch=8, size=224)
  cases.load.schedule = {"rounds": 9, "turn_seconds": 2.0, "max_calls": 8, "pause_seconds": 1.5}  # buffers fill up
  cases.load.target = _target("torch", 1.05)
  cases.frame_cache = ConfigDict({"kind": "frame_cache", "videos": vp9.to_dict(), "take": 8})
  cases.frame_cache.target = _target("decoding", 30.0)
  for name, tokens, precision, components in (
    ("tokens49_int8_pca256", 49, "int8", 256),
    ("tokens49_int8", 49, "int8", 0),
    ("tokens196_bfloat16", 0, "bfloat16", 0),
    ("pooled_bfloat16", 1, "bfloat16", 0),
  ):
    case = {"kind": "features", "videos": vp9.to_dict(), "take": 8, "examples": 240}
    variant = {"tokens": tokens, "precision": precision, "pca": components}
    case |= {"tokens": 196, "width": 768, "motion": 512, "variant": variant, "target": _target("decoding", 500.0)}
    cases[f"features_{name}"] = ConfigDict(case)
  cases.memory = ConfigDict({"kind": "memory", "videos": vp9.to_dict(), "clips": 20_000, "growth": 1.0})
  cases.memory.videos.update({"frames": 16, "height": 48, "width": 64, "bits": 20_000})
  cases.memory.data = _data(batch=20, size=48)
  cases.extraction = ConfigDict({"kind": "extraction", "videos": vp9.to_dict(), "clips": 8})
  cases.extraction.experiment = _on_drawn_weights(own_videos.get_config())
  cases.extraction.experiment.extract.batch = 2  # of a gigabyte; on an accelerator use more
  cases.extraction.schedule = {"rounds": 5, "turn_seconds": 0.0, "max_calls": 1, "pause_seconds": 0.5}
  cases.extraction.target = _target("bare loop", 1 / 1.1)  # at most 10 % longer
  return cases


def _on_drawn_weights(experiment: ConfigDict) -> ConfigDict:
  """The config without weights, which don't change the time."""
  for stream in (experiment.model.semantic, experiment.model.motion):
    stream.weights = "random"
  return experiment


def _make_tiny(cases: ConfigDict) -> None:
  """Two small videos, few clips and no target, as these times say nothing."""
  for case in cases.values():
    case.videos.update({"count": 2, "frames": 12, "height": 48, "width": 64})
    if "target" in case:
      del case.target
  cases.load.data.update({"global_batch": 2, "frames": 2, "size": 32})
  cases.load.schedule.update({"rounds": 2, "turn_seconds": 0.0, "pause_seconds": 0.0})
  for name, case in cases.items():
    if name.startswith("features"):
      case.update({"examples": 4, "width": 32, "motion": 8})
  cases.extraction.clips = 2
  cases.extraction.experiment = _on_drawn_weights(own_videos.get_config("runlocal"))
  cases.extraction.schedule.update({"rounds": 2, "pause_seconds": 0.0})
  cases.memory.clips = 400
  cases.memory.growth = 1000.0  # of so few clips the growth is chance


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: cases=a name or the beginning of several, runlocal (tiny videos, to see that it works)."""
  arguments = common.options(arg, cases="", runlocal=False)
  config = ConfigDict()
  config.job = "benchmark"
  config.subject = "data"
  config.schedule = ConfigDict({"rounds": 9, "turn_seconds": 0.5, "max_calls": 25, "pause_seconds": 0.05})
  config.peak = ConfigDict()
  config.cases = _cases()
  if arguments.runlocal:
    _make_tiny(config.cases)
    config.schedule.update({"rounds": 2, "turn_seconds": 0.0, "pause_seconds": 0.0})
  common.keep_cases(config.cases, arguments.cases)
  return config
