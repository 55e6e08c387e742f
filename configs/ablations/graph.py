"""What do the graph layers do: who should be a neighbour, how are they scored, and where do they pay?

  python launch/main.py --config configs/ablations/graph.py --workdir runs/ablations/graph

Neighbours by structure, by similarity, both (as it is), all, a random choice of equal degree, none; scores by product
or as GATv2; at the bottleneck width (as it is) or the full one. Cost and numbers: docs/results.md.
"""

from ml_collections import ConfigDict

from configs.ablations import settings
from configs.ablations.settings import variant

VARIANTS = (
  variant("GASM-CAST"),
  variant("no graphs", graph_neighbours="none"),
  variant("structural neighbours", graph_neighbours="structural"),
  variant("neighbours by similarity", graph_neighbours="similarity"),
  variant("complete graph", graph_neighbours="complete"),
  variant("random neighbours", graph_neighbours="random"),
  variant("no term of similarity", similarity_bias=False),
  variant("GATv2 scores", graph_score="gatv2"),
  variant("full width", graph_width="full"),
  variant("no feed-forward part", graph_ffn_ratio=0.0),
  variant("semantic graph only", motion_blocks=0),
  variant("motion graph only", semantic_blocks=0),
)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: task=NAME of a feature-level set, three without it; runlocal (a grid of seconds)."""
  return settings.ablation(arg, "Graph attention", VARIANTS, tasks=(*settings.DESIGN, "conjunction_in_place"))
