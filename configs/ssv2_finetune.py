"""GASM-CAST on Something-Something-V2, second stage: the last blocks of the semantic backbone learn along.

  python launch/main.py --config configs/ssv2_finetune.py --workdir runs/ssv2_finetune --config.init.weights=runs/ssv2

Begins with the best checkpoint of a training of configs/ssv2_gasmcast.py (with a store, the fast way), and needs
videos: what learns can't be stored. Of DINOv3 ViT-B/16 the last block learns (7.1M parameters; 16.2M in all, auxiliary
heads apart). The learning rate is small, clips are mixed except where only the direction tells two classes apart,
layers are dropped at random, and the running average of the parameters is what is validated and kept.
Cost and expected number: nothing of this size has been run so far. The recipe is that of fine-tuned video transformers
(Tong et al. 2022, VideoMAE, appendix), with fewer epochs, because the fusion is trained already.
The argument says how many blocks learn: configs/ssv2_finetune.py:blocks=2 (23.3M; the budget is not checked then).
`runlocal` trains the same code in seconds on the rendered videos: configs/ssv2_finetune.py:runlocal
"""

from ml_collections import ConfigDict

from configs import common, ssv2_gasmcast

DEPTH = 12  # of ViT-B


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: blocks=NUMBER (of the semantic backbone, that learn), variant=... as in ssv2_gasmcast, runlocal."""
  arguments = common.options(arg, blocks=1, variant="efficient", runlocal=False)
  config = ssv2_gasmcast.get_config(arguments.variant)
  config.model.semantic.trainable = True
  config.model.fusion.drop_path = 0.1
  config.model.mixing.update({"mixup": 0.8, "cutmix": 1.0, "probability": 0.5})
  if arguments.blocks > 1:
    config.model.max_trainable = 0
  config.optim.lr = 1e-4
  config.optim.trained = common.last_blocks(DEPTH, arguments.blocks)
  config.optim.lr_rules = common.layer_decay(DEPTH, 0.75)
  config.train.update({"steps": "10 epochs", "average_decay": 0.9998})

  if arguments.runlocal:
    common.run_on_rendered_videos(config)
    config.optim.trained = common.last_blocks(1, 1)
    config.optim.lr_rules = common.layer_decay(1, 0.75)
  return config
