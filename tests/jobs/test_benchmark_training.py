"""The benchmark of training, on tiny features: steps beside a stand-in, the loop beside bare steps, memory."""

import contextlib
import itertools
import json
import sys
import types

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from configs import benchmark_training
from gasmcast.core import rules
from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError, TrainingError
from gasmcast.core.timing import Side
from gasmcast.fusion.cost import fusion_macs
from gasmcast.jobs import benchmark, benchmark_training_loop
from gasmcast.jobs.benchmark import Benchmark
from gasmcast.jobs.benchmark_training import parse_case
from gasmcast.jobs.benchmark_training_fusion import Fusion, endless, margin
from gasmcast.jobs.benchmark_training_loop import RunningLoop, gained, overhead, wait_until_saved
from gasmcast.training.config import TrainConfig

STEP = "step_efficient_float32"
OPTIONS = ("bottleneck", "heads", "windows", "merge_before", "semantic_nearest", "motion_window", "motion_nearest")


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
  """The job compiles everything afresh; where that is not what is tested, what an earlier test compiled will do."""
  monkeypatch.setattr(benchmark, "compiling_afresh", contextlib.nullcontext)
  monkeypatch.setattr(jax, "clear_caches", lambda: None)


@pytest.fixture
def make(tmp_path):
  return lambda config: Benchmark(config, tmp_path / "run", "python launch/main.py", Console(record=True, width=300))


def config_of(name):
  """One tiny case of the smallest variant with a single layer, without peers."""
  config = benchmark_training.get_config(f"cases={name},runlocal")
  config.peers.enabled = False
  config.cases[name].fusion.variant = "small"
  config.cases[name].fusion.options.update({"windows": (1,), "merge_before": ()})
  return config


def run(given):
  benchmark.check(given)
  benchmark.run(given)
  (case,) = json.loads((given.workdir / "benchmark.json").read_text())["cases"]
  return case, given.console.export_text()


class StandIn:
  """Another library's step: the gradient of our network, and AdamW written out."""

  def __init__(self, config, shapes, classes, platform):
    assert platform == "cpu" and config.graph_ffn_ratio == 0
    self.sizes = {"clips": 8, "classes": classes, "shapes": shapes}
    self.options = {name: getattr(config, name) for name in OPTIONS}

  def step_side(self, name, parameters, batch, label, dtype, optim, label_smoothing):
    assert (label, dtype, label_smoothing) == ("action", "float32", 0.1) and not any(
      key.startswith("fusion/") for key in parameters
    )
    system = Fusion("small", **self.sizes, options=self.options).system
    params = {f"fusion/{key}": leaf for key, leaf in parameters.items()}

    def loss(params):
      logits = system.apply({"params": rules.unflatten(params)}, batch, train=True)[0]["logits"]
      target = optax.smooth_labels(jax.nn.one_hot(batch[label], logits.shape[-1]), label_smoothing)
      return optax.softmax_cross_entropy(logits, target).mean()

    gradient = jax.jit(jax.value_and_grad(loss))
    factor = 1.01 if name == "wrong" else 1.0

    def call():
      value, found = gradient(params)
      norm = optax.tree.norm(found)
      return {"loss": value, "grad_norm": norm} | {key: updated(key, found[key] / max(1, norm)) for key in params}

    def updated(key, g):
      decay = optim.weight_decay * params[key] if key.endswith("kernel") else 0.0
      return params[key] - factor * optim.lr * (g / (abs(g) + optim.eps) + decay)

    return Side(name, call, lambda found: {key.removeprefix("fusion/"): np.asarray(x) for key, x in found.items()})


