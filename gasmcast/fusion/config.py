"""Every choice of the fusion in one frozen dataclass, what it asks of the features, and the named variants."""

import dataclasses
import math
from typing import Literal, NamedTuple

from gasmcast.core.config import require

Stream = Literal["semantic", "motion"]
Streams = Literal["both", "semantic", "motion"]
RelativeBias = Literal["signed", "absolute", "none"]
Neighbours = Literal["none", "structural", "similarity", "both", "complete", "random"]
Pooling = Literal["attentive", "mean", "flat", "lstm", "scores"]


@dataclasses.dataclass(frozen=True)
class FusionConfig:
  """Graph attention in each stream, the layers of exchange, the pooling and the joining; the defaults are `base`.

  Attributes:
    streams: "both", or a single stream through the same graph, merges, pooling and head.
    heads: attention heads everywhere; also the number of pooling queries.
    input_norm: every token of both streams is brought to mean 0 and variance 1 over its channels, without parameters.
      Two networks give features of different sizes; the residual streams carry them to the classifier, which then
      hears the louder one.
    relative_bias: learned terms in the attention logits by offset: "signed" (left is not right, before is not
      after), "absolute" (mirrored offsets share one) or "none".
    bias_std: initial standard deviation of those terms, of the similarity scales and of the pools' time biases. Their
      gradients are far smaller than all others, so what starts near 0 stays there; the default is of the size of the
      other logits.

    semantic_blocks, motion_blocks: graph attention blocks per stream.
    graph_width: "full", or "bottleneck": the block works at width `bottleneck` between two projections.
    graph_neighbours: who is a neighbour beside the node itself. "structural": within the radius; "similarity": the
      nearest by cosine of the frozen features; "both"; "complete": everybody; "random": a fixed random choice with
      the degrees of "both"; "none": no graph blocks at all.
    graph_score: "dot" product, or "gatv2" (Brody et al. 2022).
    similarity_bias: a learned multiple, by head, of the cosine of two nodes in the attention logits of the graph.
    semantic_radius: patches, in rows and in columns.
    semantic_nearest: nearest patches by similarity, structural neighbours not counted.
    motion_window: segments before and after.
    motion_radius: cells of a motion grid, in rows and in columns.
    motion_nearest: nearest segments (or cells) by similarity.
    graph_ffn_ratio: hidden width over width of the graph's feed-forward part; 0 leaves it out.
    layer_scale: initial LayerScale of the graph's residual branches; 0 leaves it out.

    exchange: the kind of layer in which the streams see each other: "bcast", or "vanilla" cross-attention at the full
      width of each stream.
    windows: one such layer for each; segment s is seen from frame t where |t - s| <= window. Without any, the
      streams meet only where they are joined (late fusion).
    merge_before: layers, counted from 1, that an attentive 2x2 merge of the patches precedes.
    direction: which stream is changed by the layers.
    place_bias: whether `relative_bias` counts between patches and the cells of a motion grid too.
    time_embedding, space_embedding: learned codes of the layers, with the initial deviation `embedding_std`, near that
      of the normalised tokens they are added to.
    zero_init: what a layer adds to the streams starts at zero, so that they are independent at the start.
    bottleneck: width of the B-CAST layers and of the pooling keys.
    bcast_ffn_ratio: hidden width over `bottleneck` of the feed-forward parts of B-CAST; 0 leaves them out.

    pooling: of each stream. "attentive"; "mean" over time and tokens; "flat": the mean over tokens of every frame, one
      after the other; "lstm": the last state of an LSTM over the frames, which reads both streams' means over tokens;
      "scores": the means of each frame are classified and the scores averaged (TSN, Wang et al. 2016).
    pool_time_bias: a learned bias by head and time in the attentive pooling.
    lstm_width: of the LSTM's state.
    join: of the pooled vectors, before the classification. "concat"; "mlp": a hidden layer on the concatenation;
      "product": both streams projected to one width and multiplied (Kim et al. 2017).
    join_width: of that hidden layer, or of that product.
    auxiliary: classification heads before the first layer and after each but the last.
    dropout: before the classification.
    drop_path: probability of dropping a residual branch in training.
    remat: recompute each graph block and B-CAST layer in the backward pass to save memory.

  Raises:
    ConfigError: a value is out of range or impossible beside another.
  """

  streams: Streams = "both"
  heads: int = 8
  input_norm: bool = False
  relative_bias: RelativeBias = "signed"
  bias_std: float = 0.5

  semantic_blocks: int = 1
  motion_blocks: int = 1
  graph_width: Literal["full", "bottleneck"] = "full"
  graph_neighbours: Neighbours = "both"
  graph_score: Literal["dot", "gatv2"] = "dot"
  similarity_bias: bool = True
  semantic_radius: int = 1
  semantic_nearest: int = 8
  motion_window: int = 2
  motion_radius: int = 1
  motion_nearest: int = 2
  graph_ffn_ratio: float = 2.0
  layer_scale: float = 0.1

  exchange: Literal["bcast", "vanilla"] = "bcast"
  windows: tuple[int, ...] = (1, 3, 7)
  merge_before: tuple[int, ...] = (2,)
  direction: Literal["both", "motion_to_semantic", "semantic_to_motion"] = "both"
  place_bias: bool = True
  time_embedding: bool = True
  space_embedding: bool = True
  embedding_std: float = 0.5
  zero_init: bool = True
  bottleneck: int = 256
  bcast_ffn_ratio: float = 4.0

  pooling: Pooling = "attentive"
  pool_time_bias: bool = True
  lstm_width: int = 512
  join: Literal["concat", "mlp", "product"] = "concat"
  join_width: int = 512
  auxiliary: bool = False
  dropout: float = 0.0
  drop_path: float = 0.0
  remat: bool = False

  def __post_init__(self):
    _require_ranges(self)
    for i, window in enumerate(self.windows):
      require(
        window >= 1,
        f"fusion.windows[{i}] = {window}: every query must see at least two segments, because the softmax over one "
        "key is always 1 and its query and key never learn; use 1 or more.",
      )
    require(
      all(1 <= layer <= len(self.windows) for layer in self.merge_before)
      and len(set(self.merge_before)) == len(self.merge_before),
      f"fusion.merge_before = {self.merge_before}: names layers of exchange, each once, counted from 1 to "
      f"{len(self.windows)} (the length of fusion.windows).",
    )
    require(
      not (self.graph_neighbours == "complete" and self.graph_score == "gatv2"),
      "fusion.graph_score = 'gatv2' adds up a vector for each pair of neighbours, too many in a complete graph; use "
      "graph_score = 'dot' or other graph_neighbours.",
    )


