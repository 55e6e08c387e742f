"""Do windows and merges, layer by layer, earn their place, and how deep should the exchange be?

  python launch/main.py --config configs/ablations/progression.py --workdir runs/ablations/progression

Three layers over everything (flat), with growing windows, with the merge of patches, with both (as it is), and fewer
layers. Cost and numbers: docs/results.md.
"""

from ml_collections import ConfigDict

from configs.ablations import settings
from configs.ablations.settings import variant

VARIANTS = (
  variant("GASM-CAST"),
  variant("flat", windows=(7, 7, 7), merge_before=()),
  variant("windows", merge_before=()),
  variant("merge", windows=(7, 7, 7)),
  variant("1 layer", windows=(1,), merge_before=()),
  variant("1 layer, flat", windows=(7,), merge_before=()),
  variant("2 layers", windows=(1, 3)),
)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: task=NAME of a feature-level set, two without it; runlocal (a grid of seconds)."""
  return settings.ablation(arg, "Windows, merges and depth", VARIANTS, tasks=settings.DESIGN)
