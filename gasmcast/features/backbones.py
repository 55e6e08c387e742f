"""The table of backbones: one line makes a network available to every config by its name."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from gasmcast.core.config import parse, require
from gasmcast.features.dinov3 import DINOv3, DINOv3Config
from gasmcast.features.r3d import R3D, R3DConfig


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A network by name.

  Attributes:
    stream: what it can be: "semantic" gives "tokens" [B, T, N, D], "motion" gives "segments" [B, S, D].
    config: its dataclass of sizes, with `image_size` and `normalisation`.
    module: its Linen module, made as module(config, dtype) and called as net(frames, train).
  """

  stream: Literal["semantic", "motion"]
  config: type
  module: Callable[[Any, jnp.dtype], nn.Module]


BACKBONES: Mapping[str, Backbone] = {
  "dinov3": Backbone("semantic", DINOv3Config, DINOv3),
  "r3d": Backbone("motion", R3DConfig, R3D),
}


@dataclasses.dataclass(frozen=True)
class StreamConfig:
  """One stream of a model.

  Attributes:
    name: of the backbone in `BACKBONES`.
    trainable: False freezes it: no gradient, no optimiser state, norms in inference mode.
    network: the backbone's own dataclass.
  """

  name: str
  trainable: bool
  network: Any

  def build(self, dtype: jnp.dtype, name: str) -> nn.Module:
    return BACKBONES[self.name].module(self.network, dtype, name=name)


def parse_stream(values: Mapping[str, Any], stream: str) -> StreamConfig:
  """The stream's config from {"name", "trainable", and the fields of that backbone}.

  Raises:
    ConfigError: an unknown backbone, one of the other stream, or an unknown field.
  """
  values = dict(values)
  where = f"config.model.{stream}"
  name, trainable = values.pop("name", ""), values.pop("trainable", False)
  known = [key for key, backbone in BACKBONES.items() if backbone.stream == stream]
  require(name in known, f"{where}.name = {name!r} is no {stream} backbone; use one of {', '.join(known)}.")
  require(
    isinstance(trainable, bool), f"{where}.trainable = {trainable!r} is a {type(trainable).__name__}, not a bool."
  )
  return StreamConfig(name, trainable, parse(BACKBONES[name].config, values, where))
