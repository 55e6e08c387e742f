"""What tells the model before from after and left from right: terms by offset, learned codes, or the pools' own?

  python launch/main.py --config configs/ablations/bias.py --workdir runs/ablations/bias

Reported on pairs of classes that are each other mirrored or reversed in time, beside the accuracy. Without any sign, a
clip and its reversal give the same answer (docs/ceilings.md). Cost and numbers: docs/results.md.
"""

from ml_collections import ConfigDict

from configs.ablations import settings
from configs.ablations.settings import UNSIGNED, variant

VARIANTS = (
  variant("GASM-CAST"),
  variant("no terms by offset", relative_bias="none"),
  variant("terms by distance", relative_bias="absolute"),
  variant("no codes of time", time_embedding=False),
  variant("no terms in the pools", pool_time_bias=False),
  variant("terms by offset alone", time_embedding=False, pool_time_bias=False),
  variant("codes of time alone", relative_bias="none", pool_time_bias=False),
  variant("terms in the pools alone", relative_bias="none", time_embedding=False),
  variant("no signs at all", "unsigned", **UNSIGNED),
  variant("no terms by place", place_bias=False),
  variant("no codes of place", space_embedding=False),
  variant("terms from zero", bias_std=0.0),
  variant("codes from 0.02", embedding_std=0.02),
)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: task=NAME of a feature-level set, two without it; runlocal (a grid of seconds)."""
  return settings.ablation(arg, "Signs, codes and terms by offset", VARIANTS, tasks=("object_trajectory", "directions"))
