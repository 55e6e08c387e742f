"""What each way of bringing the two streams together costs on this machine, and whether it saves half the arithmetic.

  python launch/main.py --config configs/efficiency.py --workdir runs/efficiency

At the full size: 1568 patches of width 768 (8 frames of DINOv3 ViT-B/16) and 8 segments of width 512 (R3D-18), one clip
a batch. About 20 minutes and 6 GB on two cores; let nothing else run meanwhile. Expected numbers: docs/performance.md.
Without the growth: configs/efficiency.py:methods, 12 minutes.
"""

from ml_collections import ConfigDict

LATE = {"windows": (), "merge_before": ()}
LATE_MEAN = {**LATE, "pooling": "mean"}
VANILLA = {"exchange": "vanilla", "windows": (7, 7, 7), "merge_before": (), "relative_bias": "none"}
BASELINE = "vanilla cross-attention"


def _method(name: str, variant: str = "base", depths: tuple[int, ...] = (3,), **options) -> dict:
  return {"name": name, "variant": variant, "depths": depths, "options": options}


METHODS = (
  _method(BASELINE, depths=(1, 2, 3), **VANILLA),
  _method("base", depths=(1, 2, 3)),
  _method("efficient", "efficient", (1, 2, 3)),
  _method("efficient, GATv2", "efficient", graph_score="gatv2"),
  _method("small", "small"),
  _method("large", "large"),
  _method("literal", "literal"),
  _method("late concat", depths=(0,), **LATE_MEAN),
  _method("late concat, MLP", depths=(0,), **LATE_MEAN, join="mlp"),
  _method("late product", depths=(0,), **LATE_MEAN, join="product"),
  _method("scores of frames (TSN)", depths=(0,), **LATE, pooling="scores"),
  _method("LSTM over frames", depths=(0,), **LATE, pooling="lstm"),
)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "methods" (no growth), "runlocal" (small sizes, to see that it works)."""
  if arg not in ("", "methods", "runlocal"):
    raise ValueError(f"config argument {arg!r} is unknown; use methods or runlocal.")
  config = ConfigDict()
  config.job = "efficiency"
  config.efficiency = ConfigDict(
    {
      "methods": METHODS,
      "baseline": BASELINE,
      "target": 0.5,
      "shapes": {
        "time": 8,
        "grid": (14, 14),
        "semantic_width": 768,
        "motion_width": 512,
        "motion_grid": (1, 1),
      },
      "classes": 174,
      "clips": 1,
      "dtype": "float32",
      "schedule": {"rounds": 7, "turn_seconds": 0.3, "max_calls": 5, "pause_seconds": 0.05},
      "backbones": (("dinov3_vitb16", 8, 224), ("r3d_18", 16, 112)),
      "growth": {
        "methods": (BASELINE, "base", "base, graphs", "efficient, graphs"),  # but for the graphs these two are one
        "grids": (8, 14, 20, 28),
        "frames": (4, 8, 16, 32),
        "clips": (1, 2, 4, 8),
      },
    }
  )
  if arg == "methods":
    config.efficiency.growth.methods = ()
  if arg == "runlocal":
    small = {"time": 4, "grid": (4, 4), "semantic_width": 32, "motion_width": 24}
    config.efficiency.shapes.update(small)
    few = (*METHODS[:2], METHODS[-1])
    config.efficiency.methods = tuple({**method, "depths": method["depths"][:1]} for method in few)
    config.efficiency.classes = 5
    config.efficiency.schedule.update({"rounds": 2, "turn_seconds": 0.0, "pause_seconds": 0.0})
    growth = {"methods": (BASELINE, "base, graphs"), "grids": (2, 4), "frames": (), "clips": (1, 2)}
    config.efficiency.growth.update(growth)
  return config
