"""GASM-CAST on Something-Something-V2 with V-JEPA 2 ViT-L for motion: its 8 x 256 tokens of width 1024 a clip.

  python launch/main.py --config configs/ssv2_gasmcast_vjepa2.py --workdir runs/ssv2_vjepa2
  python launch/main.py --config configs/ssv2_gasmcast_vjepa2.py --workdir runs/count --job count

Both backbones are frozen; 9.5M parameters are trained (auxiliary heads apart). Frozen V-JEPA 2 encoders with an
attentive probe reach 73.7 % (L) and 77.3 % (g) there (Assran et al. 2025).
Cost and expected number: nothing of this size has been run so far. An epoch passes every clip through both backbones.
The fusion alone plans 1.5 GiB a clip for training (XLA on a CPU), most of it the first layer's weights between 1568
patches and 2048 motion tokens; hence batches of 32.
The motion stream has no graph: each token has already attended to all 2048 in 24 layers, and a dense graph of 2048
nodes, with 8 heads x 2048 x 2048 weights a clip, would add 0.6 GiB a clip and minutes of compilation.
The argument names other backbones: semantic=dinov2_vitb14, motion=vjepa2_vitg16.
`runlocal` trains the same code in seconds on the rendered videos: configs/ssv2_gasmcast_vjepa2.py:runlocal
"""

from ml_collections import ConfigDict

from configs import common, ssv2_gasmcast


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: semantic=NAME, motion=NAME (of published backbones), runlocal."""
  arguments = common.options(arg, semantic="dinov3_vitb16", motion="vjepa2_vitl16", runlocal=False)
  config = ssv2_gasmcast.get_config(f"efficient,semantic={arguments.semantic},motion={arguments.motion}")
  config.data.update({"global_batch": 32, "size": 256, "short_side": 288})
  config.model.motion_tokens = "grid"
  config.model.fusion.motion_blocks = 0

  if arguments.runlocal:
    common.run_on_rendered_videos(config)
    config.model.motion = common.stream(
      "vjepa2", weights="random", trainable=True, width=32, depth=1, heads=4, patch=8, image_size=32
    )
  return config
