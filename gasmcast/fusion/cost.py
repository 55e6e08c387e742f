"""Multiply-accumulates of a clip by hand formula, part by part, and of the vanilla cross-attention to compare with.

Counted are matrix products (projections, scores, weighted sums); norms, softmax, biases and activations are not. The
similarity of a stream's features is a part of its own ("semantic_similarity"), as all graph blocks share it.
"""

import math

from gasmcast.fusion.config import FusionConfig, StreamGraph, StreamShapes, grid_at, stream_graph
from gasmcast.fusion.neighbours import most_neighbours


def fusion_macs(config: FusionConfig, shapes: StreamShapes, classes: int) -> dict[str, int]:
  """MACs of a forward pass of `FusionClassifier` for one clip, without auxiliary heads.

  The keys are those of the parameter tree ("semantic_graph_0", "merge_2", "bcast_2", "pool_motion", "head", ...).
  """
  parts, width, layers = {}, 0, len(config.windows)
  streams = ("semantic", "motion") if config.streams == "both" else (config.streams,)
  for stream in streams:
    graph = stream_graph(config, shapes, stream)
    tokens, features = _tokens(shapes, stream, shapes.grid), _width(shapes, stream)
    if graph.blocks:
      parts[f"{stream}_similarity"] = tokens * graph.size * features
    parts |= {f"{stream}_graph_{i}": _graph_block(config, graph, tokens, features) for i in range(graph.blocks)}
  for layer in range(1, layers + 1):
    if layer in config.merge_before and "semantic" in streams:
      entering = _tokens(shapes, "semantic", grid_at(config, shapes, layer - 1))
      parts[f"merge_{layer}"] = 2 * entering * shapes.semantic_width  # scores and weighted sum
    if config.streams == "both":
      parts[f"bcast_{layer}"] = _bcast(config, shapes, grid_at(config, shapes, layer))
  for stream in streams:
    tokens, features = _tokens(shapes, stream, grid_at(config, shapes, layers)), _width(shapes, stream)
    width += features
    if config.pooling == "attentive":  # keys, scores, weighted sum
      parts[f"pool_{stream}"] = tokens * (features * config.bottleneck + config.bottleneck + features)
  return parts | {"head": width * classes}


def vanilla_macs(shapes: StreamShapes) -> int:
  """MACs of one layer of bidirectional cross-attention between all tokens that keeps each stream's own width."""
  s, m = _tokens(shapes, "semantic", shapes.grid), _tokens(shapes, "motion", shapes.grid)
  return _attention(s, m, shapes.semantic_width, shapes.semantic_width, shapes.motion_width) + _attention(
    m, s, shapes.motion_width, shapes.motion_width, shapes.semantic_width
  )


def _tokens(shapes: StreamShapes, stream: str, grid: tuple[int, int]) -> int:
  return shapes.time * (math.prod(grid) if stream == "semantic" else shapes.cells)


def _width(shapes: StreamShapes, stream: str) -> int:
  return shapes.semantic_width if stream == "semantic" else shapes.motion_width


def _attention(queries: int, keys: int, width: int, query_width: int, key_width: int) -> int:
  """Query and output projections, key and value projections, scores and weighted sum."""
  return 2 * queries * width * query_width + 2 * keys * width * key_width + 2 * queries * keys * width


def _graph_block(config: FusionConfig, graph: StreamGraph, tokens: int, width: int) -> int:
  inner = width if config.graph_width == "full" else config.bottleneck
  neighbours = graph.size if config.graph_score == "dot" else most_neighbours(config.graph_neighbours, graph)
  between = 0 if config.graph_width == "full" else 2 * tokens * width * inner
  projections, pairs = 4 * tokens * inner**2, 2 * tokens * neighbours * inner
  return between + projections + pairs + 2 * tokens * inner * int(inner * config.graph_ffn_ratio)


def _bcast(config: FusionConfig, shapes: StreamShapes, grid: tuple[int, int]) -> int:
  narrow, hidden = config.bottleneck, int(config.bottleneck * config.bcast_ffn_ratio)
  tokens = {stream: _tokens(shapes, stream, grid) for stream in ("semantic", "motion")}
  down = sum(tokens[stream] * _width(shapes, stream) * narrow for stream in tokens)
  total = down
  for source, target in (("motion", "semantic"), ("semantic", "motion")):
    if config.direction in ("both", f"{source}_to_{target}"):
      total += _attention(tokens[target], tokens[source], narrow, narrow, narrow)
      total += tokens[target] * narrow * (2 * hidden + _width(shapes, target))
  return total
