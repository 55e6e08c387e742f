"""How should tokens become one vector, and how should the layers begin?

  python launch/main.py --config configs/ablations/pooling.py --workdir runs/ablations/pooling

Cost and numbers: docs/results.md.
"""

from ml_collections import ConfigDict

from configs.ablations import settings
from configs.ablations.settings import variant

VARIANTS = (
  variant("GASM-CAST"),
  variant("mean pooling", pooling="mean"),
  variant("plain start of what layers add", zero_init=False),
  variant("no LayerScale", layer_scale=0.0),
  variant("auxiliary heads", auxiliary=True),
  variant("tokens normalised", input_norm=True),
  variant("hidden layer before the classifier", join="mlp", join_width=64),
)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: task=NAME of a feature-level set, two without it; runlocal (a grid of seconds)."""
  return settings.ablation(arg, "Pooling and initial values", VARIANTS, tasks=settings.DESIGN)
