"""Case of the job benchmark: one train step of the fusion, beside the same step in another library.

Ours is what the loop calls, `training.step.compile_train_step`, metrics and the check for finite values included. The
parameters are drawn here and given to the peer under our names. After the first step loss, norm of the gradient and
every parameter are compared: sides that agree show that both are the same network, loss, clipping and optimiser.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np

from gasmcast.core.config import require
from gasmcast.core.timing import Side, largest_error, norm_error
from gasmcast.core.types import Batch
from gasmcast.fusion.config import FusionConfig, StreamShapes
from gasmcast.jobs.benchmark import Prepared
from gasmcast.jobs.benchmark_peers import Peers, resolve
from gasmcast.jobs.benchmark_training_fusion import Fusion
from gasmcast.jobs.measured_step import MeasuredStep
from gasmcast.reports.benchmark import Reading
from gasmcast.systems.gasmcast import LABEL
from gasmcast.training.optim import OptimConfig

_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}  # of an array's largest value; of its norm
_OURS = "gasmcast"
_WAYS = {_OURS: {}, f"{_OURS}, remat": {"remat": True}, f"{_OURS}, 2 parts": {"accumulate": 2}}


class Peer(Protocol):
  """The same network in another library, by the function that a case names from config, shapes, classes, platform."""

  def step_side(
    self,
    name: str,
    parameters: Mapping[str, np.ndarray],
    batch: Batch,
    label: str,
    dtype: str,
    optim: OptimConfig,
    label_smoothing: float,
  ) -> Side:
    """A train step on float32 features: "loss", "grad_norm" and the parameters as they are after it, as ours.

    Args:
      name: of the way to run it.
      parameters: of the fusion, by our names without "fusion/".
      label: of the batch.
      dtype: of the arithmetic; parameters, norms, softmax and loss are float32.
      optim: AdamW with a constant learning rate, decay on kernels alone, clipping.
    """


@dataclasses.dataclass(frozen=True)
class StepCase:
  """One step on one device.

  Attributes:
    fusion: what is trained.
    optim: AdamW with a constant learning rate.
    dtype: of the arithmetic.
    our_sides: ways to run ours: "gasmcast"; "gasmcast, remat", which computes activations again in the backward pass;
      "gasmcast, 2 parts", one half of the batch after the other.
    peer: function that makes the peer, "module:function"; "" for none.
    peer_sides: ways to run it.
    tolerance: largest error; None for 1e-4 of an array's largest value in float32, and 0.1 of its norm in bfloat16
      (from our float32): Adam makes a full step of a gradient that is nothing but rounding.
  """

  fusion: Fusion
  optim: OptimConfig
  our_sides: tuple[str, ...] = (_OURS,)
  peer: str = ""
  peer_sides: tuple[str, ...] = ()
  tolerance: float | None = None

  def __post_init__(self):
    unknown = [name for name in self.our_sides if name not in _WAYS]
    require(
      bool(self.our_sides) and not unknown,
      f"our_sides = {self.our_sides}: use {', '.join(map(repr, _WAYS))}.",
    )
    require(
      self.optim.optimizer == "adamw" and self.optim.schedule == "constant" and self.optim.warmup_steps == 0,
      "optim: the step that is compared is of AdamW with a constant learning rate; use optimizer = 'adamw', schedule = "
      "'constant' and warmup_steps = 0.",
    )
    require(
      self.fusion.clips % 2 == 0 or not any("2 parts" in name for name in self.our_sides),
      f"fusion.clips = {self.fusion.clips} can't be taken in 2 equal parts; use an even number.",
    )

  @property
  def dtype(self) -> Literal["float32", "bfloat16"]:
    """Of the arithmetic."""
    return self.fusion.dtype

  def prepare(self, where: str, peers: Peers | None, platform: str) -> Prepared:
    """Ours in every way, then the peer."""
    fusion, peer = self.fusion, None
    if peers is not None and self.peer:
      make: Callable[[FusionConfig, StreamShapes, int, str], Peer] = resolve(self.peer, f"{where}.peer")
      peer = make(fusion.config, fusion.shapes, fusion.classes, platform)
    (batch,), drawn, theirs = fusion.batches(1), fusion.parameters(), []
    for name in self.peer_sides if peer else ():
      given = {key.removeprefix("fusion/"): leaf for key, leaf in drawn.items()}
      smoothing = fusion.system.config.label_smoothing
      side = peer.step_side(name, given, batch, LABEL, fusion.dtype, self.optim, smoothing)
      theirs.append(dataclasses.replace(side, arrays=_under_our_names(side.arrays)))
    ours = {name: MeasuredStep(fusion, self.optim, drawn, batch, **_WAYS[name]) for name in self.our_sides}
    reference = None
    if fusion.dtype != "float32":  # every side is compared with float32, so that one sees which one rounds more
      exact = MeasuredStep(dataclasses.replace(fusion, dtype="float32"), self.optim, drawn, batch).side(_OURS)
      reference = exact.arrays(exact.call())
    operations, formula = fusion.cost
    return Prepared(
      [*(step.side(name) for name, step in ours.items()), *theirs],
      f"train step of {fusion.described}; AdamW, clipping by the norm of the whole, label smoothing",
      operations,
      formula,
      _TOLERANCE[fusion.dtype] if self.tolerance is None else self.tolerance,
      largest_error if fusion.dtype == "float32" else norm_error,
      reference,
      readings=lambda: [_compilations(name, step) for name, step in ours.items()],
    )


def _under_our_names(arrays: Callable[[Any], Mapping[str, np.ndarray]]) -> Callable[[Any], Mapping[str, np.ndarray]]:
  """The peer's arrays with the names of the whole model."""
  numbers = ("loss", "grad_norm")
  return lambda result: {name if name in numbers else f"fusion/{name}": array for name, array in arrays(result).items()}


def _compilations(name: str, step: MeasuredStep) -> Reading:
  return Reading(f"compilations of the step beside the first, {name}", step.compiled.compilations - 1, 0)
