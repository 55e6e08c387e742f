"""A train step of the fusion in PyTorch changes every parameter as ours does."""

import dataclasses

import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.core.timing import norm_error, worst
from gasmcast.jobs.benchmark_training import parse_case

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]

SHAPES = {"time": 4, "grid": (4, 4), "semantic_width": 32, "motion_width": 16}
SIZES = {
  "bottleneck": 16,
  "heads": 4,
  "windows": (1, 2),
  "semantic_nearest": 3,
  "motion_window": 1,
  "motion_nearest": 1,
}
EXPLICIT = "torch eager, explicit attention"


@pytest.fixture(scope="module")
def library():
  """PyTorch as the job uses it."""
  pytest.importorskip("torch")
  from benchmarks import torch_library

  torch_library.start(2)
  yield torch_library
  torch_library.release()


def make(variant="base", sides=("torch eager",), options=None, dtype="float32", **optim):
  fusion = {"variant": variant, "clips": 2, "classes": 5, "shapes": SHAPES, "options": SIZES | (options or {})}
  optim = {"schedule": "constant", "eps": 1e-6, "weight_decay": 0.5, **optim}
  values = {"kind": "step", "fusion": fusion | {"dtype": dtype}, "optim": optim}
  return parse_case(values | {"peer": "benchmarks.torch_fusion:TrainStep", "peer_sides": sides}, "case")


def results(library, case, steps=1):
  """The arrays of every side after so many steps, ours first."""
  found = []
  for side in case.prepare("case", library, "cpu").sides:
    arrays = [side.arrays(side.call()) for _ in range(steps)]
    found.append({name: array.copy() for name, array in arrays[-1].items()})
  return found


@pytest.mark.parametrize("variant", ["base", "efficient", "small"])
def test_both_have_the_same_parameters_and_change_them_alike(library, variant):
  ours, fused, explicit = results(library, make(variant, ("torch eager", EXPLICIT)))
  assert set(ours) == set(fused) == set(explicit) and len(ours) > 80
  assert worst(fused, ours)[1] < 1e-4 and worst(explicit, ours)[1] < 1e-4
  assert abs(fused["loss"] - ours["loss"]) < 1e-5 * ours["loss"]


def test_later_steps_agree_too(library):
  """The second step has moments, their bias corrections and other norms of gradients behind it."""
  ours, theirs = results(library, make("small"), steps=3)
  assert worst(theirs, ours)[1] < 1e-3


@pytest.mark.parametrize(
  "change", [{"weight_decay": 0.0}, {"clip_norm": 1e-3}, {"beta2": 0.9, "beta1": 0.5}, {"lr": 2e-3}]
)
def test_another_update_would_be_seen(library, change):
  """After one step Adam's decays cancel out: the moments are seen after two."""
  steps = 2 if "beta1" in change else 1
  (ours, _), (_, theirs) = results(library, make("small"), steps), results(library, make("small", **change), steps)
  assert worst(theirs, ours)[1] > 1e-4


def test_bfloat16_is_compared_with_float32(library):
  case = make("small", dtype="bfloat16")
  prepared = case.prepare("case", library, "cpu")
  errors = [worst(side.arrays(side.call()), prepared.reference, norm_error)[1] for side in prepared.sides]
  assert prepared.difference is norm_error
  assert min(errors) > 1e-5 and max(errors) < prepared.tolerance


@pytest.mark.long
def test_the_compiled_step_is_the_same(library):
  ours, theirs = results(library, make("base", ("torch.compile",)), steps=2)
  assert worst(theirs, ours)[1] < 1e-3


def test_names_of_parameters():
  pytest.importorskip("torch")
  from benchmarks.torch_fusion import torch_name

  assert torch_name("merge_2/score/kernel") == "merge_2.score.weight"
  assert torch_name("bcast_1/semantic_norm/scale") == "bcast_1.semantic_norm.weight"
  assert torch_name("semantic_graph_0/similarity_scale") == "semantic_graph_0.similarity_scale"


@pytest.mark.parametrize(
  ("change", "name"),
  [({"graph_score": "gatv2"}, "graph_score"), ({"pooling": "mean"}, "pooling"), ({"dropout": 0.1}, "dropout")],
)
def test_a_fusion_that_is_not_written_out_is_refused(library, change, name):
  with pytest.raises(ConfigError, match=f"fusion.{name}: the fusion in torch has what the variant 'base' has"):
    make(options=change).prepare("case", library, "cpu")


def test_a_grid_of_motion_is_refused(library):
  case = make()
  shapes = dataclasses.replace(case.fusion.shapes, motion_grid=(2, 2))
  case = dataclasses.replace(case, fusion=dataclasses.replace(case.fusion, shapes=shapes))
  with pytest.raises(ConfigError, match="fusion.motion_grid: the fusion in torch"):
    case.prepare("case", library, "cpu")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("onnx", "'onnx' is no side of torch"),
    ("torch eager, channels last", "'channels last' is no option of a train step; use explicit attention"),
  ],
)
def test_an_unknown_side_is_refused(library, name, message):
  with pytest.raises(ConfigError, match=message):
    make(sides=(name,)).prepare("case", library, "cpu")


def test_layers_decay_and_nothing_else(library):
  from benchmarks.torch_fusion import Fusion, adamw

  case = make()
  import torch

  module = Fusion(case.fusion.config, case.fusion.shapes, 5, torch.float32)
  decayed, others = adamw(module, case.optim).param_groups
  names = {id(parameter): name for name, parameter in module.named_parameters()}
  shared = {name for name in case.fusion.parameters() if name.endswith("kernel")}
  assert len(decayed["params"]) == len(shared) and decayed["weight_decay"] == 0.5
  assert all(names[id(parameter)].endswith(".weight") and parameter.dim() == 2 for parameter in decayed["params"])
  assert others["weight_decay"] == 0.0 and len(others["params"]) + len(decayed["params"]) == len(names)
  assert np.isclose(decayed["lr"], 1e-3)
