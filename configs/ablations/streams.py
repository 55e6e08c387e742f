"""What is each stream worth, alone and beside the other?

  python launch/main.py --config configs/ablations/streams.py --workdir runs/ablations/streams

A single stream goes through the same graph, merge, pooling and head as both. Cost and numbers: docs/results.md.
"""

from ml_collections import ConfigDict

from configs.ablations import settings
from configs.ablations.settings import variant

VARIANTS = (
  variant("GASM-CAST"),
  variant("semantic alone", "semantic", streams="semantic"),
  variant("motion alone", "motion", streams="motion"),
)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: task=NAME of a feature-level set, two without it; runlocal (a grid of seconds)."""
  return settings.ablation(arg, "What each stream is worth", VARIANTS, tasks=settings.DESIGN)
