"""The fusion part of a model and features for it: what the cases of training train."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float

from gasmcast.core import rules
from gasmcast.core.config import require
from gasmcast.core.rng import generator
from gasmcast.core.types import Batch
from gasmcast.fusion.config import FusionConfig, StreamGraph, StreamShapes, check_shapes, stream_graph
from gasmcast.fusion.cost import fusion_macs
from gasmcast.fusion.neighbours import fixed_neighbours
from gasmcast.store.compression import PRECISIONS
from gasmcast.systems.gasmcast import LABEL, GasmCastSystem
from gasmcast.systems.gasmcast_config import parse_model

_NEAR = 1e-6  # cosines that differ by less may stand in another order in another library
_NOISE = 0.02  # standard deviation of what is added to parameters, of which many start as constants


@dataclasses.dataclass(frozen=True)
class Fusion:
  """What is trained, and on what.

  Attributes:
    variant: of the fusion, see `fusion.config.VARIANTS`.
    clips: of a batch.
    classes: C.
    shapes: of the features; the defaults are those of DINOv3 ViT-B/16 and R3D-18.
    options: fields of the fusion that differ from the variant.
    dtype: of the arithmetic.
    stored: type of the features in a batch.
  """

  variant: str = "base"
  clips: int = 8
  classes: int = 174
  shapes: StreamShapes = dataclasses.field(default_factory=StreamShapes)
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  dtype: Literal["float32", "bfloat16"] = "float32"
  stored: Literal["float32", "bfloat16"] = "float32"

  def __post_init__(self):
    require(self.clips >= 1, f"clips = {self.clips}: a batch has at least 1.")
    require(self.classes >= 2, f"classes = {self.classes}: at least 2 are needed.")
    require(
      self.shapes.grid[0] == self.shapes.grid[1] and self.shapes.motion_grid[0] == self.shapes.motion_grid[1],
      f"shapes.grid = {self.shapes.grid}, shapes.motion_grid = {self.shapes.motion_grid}: the grids are squares.",
    )
    check_shapes(self.config, self.shapes)

  @property
  def system(self) -> GasmCastSystem:
    """The system as a training on stored features has it; the backbones are named and not there."""
    streams = {"semantic": {"name": "dinov3_vitb16"}, "motion": {"name": "r3d_18"}}
    given = {"variant": self.variant, "fusion": self.options, "dtype": self.dtype}
    return GasmCastSystem(parse_model(given | streams), tuple(map(str, range(self.classes))))

  @property
  def config(self) -> FusionConfig:
    """All fields of the fusion."""
    return self.system.config.fusion

  @property
  def described(self) -> str:
    """In words."""
    shapes = self.shapes
    semantic = [self.clips, shapes.time, shapes.patches, shapes.semantic_width]
    changed = "".join(f", {name} = {value!r}" for name, value in self.options.items())
    motion = [self.clips, shapes.time, *([shapes.cells] if shapes.cells > 1 else []), shapes.motion_width]
    features = f"{semantic} and {motion} in {self.stored}"
    return f"{self.variant!r}{changed} on features {features}, {self.classes} classes, {self.dtype}"

  @property
  def cost(self) -> tuple[float, str]:
    """(operations of a train step, the formula): a gradient takes twice a forward pass, similarities have none."""
    parts = fusion_macs(self.config, self.shapes, self.classes)
    similarities = sum(macs for part, macs in parts.items() if part.endswith("_similarity"))
    learned = sum(parts.values()) - similarities
    return 2.0 * self.clips * (
      3 * learned + similarities
    ), "2 B (3 learned products + similarities), see fusion/cost.py"

  def batches(self, count: int, seed: int = 0) -> list[Batch]:
    """Batches of noise, in which rounding decides about no neighbour, so that every library finds the same graph."""
    return [self._batch(number, generator(seed, "features", number)) for number in range(count)]

  def _batch(self, number: int, rng: np.random.Generator) -> Batch:
    config, shapes, first = self.config, self.shapes, number * self.clips
    frames = self._noise(rng, stream_graph(config, shapes, "semantic"), self.clips * shapes.time, shapes.semantic_width)
    motion = self._noise(rng, stream_graph(config, shapes, "motion"), self.clips, shapes.motion_width)
    cells = (shapes.cells,) if shapes.cells > 1 else ()
    return {
      "semantic": frames.reshape(self.clips, shapes.time, shapes.patches, -1),
      "motion": motion.reshape(self.clips, shapes.time, *cells, -1),
      LABEL: rng.integers(self.classes, size=self.clips).astype(np.int32),
      "index": np.arange(first, first + self.clips, dtype=np.int32),
      "ok": np.ones(self.clips, bool),
    }

  def _noise(self, rng: np.random.Generator, graph: StreamGraph, count: int, width: int) -> np.ndarray:
    draw = lambda: rng.standard_normal((graph.size, width), np.float32).astype(PRECISIONS[self.stored])
    fixed, nearest = fixed_neighbours(self.config.graph_neighbours, graph) if graph.blocks else (None, 0)
    found = []
    while len(found) < count:
      nodes = draw()
      if not nearest or margin(nodes, fixed, nearest) > _NEAR:
        found.append(nodes)
    return np.stack(found)

  def parameters(self, seed: int = 0) -> dict[str, np.ndarray]:
    """Name -> float32, every one of them drawn, so that none can be forgotten unnoticed."""
    batch = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in self.batches(1)[0].items()}
    variables = jax.jit(self.system.init)(jax.random.key(seed), batch)
    noise = lambda name, shape: generator(seed, "noise", name).standard_normal(shape, np.float32)
    flat = rules.flatten(variables["params"])
    return {name: np.asarray(leaf) + np.float32(_NOISE) * noise(name, leaf.shape) for name, leaf in flat.items()}


def margin(x: Float[np.ndarray, "N D"], fixed: np.ndarray, nearest: int) -> float:
  """By how much the last of the `nearest` nodes of each node is nearer than the first that is left out; the least."""
  x = np.float64(x)
  x = x - x.mean(0)
  x = x / np.linalg.norm(x, axis=1, keepdims=True)
  ordered = np.sort(np.where(fixed, -np.inf, x @ x.T), axis=1)[:, ::-1]
  if nearest >= ordered.shape[1]:
    return np.inf
  last, first = ordered[:, nearest - 1], ordered[:, nearest]
  there = np.isfinite(first)  # otherwise no node is left out
  return float((last[there] - first[there]).min()) if there.any() else np.inf


def endless(batches: list[Batch], start: int) -> Iterator[Batch]:
  """The batches again and again from step `start` on."""
  while True:
    yield batches[start % len(batches)]
    start += 1
