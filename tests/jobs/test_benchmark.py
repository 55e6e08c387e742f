"""The job that measures, on tiny networks: alone, and beside a stand-in for another library."""

import contextlib
import dataclasses
import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from rich.console import Console

from configs import benchmark_backbones
from gasmcast import features
from gasmcast.core import rules
from gasmcast.core.errors import ConfigError, WorkdirError
from gasmcast.core.timing import Side
from gasmcast.jobs import benchmark
from gasmcast.jobs import benchmark_backbones as benchmark_backbones_job
from gasmcast.jobs.benchmark import Benchmark

# Of 2 frames with 11 tokens (6 patches) of width 32, a hidden layer of 64.
PATCHES = 2 * 2 * 6 * (3 * 16 * 16) * 32 / 1e9
GFLOP = PATCHES + 2 * 2 * (4 * 11 * 32**2 + 2 * 11**2 * 32 + 2 * 11 * 32 * 64) / 1e9


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
  """The job compiles everything afresh; where that is not what is tested, what an earlier test compiled will do."""
  monkeypatch.setattr(benchmark, "compiling_afresh", contextlib.nullcontext)
  monkeypatch.setattr(jax, "clear_caches", lambda: None)


@pytest.fixture
def config():
  """One tiny vision transformer in float32, its peers not installed."""
  config = benchmark_backbones.get_config("cases=dinov3_vitb16_float32,runlocal")
  config.peers.package = "a_library_that_nobody_has"
  return config


@pytest.fixture
def make(tmp_path):
  return lambda config: Benchmark(config, tmp_path / "run", "python launch/main.py", Console(record=True, width=300))


def run(given):
  benchmark.check(given)
  benchmark.run(given)
  return json.loads((given.workdir / "benchmark.json").read_text()), given.console.export_text()


class StandIn:
  """Another library's network: ours, with weights of its own, which it gives under our names."""

  def __init__(self, config, platform):
    assert platform == "cpu"
    net = features.load("dinov3_vitb16", "random", **dataclasses.asdict(config))
    other = iter(jax.random.split(jax.random.key(7), len(jax.tree.leaves(net.variables))))
    drawn = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(next(other), leaf.shape), net.variables)
    self.net = dataclasses.replace(net, variables=drawn)
    self.tensors = self.named(drawn)

  def named(self, variables):
    return {name: np.asarray(leaf) for name, leaf in rules.flatten(variables).items()}

  def forward_side(self, name, frames, dtype):
    factor = 1.1 if name == "wrong" else 1.0
    return Side(name, lambda: self.net.forward(frames)["cls"] * factor, lambda cls: {"cls": np.asarray(cls)})

  def gradient_side(self, name, frames, dtype, output):
    loss = lambda variables: jnp.square(self.net.module.apply(variables, frames, train=True)[output]).mean()
    gradient = jax.jit(jax.grad(loss))
    return Side(name, lambda: gradient(self.net.variables), self.named)


@pytest.fixture
def peers(config, monkeypatch):
  """The configuration with the stand-in as its peer; the list is of what the job told the library."""
  told = []
  library = types.ModuleType("stand_in_library")
  library.NAME = "standin"
  library.unusable = lambda platform: ""
  library.start = lambda threads: told.append(("start", threads))
  library.versions = lambda: {"standin": "1.2"}
  library.product = lambda side, dtype, platform: lambda: None
  library.release = lambda: told.append("release")
  library.network = StandIn
  monkeypatch.setitem(sys.modules, "stand_in_library", library)
  config.peers.update({"package": "numpy", "module": "stand_in_library"})
  case = config.cases.dinov3_vitb16_float32
  case.update({"peer": "stand_in_library:network", "peer_sides": ("standin",)})
  case.target = {"against": "standin", "ratio": 1e-9}
  return told


def test_without_the_other_library_our_side_is_measured_and_the_rest_is_told(config, make):
  content, said = run(make(config))
  missing = "a_library_that_nobody_has is not installed, so the peers are missing; pip install -e '.[torch]' adds them."
  assert content["peers_missing"] == missing and f"Our sides alone, no target is judged: {missing}" in said
  (case,) = content["cases"]
  (side,) = case["sides"]
  assert side["name"] == "gasmcast" and len(side["seconds"]) == 2 and side["first_call_seconds"] > 0
  assert case["gflop"] == GFLOP
  assert content["threads"] == content["machine"]["cpus"] and content["platform"] == "cpu"
  assert content["versions"]["jax"] == jax.__version__ and content["peak_gflop_per_second"]["float32"]["jax"] > 0
  page = (make(config).workdir / "benchmark.md").read_text()
  assert page in said + "\n" and "| dinov3_vitb16_float32 | gasmcast |" in page
  for name in ("config.json", "environment.json", "command.txt"):
    assert (make(config).workdir / name).is_file()


