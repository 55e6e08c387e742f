"""Networks of the transformers library with random weights, and how far ours are from their answers."""

import pathlib

import numpy as np

from gasmcast import features
from tests.golden.make_vit import draw


def errors(name: str, kind: str, sizes: dict, clips: list[tuple[int, int]], folder: pathlib.Path) -> dict[str, float]:
  """{output: largest error over its largest value, over all clips} of ours against transformers.

  Args:
    name: of the backbone; the folder's config.json decides its sizes.
    kind: model_type of transformers.
    sizes: its config.
    clips: height and width of the frames, in pixels.
    folder: where the network is saved to.
  """
  import torch
  from transformers import AutoConfig, AutoModel

  reference = AutoModel.from_config(AutoConfig.for_model(kind, **sizes)).eval()
  with torch.no_grad():
    for path, parameter in reference.named_parameters():
      parameter.copy_(torch.from_numpy(draw(path, tuple(parameter.shape))))
  reference.save_pretrained(folder)
  net = features.load(name, folder)
  worst = {"tokens": 0.0, "cls": 0.0, "registers": 0.0}
  for height, width in clips:
    frames = np.float32(np.random.default_rng(height).standard_normal((1, 2, height, width, 3)))
    with torch.no_grad():
      hidden = reference(torch.from_numpy(np.moveaxis(frames[0], -1, 1).copy())).last_hidden_state.numpy()
    ours = net.forward(frames)
    patches = ours["tokens"].shape[2]
    theirs = {"cls": hidden[:, 0], "registers": hidden[:, 1:-patches], "tokens": hidden[:, -patches:]}
    assert hidden.shape[1] == 1 + theirs["registers"].shape[1] + patches
    for output, expected in theirs.items():
      got = np.asarray(ours[output])[0]
      assert got.shape == expected.shape
      if expected.size:
        worst[output] = max(worst[output], float(np.abs(got - expected).max() / np.abs(expected).max()))
  return worst
