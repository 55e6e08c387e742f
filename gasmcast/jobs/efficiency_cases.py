"""What job efficiency measures: ways to bring the streams together, at some depth, with graph layers and without.

A case is a configuration of the fusion on features of some size. Its multiply-accumulates come from the formulas of
`fusion.cost`, and beside them from XLA, which counts what it was given before it optimises: activations, norms and
softmax too, and no loop more than once (layers are unrolled, so there is none). Times are those of the very functions
that evaluation and training call.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np

from gasmcast.core import rules
from gasmcast.core.config import require
from gasmcast.core.rng import generator
from gasmcast.core.timing import Side
from gasmcast.fusion.config import StreamShapes
from gasmcast.fusion.cost import by_scope, fusion_macs
from gasmcast.jobs.benchmark_training_fusion import Fusion
from gasmcast.jobs.measured_step import MeasuredStep
from gasmcast.systems.fusion_classifier import AUXILIARY
from gasmcast.training.optim import OptimConfig
from gasmcast.training.throughput import memory, tflops

Kind = Literal["forward", "step"]
_OPTIM = OptimConfig(schedule="constant", warmup_steps=0)


@dataclasses.dataclass(frozen=True)
class Method:
  """A way to bring the streams together.

  Attributes:
    name: in the tables.
    variant: of `fusion.config.VARIANTS`.
    options: fields of the fusion that differ.
    depths: numbers of layers that are measured; a way without layers has the depth 0.
  """

  name: str
  variant: str = "base"
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  depths: tuple[int, ...] = (3,)

  def __post_init__(self):
    require(bool(self.depths) and min(self.depths) >= 0, f"depths = {self.depths}: give one or more, from 0 on.")


@dataclasses.dataclass(frozen=True)
class Case:
  """One configuration on features of one size.

  Attributes:
    method: its name.
    depth: layers in which the streams see each other.
    graphs: whether the graph layers are there.
    fusion: what is measured.
  """

  method: str
  depth: int
  graphs: bool
  fusion: Fusion

  @property
  def name(self) -> str:
    """Unique among the cases on features of one size."""
    layers = {0: "", 1: ", 1 layer"}.get(self.depth, f", {self.depth} layers")
    return f"{self.method}{layers}{', graphs' if self.graphs else ''}"

  @property
  def macs(self) -> dict[str, int]:
    """Of a clip, by scope, see `fusion.cost.by_scope`."""
    return by_scope(fusion_macs(self.fusion.config, self.fusion.shapes, self.fusion.classes))


def make_case(method: Method, depth: int, graphs: bool, shapes: StreamShapes, sizes: Mapping[str, Any]) -> Case:
  """The case with the first `depth` layers of the method.

  A window that sees all segments at T = 8 sees all of them at any T, and merges that an odd grid has not are left out.

  Args:
    sizes: other fields of `Fusion`: clips, classes, dtype.

  Raises:
    ConfigError: the method has fewer layers, or is impossible on these shapes.
  """
  options = dict(method.options)
  whole = Fusion(method.variant, options=options, **sizes).config  # on features of the default sizes
  require(
    depth <= len(whole.windows), f"{method.name!r} has {len(whole.windows)} layers, {depth} are wanted; use fewer."
  )
  options["windows"] = tuple(_window(window, shapes.time) for window in whole.windows[:depth])
  options["merge_before"] = tuple(layer for layer in whole.merge_before if layer <= depth)
  if not graphs:
    options["graph_neighbours"] = "none"
  return Case(method.name, depth, graphs, Fusion(method.variant, shapes=shapes, options=options, **sizes))


def _window(window: int, time: int) -> int:
  everything = StreamShapes().time - 1
  return max(1, time - 1) if window >= everything else window


@dataclasses.dataclass(frozen=True)
class Counted:
  """What a case consists of.

  Attributes:
    trained: parameters, auxiliary heads apart.
    macs: of a clip by formula, by scope.
    xla_macs: half of the operations that XLA counts for a clip; None where it does not count.
  """

  trained: int
  macs: dict[str, int]
  xla_macs: float | None


def count(case: Case) -> Counted:
  """Counts without computing anything."""
  fusion = case.fusion
  batch = _abstract(fusion.batches(1)[0])
  params = rules.flatten(fusion.system.abstract_variables(batch)["params"])
  trained = sum(leaf.size for name, leaf in params.items() if not name.startswith(f"fusion/{AUXILIARY}"))
  variables = {"params": rules.unflatten(params)}
  counted = tflops(lambda: jax.jit(functools.partial(_forward, fusion)).lower(variables, batch))
  return Counted(trained, case.macs, None if counted is None else counted * 1e12 / 2 / fusion.clips)


class Measured:
  """A case ready to be timed.

  Args:
    kind: "forward": scores of a batch; "step": a training step on it, as the loop calls it.
  """

  def __init__(self, case: Case, kind: Kind):
    fusion = case.fusion
    (batch,), drawn = fusion.batches(1), _draw(fusion)
    if kind == "step":
      step = MeasuredStep(fusion, _OPTIM, drawn, batch)
      self.call: Callable[[], Any] = step
      self.memory = functools.partial(step.planned_memory, arguments=True)
    else:
      arguments = jax.device_put(({"params": rules.unflatten(drawn)}, _read(batch)))
      compiled = jax.jit(functools.partial(_forward, fusion))
      self.call = lambda: jax.block_until_ready(compiled(*arguments))
      self.memory = lambda: memory(lambda: compiled.lower(*arguments))

  def side(self, name: str) -> Side:
    """For `core.timing.measure`; that the cases compute different things is the point, so nothing is compared."""
    return Side(name, self.call, lambda _: {"": np.zeros(1)}, self.memory)


def _forward(fusion: Fusion, variables: Any, batch: Any) -> jax.Array:
  return fusion.system.apply(variables, batch, train=False)[0]["logits"]


def _read(batch: Mapping[str, Any]) -> dict[str, Any]:
  return {name: batch[name] for name in ("semantic", "motion")}


def _abstract(batch: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
  return {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in _read(batch).items()}


def _draw(fusion: Fusion) -> dict[str, np.ndarray]:
  """Small random parameters; times do not depend on them."""
  batch = _abstract(fusion.batches(1)[0])
  flat = rules.flatten(fusion.system.abstract_variables(batch)["params"])
  rng = generator(0, "efficiency")
  return {name: np.float32(0.02) * rng.standard_normal(leaf.shape, np.float32) for name, leaf in flat.items()}