def _require_ranges(config: FusionConfig) -> None:
  positive = ("heads", "bottleneck", "lstm_width", "join_width")
  counts = ("semantic_blocks", "motion_blocks", "semantic_radius", "semantic_nearest", "motion_window")
  scales = ("motion_radius", "motion_nearest", "graph_ffn_ratio", "layer_scale", "bcast_ffn_ratio", "bias_std")
  for name in positive:
    require(getattr(config, name) >= 1, f"fusion.{name} = {getattr(config, name)}: use 1 or more.")
  for name in (*counts, *scales, "embedding_std"):
    require(getattr(config, name) >= 0, f"fusion.{name} = {getattr(config, name)} is negative; use 0 or more.")
  for name in ("dropout", "drop_path"):
    rate = getattr(config, name)
    require(0 <= rate < 1, f"fusion.{name} = {rate} is a probability; use a number from 0 to below 1.")
  require(
    config.bottleneck % config.heads == 0,
    f"fusion.bottleneck = {config.bottleneck} can't be cut into fusion.heads = {config.heads} equal heads; choose "
    "heads that divide it.",
  )


@dataclasses.dataclass(frozen=True)
class StreamShapes:
  """The sizes of the features that a fusion works on; the defaults are DINOv3 ViT-B/16 and R3D-18.

  Attributes:
    time: T, frames of the semantic stream and segments of the motion stream.
    grid: rows and columns of patches.
    semantic_width, motion_width: D of each stream.
    motion_grid: rows and columns of cells of a segment; (1, 1) for one vector a segment.
  """

  time: int = 8
  grid: tuple[int, int] = (14, 14)
  semantic_width: int = 768
  motion_width: int = 512
  motion_grid: tuple[int, int] = (1, 1)

  @property
  def patches(self) -> int:
    return math.prod(self.grid)

  @property
  def cells(self) -> int:
    return math.prod(self.motion_grid)

  def width(self, stream: Stream) -> int:
    return self.semantic_width if stream == "semantic" else self.motion_width

  def tokens(self, stream: Stream) -> int:
    """Tokens of a clip."""
    return self.time * (self.patches if stream == "semantic" else self.cells)


def shapes_at(config: FusionConfig, shapes: StreamShapes, depth: int) -> StreamShapes:
  """The sizes inside layer of exchange `depth` and after it; depth 0 is before the first."""
  halvings = sum(layer <= depth for layer in config.merge_before)
  return dataclasses.replace(shapes, grid=(shapes.grid[0] >> halvings, shapes.grid[1] >> halvings))


