"""Multiply-accumulates of a clip by hand formula, part by part, and of the vanilla cross-attention to compare with.

Counted are matrix products (projections, scores, weighted sums); norms, softmax, biases and activations are not. The
similarity of a stream's features is a part of its own ("semantic_similarity"), as all graph blocks share it.
"""

from collections.abc import Mapping

from gasmcast.fusion.config import FusionConfig, StreamGraph, StreamShapes, shapes_at, stream_graph
from gasmcast.fusion.neighbours import most_neighbours


def fusion_macs(config: FusionConfig, shapes: StreamShapes, classes: int) -> dict[str, int]:
  """MACs of a forward pass of `FusionClassifier` for one clip, without auxiliary heads.

  The keys are those of the parameter tree ("semantic_graph_0", "merge_2", "bcast_2", "pool_motion", "head", ...) and
  "semantic_similarity", "motion_similarity".
  """
  streams = ("semantic", "motion") if config.streams == "both" else (config.streams,)
  parts = {}
  for stream in streams:
    graph, tokens, width = stream_graph(config, shapes, stream), shapes.tokens(stream), shapes.width(stream)
    if graph.blocks:
      parts[f"{stream}_similarity"] = tokens * graph.size * width
    parts |= {f"{stream}_graph_{i}": _graph_block(config, graph, tokens, width) for i in range(graph.blocks)}
  for layer in range(1, len(config.windows) + 1):
    if layer in config.merge_before and "semantic" in streams:
      entering = shapes_at(config, shapes, layer - 1)
      parts[f"merge_{layer}"] = 2 * entering.tokens("semantic") * entering.semantic_width  # scores, weighted sum
    if config.streams == "both":
      layer_macs = {"bcast": _bcast, "vanilla": _vanilla}[config.exchange]
      parts[f"{config.exchange}_{layer}"] = layer_macs(config, shapes_at(config, shapes, layer))
  return parts | _classification(config, shapes_at(config, shapes, len(config.windows)), streams, classes)


def vanilla_macs(shapes: StreamShapes) -> int:
  """MACs of one layer of bidirectional cross-attention between all tokens that keeps each stream's own width."""
  return _vanilla(FusionConfig(), shapes)


SCOPES = {
  "graph": lambda part: "_graph_" in part or part.endswith("_similarity"),
  "exchange": lambda part: part.startswith(("bcast_", "vanilla_", "merge_")),
  "classification": lambda part: part.startswith(("pool_", "join", "head")),
}


def by_scope(parts: Mapping[str, int]) -> dict[str, int]:
  """Numbers by part of the network, as `fusion_macs` names them, added up: "graph", "exchange", "classification"."""
  return {scope: sum(n for part, n in parts.items() if belongs(part)) for scope, belongs in SCOPES.items()}


def _vanilla(config: FusionConfig, shapes: StreamShapes) -> int:
  total = 0
  for source, target in (("motion", "semantic"), ("semantic", "motion")):
    if config.direction in ("both", f"{source}_to_{target}"):
      width = shapes.width(target)
      total += _cross_attention(shapes.tokens(target), shapes.tokens(source), width, width, shapes.width(source))
  return total


def _classification(
  config: FusionConfig, shapes: StreamShapes, streams: tuple[str, ...], classes: int
) -> dict[str, int]:
  """Pooling, joining and head, on the state after the last layer."""
  widths = {stream: shapes.width(stream) for stream in streams}
  parts, times = {}, shapes.time if config.pooling == "scores" else 1
  if config.pooling == "attentive":
    for stream, width in widths.items():  # keys, scores, weighted sum
      parts[f"pool_{stream}"] = shapes.tokens(stream) * (width * config.bottleneck + config.bottleneck + width)
  elif config.pooling == "flat":
    widths = {stream: width * shapes.time for stream, width in widths.items()}
  elif config.pooling == "lstm":  # four gates, from the input and from the state
    parts["pool_frames"] = shapes.time * 4 * config.lstm_width * (sum(widths.values()) + config.lstm_width)
    widths = {"frames": config.lstm_width}
  joined = sum(widths.values())
  if config.join != "concat":
    parts["join"] = times * joined * config.join_width
    joined = config.join_width
  return parts | {"head": times * joined * classes}


def _cross_attention(queries: int, keys: int, width: int, query_width: int, key_width: int) -> int:
  """Query and output projections, key and value projections, scores and weighted sum."""
  return 2 * queries * width * query_width + 2 * keys * width * key_width + 2 * queries * keys * width


def _graph_block(config: FusionConfig, graph: StreamGraph, tokens: int, width: int) -> int:
  full = config.graph_width == "full"
  inner = width if full else config.bottleneck
  neighbours = graph.size if config.graph_score == "dot" else most_neighbours(config.graph_neighbours, graph)
  narrowing = 0 if full else 2 * tokens * width * inner
  attention = 4 * tokens * inner**2 + 2 * tokens * neighbours * inner
  return narrowing + attention + 2 * tokens * inner * int(inner * config.graph_ffn_ratio)


def _bcast(config: FusionConfig, shapes: StreamShapes) -> int:
  narrow, hidden = config.bottleneck, int(config.bottleneck * config.bcast_ffn_ratio)
  total = 0
  for source, target in (("motion", "semantic"), ("semantic", "motion")):
    queries, width = shapes.tokens(target), shapes.width(target)
    total += queries * width * narrow  # down
    if config.direction in ("both", f"{source}_to_{target}"):
      total += _cross_attention(queries, shapes.tokens(source), narrow, narrow, narrow)
      total += queries * narrow * (2 * hidden + width)  # feed-forward and up
  return total
