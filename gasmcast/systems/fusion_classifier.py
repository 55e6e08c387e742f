"""The network of GASM-CAST from the features of the backbones to the logits.

semantic tokens [B, T, N, D] --graph attention--+                      +--pool--+
                                                +--progressive B-CAST--+        +--join--LN--Linear--> [B, C]
motion tokens   [B, T, (M,) E] --graph attention+                      +--pool--+
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.core.config import require
from gasmcast.core.rules import flatten
from gasmcast.fusion.config import FusionConfig, StreamShapes, check_shapes, stream_graph
from gasmcast.fusion.graph import BottleneckGraphBlock, GraphBlock
from gasmcast.fusion.neighbours import neighbourhood
from gasmcast.fusion.progressive import ProgressiveFusion, State
from gasmcast.heads.classify import Classifier
from gasmcast.heads.join import Join
from gasmcast.heads.pooling import AttentivePooling, RecurrentPooling, frame_means, mean_pool

AUXILIARY = "auxiliary"


class FusionClassifier(nn.Module):
  """Features of both streams -> logits.

  Attributes:
    config: of the fusion.
    classes: C.
    dtype: of the computation; parameters, softmax, norms and logits are float32.
    grid: rows and columns of the semantic tokens; None for a square.
    motion_grid: rows and columns of the motion tokens of a segment; None for a square.
  """

  config: FusionConfig
  classes: int
  dtype: jnp.dtype = jnp.float32
  grid: tuple[int, int] | None = None
  motion_grid: tuple[int, int] | None = None

  @nn.compact
  def __call__(
    self,
    semantic: Float[Array, "B T N D"] | None,
    motion: Float[Array, "B T *M E"] | None,
    train: bool = False,
    capture: bool = False,
  ) -> dict[str, Any]:
    """The outputs by name.

    Args:
      semantic: patch tokens; may be None where `config.streams` is "motion".
      motion: one vector a segment [B, T, E] or a grid of cells [B, T, M, E]; may be None where it is "semantic".
      train: whether dropout and stochastic depth act, which draw from the random stream "dropout".
      capture: whether "intermediates" are wanted.

    Returns:
      "logits" float32 [B, C]; "auxiliary" with auxiliary heads: a tuple of [B, C], for each depth but the last;
      "intermediates" on request: "attention" (weights by name of the module, as in the parameter tree), "tokens"
      ("semantic_0", "motion_0", ...: after the graphs, "semantic_1", ...: after each layer) and "pooled" ("semantic",
      "motion": [B, D], or [B, T, D] where the scores of frames are averaged; "frames" of an LSTM).

    Raises:
      ConfigError: features that the configuration can't work on.
    """
    config = self.config
    semantic = None if config.streams == "motion" else _required(semantic, "semantic", config)
    motion = None if config.streams == "semantic" else _as_grid(_required(motion, "motion", config))
    if semantic is not None and motion is not None:
      require(
        semantic.shape[0] == motion.shape[0],
        f"semantic tokens {semantic.shape} and motion tokens {motion.shape} differ in clips; give both of each clip.",
      )
    given = {stream: x.shape[1:] for stream, x in (("semantic", semantic), ("motion", motion)) if x is not None}
    shapes = stream_shapes(given, self.grid, self.motion_grid)
    check_shapes(config, shapes)
    if config.input_norm:
      semantic, motion = (None if x is None else _normalise(x) for x in (semantic, motion))

    semantic, semantic_weights = self._refine("semantic", semantic, shapes, train, capture)
    motion, motion_weights = self._refine("motion", motion, shapes, train, capture)
    progressive = ProgressiveFusion(config, shapes.grid, shapes.motion_grid, self.dtype)
    nn.share_scope(self, progressive)  # its layers are named beside the graphs, not below a level of their own
    states, exchange_weights = progressive(semantic, motion, train, capture)
    pooled, pool_weights = self._pool(states[-1])
    classifier = Classifier(self.classes, config.dropout)
    nn.share_scope(self, classifier)
    logits = classifier(Join(config.join, config.join_width, name="join")(pooled), train)
    outputs = {"logits": logits.mean(1) if config.pooling == "scores" else logits}
    if config.auxiliary:
      outputs["auxiliary"] = tuple(self._auxiliary(depth, state, train) for depth, state in enumerate(states[:-1]))
    if capture:
      attention = semantic_weights | motion_weights | exchange_weights | pool_weights
      outputs["intermediates"] = {"attention": attention, "tokens": _name_tokens(states), "pooled": pooled}
    return outputs

  def _refine(
    self, stream: str, x: Array | None, shapes: StreamShapes, train: bool, capture: bool
  ) -> tuple[Float[Array, "B T N D"] | None, dict[str, Array]]:
    """The graph blocks of one stream, on the graph that the features form as they came in."""
    if x is None:
      return None, {}
    config, graph, weights = self.config, stream_graph(self.config, shapes, stream), {}
    if not graph.blocks:
      return x.astype(self.dtype), weights
    nodes = x if stream == "semantic" else x.reshape(x.shape[0], -1, x.shape[-1])  # a graph a frame or a clip
    gathered = config.graph_score == "gatv2"
    neighbours = neighbourhood(nodes, graph, config.graph_neighbours, config.relative_bias, gathered)
    refined = nodes.astype(self.dtype)
    block_class = GraphBlock if config.graph_width == "full" else BottleneckGraphBlock
    block_class = nn.remat(block_class, static_argnums=(3, 4)) if config.remat else block_class
    for i in range(graph.blocks):
      name = f"{stream}_graph_{i}"
      block = block_class(config, graph.sides, config.drop_path, self.dtype, name=name)
      refined, weights[name] = block(refined, neighbours, train, capture)
    return refined.reshape(x.shape), weights

  def _pool(self, state: State) -> tuple[dict[str, Float[Array, "B D"]], dict[str, Array]]:
    """The vectors that are joined, by stream, and the weights of the attentive pooling."""
    config, streams = self.config, _present(state)
    if config.pooling == "attentive":
      pooled, weights = {}, {}
      for stream, tokens in streams.items():
        name, time_bias = f"pool_{stream}", (config.pool_time_bias, config.bias_std)
        pool = AttentivePooling(config.heads, config.bottleneck, *time_bias, self.dtype, name=name)
        pooled[stream], weights[name] = pool(tokens)
      return pooled, weights
    if config.pooling == "mean":
      return {stream: mean_pool(tokens) for stream, tokens in streams.items()}, {}
    frames = {stream: frame_means(tokens) for stream, tokens in streams.items()}
    if config.pooling == "flat":
      return {stream: x.reshape(x.shape[0], -1) for stream, x in frames.items()}, {}
    if config.pooling == "lstm":
      together = jnp.concatenate(list(frames.values()), -1)
      return {"frames": RecurrentPooling(config.lstm_width, self.dtype, name="pool_frames")(together)}, {}
    return frames, {}

  def _auxiliary(self, depth: int, state: State, train: bool) -> Float[Array, "B C"]:
    """The logits of the state at one depth: what the layers up to there are worth."""
    pooled = [mean_pool(tokens) for tokens in _present(state).values()]
    classifier = Classifier(self.classes, self.config.dropout, name=f"{AUXILIARY}_{depth}")
    return classifier(jnp.concatenate(pooled, -1), train)


def _required(features: Array | None, stream: str, config: FusionConfig) -> Array:
  require(
    features is not None,
    f"fusion.streams = {config.streams!r} needs {stream} features and there are none; extract them, or choose the "
    "other stream.",
  )
  return features


def _normalise(x: Float[Array, "*axes D"]) -> Float[Array, "*axes D"]:
  """A layer norm without parameters, in float32."""
  return nn.LayerNorm(use_bias=False, use_scale=False, parent=None).apply({}, x.astype(jnp.float32))


def _present(state: State) -> dict[str, Array]:
  return {name: tokens for name, tokens in zip(("semantic", "motion"), state, strict=True) if tokens is not None}


def _name_tokens(states: tuple[State, ...]) -> dict[str, Array]:
  return {f"{name}_{depth}": x for depth, state in enumerate(states) for name, x in _present(state).items()}


def _as_grid(motion: Float[Array, "B T *M E"]) -> Float[Array, "B T M E"]:
  return motion[:, :, None] if motion.ndim == 3 else motion


def _square(tokens: int, grid: tuple[int, int] | None, name: str) -> tuple[int, int]:
  side = math.isqrt(tokens)
  rows, columns = grid or (side, side)
  require(
    rows * columns == tokens,
    f"{tokens} {name} tokens a frame are not a grid of {rows} x {columns}; give the rows and columns of the features.",
  )
  return rows, columns


def stream_shapes(
  clip: Mapping[str, tuple[int, ...]],
  grid: tuple[int, int] | None = None,
  motion_grid: tuple[int, int] | None = None,
) -> StreamShapes:
  """The sizes of a clip's features, {"semantic": (T, N, D), "motion": (T, E) or (T, M, E)}; an absent stream leaves the
  defaults, which then nobody reads.

  Raises:
    ConfigError: the streams differ in time, or tokens are no grid.
  """
  sizes = {}
  if "semantic" in clip:
    time, tokens, width = clip["semantic"]
    sizes |= {"time": time, "grid": _square(tokens, grid, "semantic"), "semantic_width": width}
  if "motion" in clip:
    segments, *cells, width = clip["motion"]
    require(
      segments == sizes.get("time", segments),
      f"semantic tokens {clip.get('semantic')} and motion tokens {clip['motion']} differ in time; frame t and "
      "segment t must be of the same moment.",
    )
    sizes |= {"time": segments, "motion_grid": _square(cells[0] if cells else 1, motion_grid, "motion")}
    sizes["motion_width"] = width
  return StreamShapes(**sizes)


def count_parameters(params: Mapping[str, Any]) -> dict[str, int]:
  """The number of parameters of each top-level part of a tree of arrays or of their shapes (`jax.eval_shape`)."""
  parts: dict[str, int] = {}
  for name, leaf in flatten(params).items():
    part = name.split("/")[0]
    parts[part] = parts.get(part, 0) + math.prod(leaf.shape)
  return parts


def require_trainable(params: Mapping[str, Any], max_trainable: int) -> dict[str, int]:
  """`count_parameters` of the trained parameters, if they are few enough.

  Auxiliary heads serve training only, so they are in the table and not in the sum.

  Raises:
    ConfigError: the sum exceeds `max_trainable`; the message holds the table.
  """
  parts = count_parameters(params)
  total = sum(number for part, number in parts.items() if not part.startswith(AUXILIARY))
  table = "\n".join(f"  {part:<24}{number:>12,}" for part, number in parts.items())
  require(
    total <= max_trainable,
    f"model.max_trainable = {max_trainable:,}: {total:,} parameters would be trained (auxiliary heads not counted). "
    f'Use a smaller variant ("efficient" for wide features) or raise the limit.\n{table}',
  )
  return parts
