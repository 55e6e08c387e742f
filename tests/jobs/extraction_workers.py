"""Workers that extract real clips with a stand-in for the backbones, run as processes that can be killed.

python extraction_workers.py DATA STORE SECONDS    works until everything is finished, SECONDS a batch
"""

import pathlib
import sys
import time
import types

import numpy as np

from gasmcast.datasets import something_something
from gasmcast.jobs.extraction import ExtractConfig
from gasmcast.jobs.extractor import Extractor
from gasmcast.store.compression import Variant
from gasmcast.store.feature_store import FeatureStore, create
from gasmcast.videos.pipeline import DataConfig

CONFIG = ExtractConfig(batch=2, shard=2, threads=1, lease=2.0, motion=Variant(precision="float32"))
DATA = DataConfig(global_batch=1, frames=8, size=32, short_side=40)


def stand_in(frames: np.ndarray) -> dict[str, np.ndarray]:
  """Means over 8 x 8 pixels as the tokens of every second frame, means over frames as the motion."""
  cells = frames.reshape(*frames.shape[:2], 4, 8, 4, 8, 3).astype(np.float32).mean((3, 5))
  return {"semantic": cells[:, ::2].reshape(len(frames), -1, 16, 3), "motion": frames[:, ::2].mean((2, 3), np.float32)}


def make_extractor(folder: pathlib.Path, features=stand_in) -> Extractor:
  """An extractor whose backbones are `features`, so that nothing is compiled."""
  model = types.SimpleNamespace(streams=lambda: {"semantic": None, "motion": None})
  extractor = object.__new__(Extractor)
  extractor._experiment = types.SimpleNamespace(data=DATA, seed=0, model=model)
  extractor._config, extractor._components, extractor._features = CONFIG, {}, features
  extractor.store = create(folder, {"made by": "a stand-in"})
  return extractor


def work(data: pathlib.Path, folder: pathlib.Path, seconds: float = 0.0) -> FeatureStore:
  """Extracts until everything is finished, by whoever."""

  def slowly(frames):
    time.sleep(seconds)
    return stand_in(frames)

  extractor, dataset = make_extractor(folder, slowly), something_something.load(data, "train")
  extractor.extract(dataset, extractor.begin(dataset), lambda clips: None)
  return extractor.store


if __name__ == "__main__":
  work(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), float(sys.argv[3]))