@pytest.fixture
def peers(monkeypatch):
  """Turns a configuration into one whose peer is the stand-in."""
  library = types.ModuleType("stand_in_library")
  library.NAME = "standin"
  library.unusable = lambda platform: ""
  library.start = lambda threads: None
  library.versions = lambda: {"standin": "1.2"}
  library.product = lambda side, dtype, platform: lambda: None
  library.release = lambda: None
  library.TrainStep = StandIn
  monkeypatch.setitem(sys.modules, "stand_in_library", library)

  def use(config, *sides):
    config.peers.update({"enabled": True, "package": "numpy", "module": "stand_in_library"})
    config.cases[STEP].update({"peer": "stand_in_library:TrainStep", "peer_sides": sides})
    return config

  return use


def test_a_step_is_measured_beside_a_peer_that_makes_the_same_step(peers, make):
  config = peers(config_of(STEP), "standin")
  config.cases[STEP].target = {"against": "standin", "ratio": 1e-9}
  case, said = run(make(config))
  ours, other = case["sides"]
  assert (ours["name"], other["name"], ours["error"]) == ("gasmcast", "standin", 0.0) and other["error"] < 1e-4
  assert case["target"]["met"] is True and "1e-09 x standin" in said
  assert case["what"].startswith("train step of 'small', bottleneck = 16")
  (reading,) = case["readings"]
  assert reading["what"] == "compilations of the step beside the first, gasmcast"
  assert (reading["value"], reading["limit"], reading["met"]) == (0, 0, True)


@pytest.mark.long
def test_a_peer_whose_update_is_one_percent_longer_ends_the_benchmark(peers, make):
  with pytest.raises(RuntimeError, match="wrong differs from the reference by .* in 'fusion/"):
    run(make(peers(config_of(STEP), "wrong")))


@pytest.mark.long
def test_ways_of_ours_that_need_less_memory_make_the_same_step(make):
  config = config_of("less_memory_float32")
  case, _ = run(make(config))
  assert [side["name"] for side in case["sides"]] == ["gasmcast", "gasmcast, remat", "gasmcast, 2 parts"]
  assert all(side["error"] < 1e-4 for side in case["sides"]) and case["target"] is None
  assert len(case["readings"]) == 3


@pytest.mark.long
def test_memory_on_an_accelerator_is_the_plan_of_the_compiler(monkeypatch):
  values = config_of(STEP).cases[STEP].to_dict()
  common = ("platforms", "schedule")  # which the job takes out
  case = parse_case({name: value for name, value in values.items() if name not in common}, "case")
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  (side,) = case.prepare("case", None, "gpu").sides
  logits = 8 * 4 * 4 * 16 * 16 * 4  # float32 of 8 clips of 4 frames, 4 heads, 16 x 16 tokens
  assert side.memory() > logits


@pytest.mark.long
def test_bfloat16_is_compared_with_float32(make):
  config = config_of(STEP)
  config.cases[STEP].fusion.dtype = "bfloat16"
  case, _ = run(make(config))
  (ours,) = case["sides"]
  assert 1e-5 < ours["error"] < 0.1 and case["dtype"] == "bfloat16"


@pytest.mark.long
def test_the_loop_is_measured_beside_the_steps_that_it_makes(make):
  config = config_of("loop")
  config.cases.loop.target = {"against": "bare steps", "ratio": 1e-9}
  case, said = run(make(config))
  assert [side["name"] for side in case["sides"]] == ["loop", "loop, a checkpoint in each call", "bare steps"]
  assert all(side["error"] < 1e-6 and len(side["seconds"]) == 2 for side in case["sides"])
  assert case["target"]["met"] is True and case["target"]["against"] == "bare steps"
  (reading,) = case["readings"]
  assert reading["what"] == "% more time than bare steps, a log line every 3, a checkpoint every 1,000"
  assert reading["limit"] == 1000.0 and "at most 1000" in said


def test_what_a_loop_adds_by_hand():
  """Turns of 10, 20, 10 seconds: a loop that takes a tenth more, and checkpoints of half a call, one in 20 calls."""
  loop, saving, bare = (11.0, 22.0, 11.0), (16.0, 32.0, 16.0), (10.0, 20.0, 10.0)
  assert overhead(loop, saving, bare, 20) == pytest.approx(100 * (0.1 + 0.5 / 20))