def test_the_other_library_lends_its_weights_and_is_held_to_compute_the_same(config, peers, make):
  content, said = run(make(config))
  ours, standin = content["cases"][0]["sides"]
  assert (standin["name"], ours["error"]) == ("standin", 0.0) and standin["error"] < 1e-5
  assert content["cases"][0]["target"]["met"] is True and content["peers_missing"] == ""
  assert content["versions"]["standin"] == "1.2"
  assert set(content["peak_gflop_per_second"]["float32"]) == {"jax", "standin"}
  assert peers == [("start", content["threads"]), "release"]
  assert "1e-09 x standin" in said and "met" in said


def test_a_peer_that_computes_something_else_ends_the_benchmark(config, peers, make):
  config.cases.dinov3_vitb16_float32.peer_sides = ("wrong",)
  with pytest.raises(RuntimeError, match=r"wrong differs from the reference by 1.0e-01 in 'cls'"):
    run(make(config))


def test_gradients_are_compared_by_the_rules_that_convert_weights(config, peers, make):
  config.cases.dinov3_vitb16_float32.gradient = "cls"
  content, _ = run(make(config))
  (case,) = content["cases"]
  assert case["what"].startswith("gradient of mean(cls^2) of dinov3_vitb16 on frames [2, 1, 32, 48, 3]")
  assert case["sides"][1]["error"] < 1e-4
  assert case["gflop"] == pytest.approx(3 * GFLOP - PATCHES)


def test_what_is_measured_is_kept_when_a_later_case_fails(config, peers, make):
  config.cases.later = config.cases.dinov3_vitb16_float32.copy_and_resolve_references()
  config.cases.later.peer_sides = ("wrong",)
  given = make(config)
  with pytest.raises(RuntimeError):
    benchmark.run(given)
  content = json.loads((given.workdir / "benchmark.json").read_text())
  assert [case["name"] for case in content["cases"]] == ["dinov3_vitb16_float32"]


def test_our_weights_can_be_constants(config, make):
  config.cases.dinov3_vitb16_float32.our_sides = ("gasmcast", "gasmcast, freezing")
  content, _ = run(make(config))
  ours, frozen = content["cases"][0]["sides"]
  assert frozen["name"] == "gasmcast, freezing" and frozen["error"] < 1e-5
  assert frozen["seconds"] != ours["seconds"]


def test_on_an_accelerator_memory_is_what_the_compiler_plans(config, make, monkeypatch):
  case = make(config).cases["dinov3_vitb16_float32"]
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  gradient = dataclasses.replace(case, gradient="cls")
  frozen = dataclasses.replace(case, our_sides=("gasmcast, freezing",))
  forward, frozen, gradient = (
    benchmark_backbones_job.prepare("case", c, None, "gpu").sides[0].memory() for c in (case, frozen, gradient)
  )
  outputs = 2 * 11 * 32 * 4  # float32 of 2 frames with 11 tokens
  assert forward >= outputs and frozen >= outputs
  assert gradient > 4 * (3 * 16 * 16) * 32  # at least the gradient of the patch embedding


def test_bfloat16_is_compared_with_float32(config, peers, make):
  config.cases.dinov3_vitb16_float32.dtype = "bfloat16"
  content, _ = run(make(config))
  ours, standin = content["cases"][0]["sides"]
  assert 1e-4 < ours["error"] < 0.05 and standin["error"] < 1e-5  # the stand-in computes in float32 all the same


def test_what_was_compiled_before_is_not_used_and_what_is_compiled_is_not_kept(tmp_path, monkeypatch):
  monkeypatch.undo()
  before = jax.config.jax_enable_compilation_cache, jax.config.jax_compilation_cache_dir
  compile = lambda: jax.jit(lambda x: jnp.tanh(x) + 123.0)(1.0)
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  try:
    with benchmark.compiling_afresh():
      compile()
    assert not [*tmp_path.iterdir()]
    compile()
    assert [*tmp_path.iterdir()]
  finally:
    jax.config.update("jax_compilation_cache_dir", before[1])
    compilation_cache.reset_cache()
  assert (jax.config.jax_enable_compilation_cache, jax.config.jax_compilation_cache_dir) == before


def test_the_job_compiles_afresh(config, make, monkeypatch):
  seen = []
  monkeypatch.setattr(benchmark, "compiling_afresh", lambda: seen.append(1) or contextlib.nullcontext())
  run(make(config))
  assert seen == [1]


def test_every_case_of_the_full_configuration_can_be_made(make):
  given = make(benchmark_backbones.get_config())
  assert len(given.names) == 6 and len(given.cases) == 9
  targets = {
    name: (common.target.against, common.target.ratio) for name, common in given.common.items() if common.target
  }
  assert targets["dinov3_vitb16_float32"] == ("torch eager", 2.0)
  assert targets["dinov3_vitb16_bfloat16"] == ("torch eager", 1.1)
  assert targets["r3d_18_float32"] == ("torch.compile, freezing", 0.55)
  assert given.fields.schedule.rounds >= 7


