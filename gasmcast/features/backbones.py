"""The tables of backbones: a family is a network of any size, a backbone is one published network by name."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from gasmcast.core.config import parse, require
from gasmcast.features import dinov3, r3d
from gasmcast.features.conversion import Layout
from gasmcast.features.weights import Hub, Source, Url


@dataclasses.dataclass(frozen=True)
class Family:
  """A network of any size.

  Attributes:
    stream: what it can be in GASM-CAST: "semantic" gives "tokens" [B, T, N, D], "motion" gives "segments" [B, S, D].
    config: its dataclass of sizes, with the attributes that `features.network.NetworkConfig` names.
    module: its Linen module, made as module(config, dtype) and called as net(frames, train).
    layouts: of the files that hold its weights, each a table of rules.
  """

  stream: Literal["semantic", "motion"]
  config: type
  module: Callable[[Any, jnp.dtype], nn.Module]
  layouts: tuple[Layout, ...]


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A published network.

  Attributes:
    family: key of `FAMILIES`.
    config: its sizes.
    source: where its weights come from unless told otherwise.
    parameters: as its authors count them, buffers apart, without a classifier.
  """

  family: str
  config: Any
  source: Source
  parameters: int


FAMILIES: Mapping[str, Family] = {
  "dinov3": Family("semantic", dinov3.DINOv3Config, dinov3.DINOv3, dinov3.LAYOUTS),
  "r3d": Family("motion", r3d.R3DConfig, r3d.R3D, r3d.LAYOUTS),
}

BACKBONES: Mapping[str, Backbone] = {
  "dinov3_vitb16": Backbone(
    "dinov3", dinov3.DINOv3Config(), Hub("facebook/dinov3-vitb16-pretrain-lvd1689m"), 85_660_416
  ),
  "r3d_18": Backbone(
    "r3d", r3d.R3DConfig(), Url("https://download.pytorch.org/models/r3d_18-b3b3357e.pth", "b3b3357e"), 33_166_272
  ),
}


@dataclasses.dataclass(frozen=True)
class StreamConfig:
  """One stream of a model.

  Attributes:
    name: of the family in `FAMILIES`.
    trainable: False freezes it: no gradient, no optimiser state, norms in inference mode.
    network: the family's own dataclass.
  """

  name: str
  trainable: bool
  network: Any

  def build(self, dtype: jnp.dtype, name: str) -> nn.Module:
    return FAMILIES[self.name].module(self.network, dtype, name=name)


def parse_stream(values: Mapping[str, Any], stream: str) -> StreamConfig:
  """The stream's config from {"name", "trainable", and the fields of that family}.

  Raises:
    ConfigError: an unknown backbone, one of the other stream, or an unknown field.
  """
  values = dict(values)
  where = f"config.model.{stream}"
  name, trainable = values.pop("name", ""), values.pop("trainable", False)
  known = [key for key, family in FAMILIES.items() if family.stream == stream]
  require(name in known, f"{where}.name = {name!r} is no {stream} backbone; use one of {', '.join(known)}.")
  require(
    isinstance(trainable, bool), f"{where}.trainable = {trainable!r} is a {type(trainable).__name__}, not a bool."
  )
  return StreamConfig(name, trainable, parse(FAMILIES[name].config, values, where))