@pytest.fixture
def small():
  """A fusion of few tokens."""
  return parse(Fusion, config_of("memory").cases.memory.fusion)


def test_a_loop_goes_on_by_the_steps_it_is_told_and_saves_at_the_beginning_of_a_call(small):
  config = TrainConfig(10**6, log_every=2, validate_every=10**6, checkpoint_every=4, trackers=())
  loop = RunningLoop(small, config, small.batches(2))
  saved = lambda: sorted(int(path.parent.name) for path in loop.workdir.glob("checkpoints/*/checksums.json"))
  loop.run(4)
  assert saved() == []
  loop.run(4)
  assert saved() == [4] and loop.loss > 0
  loop.run(1)
  assert saved() == [4, 8]
  loop.end()
  lines = map(json.loads, (loop.workdir / "metrics.jsonl").read_text().splitlines())
  assert [line["step"] for line in lines if line["split"] == "train"] == [2, 4, 6, 8]
  loop.end()  # once more does no harm


def test_an_error_of_the_training_is_raised_where_it_is_waited_for(small):
  batches = [{**batch, "motion": np.full_like(batch["motion"], np.nan)} for batch in small.batches(2)]
  loop = RunningLoop(small, TrainConfig(10**6, trackers=()), batches)
  with pytest.raises(TrainingError, match="all 8 examples have non-finite scores"):
    loop.run(50)


def test_a_checkpoint_that_never_comes_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr(benchmark_training_loop, "_SEAL_SECONDS", 0.0)
  wait_until_saved(tmp_path, 4, 4)  # the loop will save step 4 when it goes on
  with pytest.raises(RuntimeError, match="the checkpoint of step 4 in .* is not finished after 0 s"):
    wait_until_saved(tmp_path, 4, 5)


def test_calls_that_can_not_be_paired_are_refused(make):
  config = config_of("loop")
  config.cases.loop.schedule.update({"max_calls": 2, "turn_seconds": 1e9})
  given = make(config)
  case = given.cases["loop"]
  prepared = case.prepare("case", None, "cpu")
  prepared.sides[2].call()
  prepared.sides[2].call()
  with pytest.raises(ConfigError, match=r"called \[0, 0, 1\] times .* give the case a schedule with max_calls = 1"):
    prepared.readings()


@pytest.mark.long
def test_memory_files_and_threads_are_read_over_many_steps(make):
  given = config_of("memory")
  case, said = run(make(given))
  growth, files, threads = case["readings"]
  assert case["sides"] == [] and growth["limit"] == 1000.0 and growth["met"]
  assert (
    files["limit"] == 0
    and threads["limit"] == 2
    and threads["value"] is not None
    and "MB more for each 1,000 steps: at most 1000" in said
  )


def test_what_came_after_the_first_count():
  kept = [{"memory/files": 8.0}, {}, {"memory/files": 9.0}, {"memory/files": 7.0}]
  assert gained(kept, "memory/files") == 1.0 and gained(kept, "memory/threads") is None


def test_operations_of_a_step_by_hand(small):
  parts = fusion_macs(small.config, small.shapes, 5)
  macs, similar = sum(parts.values()), 4 * 16 * 16 * 32 + 4 * 4 * 16
  assert parts["semantic_similarity"] + parts["motion_similarity"] == similar
  assert small.cost[0] == 2 * 8 * (3 * macs - 2 * similar)


def test_the_distance_to_the_next_neighbour_by_hand():
  """Cosines of 1, 0 and -1 on a line through the mean: two nodes to the right, two to the left."""
  x = np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [-2.0, 0.0]])
  alone = np.eye(4, dtype=bool)
  assert margin(x, alone, 1) == pytest.approx(2.0)  # 1 to the nearest, -1 to the next
  assert margin(x, alone, 2) == pytest.approx(0.0)  # the two on the other side are alike
  assert margin(x, alone, 3) == np.inf  # nobody is left out


