"""Does every model stay below the ceiling of what it can see, and does GASM-CAST reach the top?

  python launch/main.py --config configs/ablations/ceilings.py --workdir runs/ablations/ceilings

Features without noise, so that ceilings are exact (docs/ceilings.md). Every variant has the same learning rate.
Expected: GASM-CAST at least 0.98 on object trajectory and 0.95 on both conjunctions; docs/results.md.
"""

from ml_collections import ConfigDict

from configs.ablations import settings
from configs.ablations.settings import LATE, UNSIGNED, VANILLA, variant

VARIANTS = (
  variant("GASM-CAST"),
  variant("vanilla cross-attention", graph_neighbours="none", **VANILLA),
  variant("semantic alone", "semantic", streams="semantic"),
  variant("motion alone", "motion", streams="motion"),
  variant("late concat of means", "means", **LATE, pooling="mean"),
  variant("late concat of means, MLP", "means", **LATE, pooling="mean", join="mlp"),
  variant("late product of means", "means", **LATE, pooling="mean", join="product", join_width=64),
  variant("late concat of flat frames, MLP", "frames", **LATE, pooling="flat", join="mlp"),
  variant("scores of frames (TSN)", "frames", **LATE, pooling="scores"),
  variant("LSTM over frames", "frames", **LATE, pooling="lstm", lstm_width=64),
  variant("GASM-CAST without signs", "unsigned", **UNSIGNED),
)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: task=NAME of a feature-level set, all without it; runlocal (a grid of seconds)."""
  return settings.ablation(arg, "Models and their ceilings", VARIANTS, noisy=False)