class StreamGraph(NamedTuple):
  """The graph of one stream: how many blocks work on it, and on which nodes.

  Attributes:
    blocks: 0 where `graph_neighbours` is "none".
    sides: of the lattice of nodes (see `metadata.lattice`): (rows, columns) of a frame; (time,) or, for a motion grid,
      (time, rows, columns) of a clip.
    radius: of structural neighbours along each side.
    nearest: neighbours by similarity.
  """

  blocks: int
  sides: tuple[int, ...]
  radius: tuple[int, ...]
  nearest: int

  @property
  def size(self) -> int:
    """The number of nodes."""
    return math.prod(self.sides)


def stream_graph(config: FusionConfig, shapes: StreamShapes, stream: Stream) -> StreamGraph:
  """The graph that the configuration names for a stream."""
  used = config.graph_neighbours != "none"
  if stream == "semantic":
    radius = (config.semantic_radius, config.semantic_radius)
    return StreamGraph(used * config.semantic_blocks, shapes.grid, radius, config.semantic_nearest)
  in_place = () if shapes.cells == 1 else shapes.motion_grid
  radius = (config.motion_window, *(config.motion_radius for _ in in_place))
  return StreamGraph(used * config.motion_blocks, (shapes.time, *in_place), radius, config.motion_nearest)


def check_shapes(config: FusionConfig, shapes: StreamShapes) -> None:
  """Refuses features on which the configuration can't work, or on which a part of it could never learn.

  Raises:
    ConfigError: heads that do not divide a width, an odd grid that is to be merged, a query with a single key.
  """
  if config.streams != "motion":
    _check_width(config, "semantic", shapes)
    _check_merges(config, shapes)
    _check_graph(config, "semantic", stream_graph(config, shapes, "semantic"))
  if config.streams != "semantic":
    _check_width(config, "motion", shapes)
    _check_graph(config, "motion", stream_graph(config, shapes, "motion"))
  if config.streams == "both":
    _check_exchange(config, shapes)


def _check_width(config: FusionConfig, stream: Stream, shapes: StreamShapes) -> None:
  require(
    shapes.width(stream) % config.heads == 0,
    f"fusion.heads = {config.heads} does not divide the {stream} width {shapes.width(stream)}; choose a divisor of it.",
  )


def _check_merges(config: FusionConfig, shapes: StreamShapes) -> None:
  for layer in sorted(config.merge_before):
    rows, columns = shapes_at(config, shapes, layer - 1).grid
    require(
      rows % 2 == 0 and columns % 2 == 0,
      f"fusion.merge_before = {config.merge_before}: the {rows} x {columns} grid before layer {layer} has no 2x2 "
      "merge, both sides must be even; set merge_before = () or take the features from a stage with an even grid.",
    )


def _check_graph(config: FusionConfig, stream: Stream, graph: StreamGraph) -> None:
  near = any(side > 1 and reach > 0 for side, reach in zip(graph.sides, graph.radius, strict=True))
  alike = graph.size > 1 and graph.nearest > 0
  kind, reach = config.graph_neighbours, "motion_window" if stream == "motion" else "semantic_radius"
  enough = {"structural": near, "similarity": alike, "complete": graph.size > 1}.get(kind, near or alike)
  require(
    enough or graph.blocks == 0,
    f"fusion: a node of the {stream} graph with sides {graph.sides} sees only itself with graph_neighbours = {kind!r}, "
    f"{reach} = {graph.radius[0]}, {stream}_nearest = {graph.nearest}: the softmax over one key is always 1 and its "
    f"query and key never learn; widen the neighbourhood, or set {stream}_blocks = 0.",
  )


def _check_exchange(config: FusionConfig, shapes: StreamShapes) -> None:
  for layer in range(1, len(config.windows) + 1):
    seen = {"motion_to_semantic": shapes.cells, "semantic_to_motion": shapes_at(config, shapes, layer).patches}
    for direction, tokens in seen.items():
      require(
        shapes.time * tokens >= 2 or config.direction not in ("both", direction),
        f"fusion: {shapes.time} segment of {tokens} token is a single key for {direction} in layer {layer}: its "
        "softmax is always 1 and its query and key never learn; give 2 or more segments.",
      )


BASE = FusionConfig()

VARIANTS: dict[str, FusionConfig] = {
  "literal": dataclasses.replace(
    BASE,
    graph_ffn_ratio=0.0,
    layer_scale=0.0,
    windows=(7, 7, 7),
    merge_before=(),
    bcast_ffn_ratio=0.0,
    time_embedding=False,
    space_embedding=False,
    zero_init=False,
    bias_std=0.0,
    pooling="mean",
  ),
  "small": dataclasses.replace(BASE, graph_ffn_ratio=0.0, bcast_ffn_ratio=0.0),
  "base": BASE,
  "large": dataclasses.replace(BASE, semantic_blocks=2, motion_blocks=2, bcast_ffn_ratio=0.0),
  "efficient": dataclasses.replace(BASE, graph_width="bottleneck"),
}
