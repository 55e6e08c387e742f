"""Which tokens of each stream are worth their cost?

  python launch/main.py --config configs/ablations/tokens.py --workdir runs/ablations/tokens
  python launch/main.py --config configs/ablations/tokens.py:semantic --workdir runs/ablations/semantic_tokens

How motion becomes segments needs frames, so by default the rendered videos of configs/quickstart.py are the data:
a-trous (as it is), windowed, undilated, the published network's segments repeated; one vector a segment or a grid of
cells. The argument "semantic" asks on features: patches of all frames, of the middle one, or one pooled token a frame.
Cost: about an hour and ten minutes on 2 CPU cores; numbers: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import common, quickstart
from configs.ablations import settings
from configs.ablations.settings import variant

_POOLED = {"merge_before": (), "semantic_blocks": 0}  # a single token a frame has no neighbours
SEMANTIC = (
  variant("GASM-CAST"),
  variant("patches of the middle frame", model={"semantic_tokens": "middle"}),
  variant("one pooled token a frame", model={"semantic_tokens": "pooled"}, **_POOLED),
)
MOTION = (
  variant("GASM-CAST"),
  variant("one vector a segment", model={"motion_tokens": "segments"}),
  variant("windowed", model={"motion": {"mode": "windowed"}}),
  variant("undilated", model={"motion": {"mode": "undilated"}}),
  variant("native, repeated", model={"motion": {"mode": "native"}, "repeat_motion": True}),
)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: of=motion|semantic, runlocal (a grid of seconds)."""
  arguments = common.options(arg, of="motion", runlocal=False)
  if arguments.of == "semantic":
    small = "runlocal" if arguments.runlocal else ""
    return settings.ablation(small, "Semantic tokens", SEMANTIC, tasks=settings.DESIGN)
  if arguments.of != "motion":
    raise ValueError(f"config argument of={arguments.of}: use motion or semantic.")
  config = quickstart.get_config("runlocal" if arguments.runlocal else "")
  config.job = "generate,ablate"
  config.train.trackers = ()
  config.model.fusion.auxiliary = False
  config.ablate = settings.grid("Motion tokens", MOTION, "GASM-CAST", ({"name": "rendered videos"},))
  if arguments.runlocal:
    config.ablate.seeds = (0,)
  return config
