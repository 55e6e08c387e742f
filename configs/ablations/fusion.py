"""Which way of bringing the two streams together is best?

  python launch/main.py --config configs/ablations/fusion.py --workdir runs/ablations/fusion

Every variant has the same data, steps, batch and the same two learning rates to choose from. Cost and numbers:
docs/results.md. One task alone: configs/ablations/fusion.py:conjunction_in_place
"""

from ml_collections import ConfigDict

from configs.ablations import settings
from configs.ablations.settings import LATE, VANILLA, variant

VARIANTS = (
  variant("GASM-CAST"),
  variant("late concat", "means", **LATE, pooling="mean"),
  variant("late concat, MLP", "means", **LATE, pooling="mean", join="mlp"),
  variant("late product", "means", **LATE, pooling="mean", join="product", join_width=64),
  variant("late concat of flat frames", "frames", **LATE, pooling="flat"),
  variant("late concat of flat frames, MLP", "frames", **LATE, pooling="flat", join="mlp"),
  variant("scores of frames (TSN)", "frames", **LATE, pooling="scores"),
  variant("LSTM over frames", "frames", **LATE, pooling="lstm", lstm_width=64),
  variant("late concat, graphs and attentive pooling", windows=(), merge_before=()),
  variant("vanilla cross-attention", graph_neighbours="none", **VANILLA),
  variant("vanilla, graphs", **VANILLA),
  variant("vanilla, graphs, offsets", **{**VANILLA, "relative_bias": "signed"}),
  variant("B-CAST, no graphs", graph_neighbours="none"),
  variant("motion to semantic only", direction="motion_to_semantic"),
  variant("semantic to motion only", direction="semantic_to_motion"),
)
SEARCH = ({"optim": {"lr": 1e-3}}, {"optim": {"lr": 3e-3}})


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: task=NAME of a feature-level set, two without it; runlocal (a grid of seconds)."""
  return settings.ablation(arg, "Ways to bring the streams together", VARIANTS, tasks=settings.DESIGN, search=SEARCH)
