"""What a feature store is about: the configuration of its making, and the description that identifies it.

A description holds everything that the features depend on: weights by their content, sizes and preprocessing of the
networks, the choice of frames, the decoder, the form in which they are stored. Its hash is part of the store's name, so
after a change of any of these nothing old is found. Data sets lie in a folder each inside the store, named by their own
fingerprints.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from gasmcast.core.config import parse, require, to_dict
from gasmcast.store.compression import Variant
from gasmcast.store.feature_store import FeatureStore
from gasmcast.systems.gasmcast_config import GasmCastConfig
from gasmcast.systems.gasmcast_network import Backbones, Pretrained
from gasmcast.videos.pipeline import DataConfig

OF_WEIGHTS = ("fingerprint", "image_size", "mean", "std")


@dataclasses.dataclass(frozen=True)
class ExtractConfig:
  """How features are extracted and stored.

  Attributes:
    store: folder that holds stores; None for "store" in the working directory.
    splits: of the data set.
    semantic, motion: the form in which each stream is stored.
    views: of each clip: the first as for evaluation, the others augmented as training clips are.
    pca_clips: first clips of the first split, in a random order, whose tokens the principal components are fitted on.
    batch: clips that the backbones see at a time.
    shard: clips of a file, which is the unit of work and of what is lost when a worker is killed.
    threads: that decode.
    lease: seconds after which a shard whose worker gives no sign of life goes to another.
    verify: whether finished shards are compared with their checksums before the work goes on, which reads them all;
      damaged ones are made again. Without it their sizes are compared.
  """

  store: str | None = None
  splits: tuple[str, ...] = ("train", "validation")
  semantic: Variant = dataclasses.field(default_factory=Variant)
  motion: Variant = dataclasses.field(default_factory=Variant)
  views: int = 1
  pca_clips: int = 256
  batch: int = 8
  shard: int = 256
  threads: int = 2
  lease: float = 60.0
  verify: bool = False

  def __post_init__(self):
    for name in ("views", "pca_clips", "batch", "shard", "threads"):
      value = getattr(self, name)
      require(value >= 1, f"config.extract.{name} = {value}: it must be at least 1.")
    require(bool(self.splits), "config.extract.splits is empty; name one or more splits.")
    require(self.lease > 0, f"config.extract.lease = {self.lease}: it is a number of seconds above 0.")


def wanted(model: GasmCastConfig, data: DataConfig) -> dict[str, Any]:
  """The part of the description that a training on stored features asks for, which needs no weights to be known."""
  description: dict[str, Any] = {
    "clips": {"frames": data.frames, "size": data.size, "short_side": data.short_side},
  }
  for name, stream in model.streams().items():
    network = {field: to_dict(getattr(stream.network, field)) for field in stream.given}
    description[name] = {"name": stream.name, "network": network}
  if "motion" in description:
    description["motion"]["tokens"] = model.motion_tokens
  if "semantic" in description:
    description["semantic"]["stride"] = model.stride
  return description


def pretrained(model: GasmCastConfig, store: FeatureStore) -> Pretrained:
  """The model with the sizes of the networks that made the store, whose weights are not needed any more."""
  streams = {}
  for name, stream in model.streams().items():
    told = store.description[name]
    network = parse(type(stream.network), told["network"], f"{store.folder}, {name}")
    model = dataclasses.replace(model, **{name: dataclasses.replace(stream, network=network)})
    streams[name] = {"name": stream.name, "origin": f"features stored in {store.folder}"}
    streams[name] |= {key: told[key] for key in OF_WEIGHTS}
  return Pretrained(model, {}, streams)


def feature_shapes(model: GasmCastConfig, frames: int, size: int) -> dict[str, tuple[int, ...]]:
  """Stream -> shape of the features of a clip, before they are made smaller; nothing is computed."""
  net = Backbones(model)
  clip = jnp.zeros((1, frames, size, size, 3), jnp.uint8)
  shapes = jax.eval_shape(lambda rng: net.init_with_output(rng, clip)[0], jax.random.key(0))
  return {name: leaf.shape[1:] for name, leaf in shapes.items()}