def test_cases_are_picked_by_name_or_by_how_names_begin():
  names = lambda argument: list(benchmark_backbones.get_config(argument).cases)
  assert names("cases=r3d_18_float32") == ["r3d_18_float32"]
  assert names("r3d_18_float32_") == ["r3d_18_float32_atrous", "r3d_18_float32_gradient"]
  with pytest.raises(ValueError, match="cases=vgg: no case begins so; there are dinov3_vitb16_bfloat16, "):
    names("vgg")


def test_a_working_directory_of_a_training_is_left_alone(config, make):
  given = make(config)
  (given.workdir / "checkpoints").mkdir(parents=True)
  with pytest.raises(WorkdirError, match=r"run holds a training; choose another --workdir for a benchmark"):
    benchmark.check(given)


def test_a_folder_that_can_not_be_written_is_named(config, make):
  given = make(config)
  given.workdir.write_text("a file")
  with pytest.raises(WorkdirError, match="run can't be written"):
    benchmark.run(given)


def test_peers_can_be_left_out_by_the_configuration(config, make):
  config.peers.enabled = False
  content, said = run(make(config))
  assert content["peers_missing"] == "the configuration leaves the peers out." in said


def test_a_library_that_can_not_be_used_here_is_left_out(config, peers, make):
  sys.modules["stand_in_library"].unusable = lambda platform: f"standin 1.2 has no {platform} here"
  content, _ = run(make(config))
  assert content["peers_missing"] == "standin 1.2 has no cpu here, so the peers are missing."
  assert len(content["cases"][0]["sides"]) == 1 and peers == []


@pytest.mark.parametrize(
  ("place", "value", "message"),
  [
    ("subject", "cars", "config.subject = 'cars' is no subject; use backbones"),
    ("peak", {"cpu": (0,)}, r"config.peak.cpu = \(0,\): give sides of square matrices for cpu, gpu, tpu"),
    ("peak", {"car": (8,)}, r"config.peak.car = \(8,\)"),
    ("schedule", {"rounds": 0}, "config.schedule: rounds = 0; at least 1 is needed"),
    ("cases", {"case": 3}, "config.cases.case = 3 is of type int"),
    ("case", {"backbone": "vgg"}, "config.cases.dinov3_vitb16_float32: backbone = 'vgg' is no backbone; use one of"),
    ("case", {"bakbone": "vgg"}, "config.cases.dinov3_vitb16_float32.bakbone is not a field; did you mean 'backbone'"),
    ("case", {"shape": (1, 0, 32, 32)}, r"shape = \(1, 0, 32, 32\): clips, frames, height and width are positive"),
    ("case", {"shape": (1, 1, 30, 32)}, "config.cases.dinov3_vitb16_float32: frames of 30 x 32 pixels do not divide"),
    ("case", {"options": {"widht": 3}}, "config.cases.dinov3_vitb16_float32: options.widht is not a field"),
    ("case", {"dtype": "float16"}, "dtype = 'float16' is not one of 'float32', 'bfloat16'"),
    (
      "case",
      {"gradient": "cells"},
      "gradient = 'cells' is no output of dinov3_vitb16 .* it has cls, registers, tokens",
    ),
    ("case", {"our_sides": ("fast",)}, r"our_sides = \('fast',\): use 'gasmcast' or 'gasmcast, freezing'"),
    ("case", {"our_sides": ("gasmcast, freezing",), "gradient": "cls"}, "our_sides = .*: use 'gasmcast'.$"),
    ("case", {"target": {"against": "torch"}}, "config.cases.dinov3_vitb16_float32.target.ratio is missing"),
    ("case", {"platforms": ("gpu",)}, "config.cases: none is for a cpu; add 'cpu' to the platforms of one"),
  ],
)
def test_a_configuration_that_can_not_be_measured_is_refused(config, make, place, value, message):
  values = config.to_dict()
  if place == "case":
    values["cases"]["dinov3_vitb16_float32"].update(value)
  else:
    values[place] = value
  with pytest.raises(ConfigError, match=message):
    benchmark.check(make(values))


@pytest.mark.parametrize(
  ("module", "message"),
  [
    (
      "no_such_module",
      "config.peers.module = 'no_such_module': No module named 'no_such_module'; peers are found from",
    ),
    ("numpy:nothing", "config.peers.module = 'numpy:nothing': numpy has no 'nothing'"),
  ],
)
def test_a_module_of_peers_that_is_not_there_is_named(config, make, module, message):
  config.peers.update({"package": "numpy", "module": module})
  with pytest.raises(ConfigError, match=message):
    benchmark.run(make(config))
