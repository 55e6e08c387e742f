"""Writes legacy_state_dict.pth: a state dict in the format of PyTorch before 1.6, as a package of weights ships one.

  python tests/golden/make_legacy_state_dict.py

Made with torch 2.13. One tensor shares another's storage, one is transposed, one is a 0-d integer.
"""

import collections
import pathlib

FILE = pathlib.Path(__file__).with_name("legacy_state_dict.pth")

if __name__ == "__main__":
  import torch

  values = torch.arange(6.0)
  tensors = collections.OrderedDict(
    weight=values.reshape(2, 3), transposed=values.reshape(2, 3).T, tail=values[4:], count=torch.tensor(7)
  )
  torch.save(tensors, FILE, _use_new_zipfile_serialization=False)
