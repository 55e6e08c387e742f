"""The peers in PyTorch compute what our networks compute, however they are run."""

import numpy as np
import pytest

from gasmcast import features
from gasmcast.core.errors import ConfigError
from gasmcast.core.timing import largest_error, worst
from gasmcast.features.dinov3 import DINOv3Config
from gasmcast.features.r3d import R3DConfig
from gasmcast.jobs.benchmark_backbones import parse_case, prepare

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]

VIT = {"width": 32, "depth": 2, "heads": 2, "mlp_width": 48, "image_size": 32}
R3D = {"widths": (4, 4, 8, 8), "blocks": (1, 1, 1, 2), "image_size": 32, "classes": 5}
EAGER = ("torch eager", "torch eager, channels last")


@pytest.fixture(scope="module")
def library():
  """PyTorch as the job uses it."""
  pytest.importorskip("torch")
  from benchmarks import torch_library

  torch_library.start(2)
  yield torch_library
  torch_library.release()


def make(backbone, shape, options, sides=EAGER, **fields):
  peer = f"benchmarks.backbones_torch:{'dinov3' if backbone.startswith('dinov3') else 'r3d'}"
  values = {"backbone": backbone, "shape": shape, "options": options, "peer": peer, "peer_sides": sides, **fields}
  return parse_case(values, "case")


def errors(library, case):
  """The error of every peer's side, by the name of the array that differs most."""
  ours, *peers = prepare("case", case, library, "cpu").sides
  reference = ours.arrays(ours.call())
  found = []
  for side in peers:
    arrays = side.arrays(side.call())
    assert set(arrays) == set(reference)
    found.append(worst(arrays, reference)[1])
  return found


@pytest.mark.parametrize("gated", [False, True])
def test_dinov3_of_transformers(library, gated):
  sides = ("torch eager", "torch eager, explicit attention", "torch eager, channels last")
  found = errors(library, make("dinov3_vitb16", (2, 3, 32, 48), {**VIT, "gated_mlp": gated}, sides))
  assert len(found) == 3 and max(found) < 1e-5


@pytest.mark.parametrize(
  ("mode", "outputs"),
  [("native", {"segments", "grid", "pooled", "logits"}), ("atrous", {"segments", "grid", "pooled"})],
)
def test_r3d_with_folded_batch_norms(library, mode, outputs):
  case = make("r3d_18", (2, 16, 32, 32), {**R3D, "mode": mode})
  assert max(errors(library, case)) < 1e-5
  ours, _, _ = prepare("case", case, library, "cpu").sides
  assert set(ours.arrays(ours.call())) == outputs


def test_gradients_in_training_mode(library):
  case = make("r3d_18", (2, 8, 32, 32), {**R3D, "mode": "native"}, gradient="logits")
  assert max(errors(library, case)) < 1e-4
  case = make("dinov3_vitb16", (2, 1, 32, 32), VIT, ("torch eager",), gradient="tokens")
  assert max(errors(library, case)) < 1e-4


def test_bfloat16_rounds_and_no_more(library):
  from benchmarks.backbones_torch import dinov3, r3d

  frames = np.random.default_rng(0).standard_normal((1, 8, 32, 32, 3), np.float32)
  for peer in (dinov3(DINOv3Config(**VIT), "cpu"), r3d(R3DConfig(**R3D, mode="native"), "cpu")):
    sides = [peer.forward_side("torch eager", frames, dtype) for dtype in ("bfloat16", "float32")]
    coarse, exact = (side.arrays(side.call()) for side in sides)
    assert 1e-4 < worst(coarse, exact)[1] < 0.1
    assert all(array.dtype == np.float32 for array in coarse.values())


def test_each_compiled_side_has_a_program_of_its_own(library):
  """PyTorch may give one module the program of another of its class; with frozen weights it would be a wrong one."""
  import torch
  from torch._dynamo.utils import counters

  names = ("torch.compile", "torch.compile, freezing", "torch.compile, freezing")
  packed = []
  for seed, name in enumerate(names):
    torch.manual_seed(seed)
    module, x = torch.nn.Conv2d(3, 4, 3).eval(), torch.randn(1, 3, 8, 8)
    side = library.forward_side(name, module, x, frozenset(), lambda y: {"y": library.numpy_of(y)})
    counters.clear()
    result = side.arrays(side.call())
    packed.append(counters["inductor"]["mkldnn_conv_weight_pack_matcher_count"])
    with torch.no_grad():
      assert largest_error(result["y"], module(x).numpy()) < 1e-5
    assert largest_error(side.arrays(side.call())["y"], result["y"]) < 1e-6
  assert packed == [0, 1, 1]


def test_the_tensors_are_those_of_torchvision(library):
  from benchmarks.backbones_torch import r3d

  tensors = r3d(R3DConfig(mode="native", classes=400), "cpu").tensors
  counted = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
  learnt = sum(tensor.size for name, tensor in counted.items() if "running" not in name)
  assert learnt == 33_371_472  # torchvision's count for R3D_18
  names = ("stem.0.weight", "layer1.0.conv1.0.weight", "layer2.0.downsample.1.running_var", "layer4.1.conv2.1.bias")
  assert {*names, "fc.weight"} <= set(counted)
  assert set(features.convert("r3d_18", tensors, mode="native")) == {"params", "batch_stats"}


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("onnx", "'onnx' is no side of torch; its name begins with 'torch eager' or 'torch.compile'"),
    ("torch eager, fast", "'torch eager, fast': 'fast' is no option here; use channels last, freezing"),
    ("torch eager, explicit attention", "'explicit attention' is no option here"),
  ],
)
def test_an_unknown_side_is_refused(library, name, message):
  case = make("r3d_18", (1, 8, 32, 32), {**R3D, "mode": "native"}, (name,))
  with pytest.raises(ConfigError, match=message):
    prepare("case", case, library, "cpu")


def test_frozen_weights_have_no_gradient_and_other_modes_no_peer(library):
  case = make("r3d_18", (1, 8, 32, 32), {**R3D, "mode": "native"}, ("torch.compile, freezing",), gradient="logits")
  with pytest.raises(ConfigError, match="frozen weights have no gradient"):
    prepare("case", case, library, "cpu")
  with pytest.raises(
    ConfigError, match="mode = 'windowed', norm = 'batch', differences = False: the peer in torch has"
  ):
    prepare("case", make("r3d_18", (1, 8, 32, 32), {**R3D, "mode": "windowed"}), library, "cpu")


def test_where_torch_computes(library):
  assert library.unusable("cpu") == "" and library.unusable("tpu") == "torch does not run on a tpu"
  import torch

  if not torch.cuda.is_available():
    assert library.unusable("gpu") == f"torch {torch.__version__} has no CUDA here"
  assert torch.get_num_threads() == 2
  library.product(8, "bfloat16", "cpu")()
  assert set(library.versions()) >= {"torch", "transformers"}
