"""How narrow may the bottleneck be, with how many heads, and does it need feed-forward parts?

  python launch/main.py --config configs/ablations/bottleneck.py --workdir runs/ablations/bottleneck

On features of width 32 and 24 the width is 32 as it is; 8 to 128 are tried, and 2 to 8 heads. At the full size the same
fields are 64 to 512 and 4 to 16. Cost and numbers: docs/results.md.
"""

from ml_collections import ConfigDict

from configs.ablations import settings
from configs.ablations.settings import variant

VARIANTS = (
  variant("GASM-CAST"),
  variant("width 8", bottleneck=8),
  variant("width 16", bottleneck=16),
  variant("width 64", bottleneck=64),
  variant("width 128", bottleneck=128),
  variant("2 heads", heads=2),
  variant("8 heads", heads=8),
  variant("no feed-forward parts", bcast_ffn_ratio=0.0),
  variant("feed-forward parts of ratio 4", bcast_ffn_ratio=4.0),
)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: task=NAME of a feature-level set, two without it; runlocal (a grid of seconds)."""
  return settings.ablation(arg, "Bottleneck, heads and feed-forward parts", VARIANTS, tasks=settings.DESIGN)
