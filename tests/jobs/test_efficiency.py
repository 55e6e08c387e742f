"""What each way costs: the cases, the counts, the verdicts of the specification, and a small run."""

import json

import numpy as np
import pytest
from rich.console import Console

from configs import efficiency as config_file
from gasmcast.core.errors import ConfigError, WorkdirError
from gasmcast.fusion.config import VARIANTS, StreamShapes
from gasmcast.jobs import efficiency
from gasmcast.jobs.efficiency import Efficiency
from gasmcast.jobs.efficiency_cases import Measured, Method, count, make_case
from gasmcast.reports import efficiency as report

SIZES = {"clips": 1, "classes": 174, "dtype": "float32"}
TINY = StreamShapes(time=4, grid=(4, 4), semantic_width=16, motion_width=8)
SMALL = {"bottleneck": 8, "heads": 2, "semantic_nearest": 3, "motion_nearest": 1}


@pytest.fixture
def make(tmp_path):
  def efficiency_of(config):
    return Efficiency(config, tmp_path / "run", "python launch/main.py", Console(record=True, width=140))

  return efficiency_of


def test_the_whole_config_keeps_the_promises_of_the_specification(make):
  """Half of vanilla cross-attention's arithmetic: three layers of each variant alone, of the efficient with graphs."""
  made = make(config_file.get_config())
  rows = [efficiency._row(case) for case in made.cases if case.method in ("vanilla cross-attention", *VARIANTS)]
  lines = report.targets(rows, made.config.baseline, made.config.target, made.config.backbone_macs())
  assert "(1: 3,125.4M, 2: 6,250.8M, 3: 9,376.2M)" in lines[0]
  assert [line.strip() for line in lines[1:-1]] == [
    "base, 1 layer: 0.599 NOT met / 3.198 NOT met",
    "base, 2 layers: 0.376 met / 1.675 NOT met",
    "base, 3 layers: 0.301 met / 1.167 NOT met",
    "efficient, 1 layer: 0.599 NOT met / 1.187 NOT met",
    "efficient, 2 layers: 0.376 met / 0.670 NOT met",
    "efficient, 3 layers: 0.301 met / 0.497 met",
    "small, 3 layers: 0.168 met / 0.639 NOT met",
    "large, 3 layers: 0.168 met / 1.876 NOT met",
    "literal, 3 layers: 0.334 met / 0.805 NOT met",
  ]
  assert "dinov3_vitb16 143.5G, r3d_18 52.9G" in lines[-1]
  by_name = {row.name: row for row in rows}
  for name in VARIANTS:
    assert (
      by_name[f"{name}, 3 layers, graphs"].trained
      == {
        **{"literal": 7_208_910, "small": 7_625_294, "base": 14_197_326, "large": 17_879_198, "efficient": 9_079_886}
      }[name]
    )


def test_formula_and_xla_agree():
  """XLA counts activations, norms and softmax besides; the products are nearly all at real widths."""
  shapes = StreamShapes(time=4, grid=(4, 4), semantic_width=256, motion_width=128)
  for method in (Method("ours", options={"bottleneck": 128}), Method("plain", options={"exchange": "vanilla"})):
    for graphs in (False, True):
      counted = count(make_case(method, 2, graphs, shapes, SIZES))
      assert sum(counted.macs.values()) < counted.xla_macs < 1.12 * sum(counted.macs.values())
  lstm = count(make_case(config_method("LSTM over frames"), 0, False, shapes, SIZES))  # no loop is counted once
  assert sum(lstm.macs.values()) < lstm.xla_macs < 1.12 * sum(lstm.macs.values())


def config_method(name):
  return next(Method(**method) for method in config_file.METHODS if method["name"] == name)


def test_a_depth_keeps_the_first_layers_and_a_window_over_all_stays_one():
  case = make_case(Method("ours"), 2, True, StreamShapes(time=16), SIZES)
  assert case.fusion.config.windows == (1, 3) and case.fusion.config.merge_before == (2,)
  whole = make_case(Method("ours"), 3, False, StreamShapes(time=16), SIZES).fusion.config
  assert whole.windows == (1, 3, 15) and whole.graph_neighbours == "none"
  assert make_case(Method("ours"), 1, False, StreamShapes(), SIZES).fusion.config.merge_before == ()
  with pytest.raises(ConfigError, match="'ours' has 3 layers, 4 are wanted; use fewer"):
    make_case(Method("ours"), 4, False, StreamShapes(), SIZES)


