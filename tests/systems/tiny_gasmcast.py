"""GASM-CAST of four classes on 32 pixels, and a batch for it."""

import numpy as np

from configs import quickstart
from gasmcast.systems.gasmcast import example_batch
from gasmcast.systems.gasmcast_config import parse_model

CLASSES = ("up", "down", "left", "right")


def make_model(**fields):
  """The model of the small quickstart with these fields of its parts."""
  values = quickstart.get_config("runlocal").model.to_dict()
  for name, value in fields.items():
    values[name] = values[name] | value
  return parse_model(values)


def make_batch(rows=2):
  """Clips of noise, one class after the other."""
  batch = example_batch(16, 32, rows)
  batch["frames"] = np.random.default_rng(0).integers(0, 256, batch["frames"].shape, np.uint8)
  batch["action"] = np.arange(rows, dtype=np.int32) % len(CLASSES)
  return batch