def test_batches_are_the_same_each_time_and_no_neighbour_hangs_on_rounding(small):
  first, second = small.batches(2)
  again, _ = small.batches(2)
  np.testing.assert_array_equal(first["semantic"], again["semantic"])
  assert not np.array_equal(first["semantic"], second["semantic"])
  assert second["index"].tolist() == list(range(8, 16)) and first["semantic"].shape == (8, 4, 16, 32)
  assert set(small.parameters()) == {f"fusion/{name}" for name in _names(small)}


def _names(fusion):
  params = jax.eval_shape(fusion.system.init, jax.random.key(0), fusion.batches(1)[0])["params"]["fusion"]
  return rules.flatten(params)


def test_the_full_configuration_holds_every_promise(make):
  given = make(benchmark_training.get_config())
  targets = {
    name: common.target and (common.target.against, common.target.ratio) for name, common in given.common.items()
  }
  steps = [f"step_{variant}_{kind}" for variant in ("base", "efficient") for kind in ("float32", "bfloat16_gpu")]
  assert all(targets[name] == ("torch.compile", 1.0) for name in steps)
  assert targets["loop"] == ("bare steps", 1 / 1.03)
  assert given.cases["loop"].limit == 3.0 and given.cases["loop"].steps == 50
  assert given.cases["memory"].steps == 5000 and given.cases["memory"].growth == 1.0
  here = set(given.names)
  assert here == {"step_base_float32", "step_efficient_float32", "less_memory_float32", "loop", "memory"}
  fusion = given.cases["step_base_float32"].fusion
  assert fusion.described == ("'base' on features [8, 8, 196, 768] and [8, 8, 512] in float32, 174 classes, float32")
  assert all(given.cases[name].fusion.clips == 32 for name in given.cases if name.endswith("gpu"))


@pytest.mark.parametrize(
  ("name", "change", "message"),
  [
    (STEP, {"kind": "speed"}, f"config.cases.{STEP}.kind = 'speed' is not one of 'step', 'loop', 'memory'"),
    (
      STEP,
      {"our_sides": ("fast",)},
      r"our_sides = \('fast',\): use 'gasmcast', 'gasmcast, remat', 'gasmcast, 2 parts'",
    ),
    (STEP, {"optim": {"schedule": "cosine"}}, "the step that is compared is of AdamW with a constant learning rate"),
    (STEP, {"fusion.clips": 0}, "clips = 0: a batch has at least 1"),
    (STEP, {"fusion.classes": 1}, "classes = 1: at least 2 are needed"),
    (STEP, {"fusion.variant": "huge"}, "variant = 'huge' is not one of"),
    (STEP, {"fusion.shapes.grid": (4, 2)}, r"shapes.grid = \(4, 2\), .* the grids are squares"),
    (STEP, {"fusion.options.heads": 5}, "fusion.bottleneck = 16 can't be cut into fusion.heads = 5"),
    ("less_memory_float32", {"fusion.clips": 3}, "fusion.clips = 3 can't be taken in 2 equal parts"),
    ("loop", {"steps": 0}, "steps = 0: it counts steps; use 1 or more"),
    ("loop", {"checkpoint_every": 0}, "checkpoint_every = 0: it counts steps"),
    ("memory", {"log_every": 0}, "log_every = 0: it counts steps"),
    ("memory", {"steps": 59}, "steps = 59: 20 log lines are needed, 60 steps"),
  ],
)
def test_cases_that_can_not_be_are_refused(make, name, change, message):
  values = config_of(name).to_dict()
  for path, value in change.items():
    *parents, last = path.split(".")
    place = values["cases"][name]
    for parent in parents:
      place = place[parent]
    place[last] = value
  with pytest.raises(ConfigError, match=message):
    make(values)


def test_batches_come_again_from_any_step():
  assert [*itertools.islice(endless(["a", "b", "c"], 4), 4)] == ["b", "c", "a", "b"]