def test_names_of_cases():
  named = [
    make_case(Method("ours"), depth, graphs, StreamShapes(), SIZES).name for depth in (0, 1, 3) for graphs in (0, 1)
  ]
  assert named == [
    "ours",
    "ours, graphs",
    "ours, 1 layer",
    "ours, 1 layer, graphs",
    "ours, 3 layers",
    "ours, 3 layers, graphs",
  ]


@pytest.mark.parametrize("kind", ["forward", "step"])
def test_what_is_timed_computes_and_tells_its_memory(kind):
  case = make_case(Method("ours", options=SMALL), 1, True, TINY, {"clips": 8, "classes": 3, "dtype": "float32"})
  measured = Measured(case, kind)
  result = measured.call()
  assert np.isfinite(result if kind == "forward" else result[1]["loss"]).all()
  parameters = sum(leaf.size for leaf in _leaves(case)) * 4
  needed = measured.memory()
  assert needed > parameters * (4 if kind == "step" else 1)  # two moments and gradients besides


def _leaves(case):
  import jax

  batch = {name: x for name, x in case.fusion.batches(1)[0].items() if name in ("semantic", "motion")}
  return jax.tree.leaves(case.fusion.system.abstract_variables(batch)["params"])


@pytest.mark.long
def test_a_small_run_writes_tables_and_a_figure(make):
  made = make(config_file.get_config("runlocal"))
  efficiency.check(made)
  efficiency.run(made)
  told = json.loads((made.workdir / "efficiency.json").read_text())
  assert len(told["rows"]) == 2 * 3 and all(
    row["forward"]["seconds"] > 0 < row["step"]["seconds"] for row in told["rows"]
  )
  assert set(told["growth"]) == {"tokens of a frame", "clips"} and len(told["growth"]["clips"]) == 4
  page = (made.workdir / "efficiency.md").read_text()
  assert "base, 1 layer: " in page and "exponent of MACs" in page
  assert (made.workdir / "figures" / "growth.png").stat().st_size > 5000
  assert "Target: at most 0.5 of the MACs" in made.console.export_text()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"baseline": "ours"}, "efficiency.baseline = 'ours' is none of 'vanilla cross-attention', 'base'"),
    ({"target": 0.0}, "efficiency.target = 0.0: it is a share of the baseline, above 0."),
    ({"clips": 0}, "efficiency.clips = 0: a batch has at least 1."),
    ({"methods": ()}, "efficiency.methods = []: give one or more, each once."),
    ({"backbones": (("resnet", 8, 224),)}, "efficiency.backbones: 'resnet' is none of dinov3_vits16"),
    ({"growth": {"methods": ("ours",)}}, "efficiency.growth.methods: 'ours' is none of the methods"),
    ({"methods": ({"name": "vanilla cross-attention", "depths": (9,)},)}, "has 3 layers, 9 are wanted"),
    (
      {"methods": ({"name": "vanilla cross-attention", "options": {"head": 3}},)},
      "head is not a field; did you mean 'heads'?",
    ),
  ],
)
def test_what_can_not_be_is_refused(make, change, message):
  config = config_file.get_config().to_dict()
  config["efficiency"] |= change
  if "methods" in change:
    config["efficiency"]["growth"] = {}
  with pytest.raises(ConfigError) as error:
    make(config)
  assert message in str(error.value)


def test_the_folder_of_a_training_is_refused(make, tmp_path):
  (tmp_path / "run" / "checkpoints").mkdir(parents=True)
  with pytest.raises(WorkdirError, match="holds a training; choose another --workdir for job efficiency"):
    efficiency.check(make(config_file.get_config("runlocal")))


def test_an_unknown_argument_is_refused():
  with pytest.raises(ValueError, match="config argument 'method' is unknown; use methods or runlocal"):
    config_file.get_config("method")
