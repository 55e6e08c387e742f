"""A stream of a model: which backbone it runs, where its weights come from, and whether it is trained."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gasmcast.core.config import parse, require
from gasmcast.core.errors import WeightsError
from gasmcast.core.types import PyTree
from gasmcast.features.backbones import BACKBONES, FAMILIES
from gasmcast.features.network import RANDOM, load
from gasmcast.features.weights.sources import find

GIVEN = "given"  # name of a stream whose features are what the data set holds


@dataclasses.dataclass(frozen=True)
class StreamConfig:
  """One stream of a model.

  Attributes:
    name: of a published network in `BACKBONES`, or of a family in `FAMILIES`; or "given", which has no network.
    weights: as `features.load` takes them; "random": drawn when the training begins.
    trainable: False freezes it: no gradient, no optimiser state, norms in inference mode.
    network: the family's own dataclass; None of "given".
    given: the fields of `network` that the configuration names; they stand against a config.json beside the weights.
  """

  name: str
  weights: str | None
  trainable: bool
  network: Any
  given: tuple[str, ...] = ()

  @property
  def family(self) -> str:
    """Key of `FAMILIES`."""
    return BACKBONES[self.name].family if self.name in BACKBONES else self.name

  @property
  def random(self) -> bool:
    """Whether it starts without weights."""
    return self.weights == RANDOM

  def build(self, dtype: jnp.dtype, name: str) -> nn.Module:
    return FAMILIES[self.family].module(self.network, dtype, name=name)


@dataclasses.dataclass(frozen=True)
class LoadedStream:
  """A stream with its weights.

  Attributes:
    config: with the sizes that the weights have.
    variables: {"params": ..., "batch_stats": ...} on the host.
    origin: where they came from, in words.
    fingerprint: see `features.network.Network`.
  """

  config: StreamConfig
  variables: PyTree = dataclasses.field(repr=False)
  origin: str
  fingerprint: str


def parse_stream(values: Mapping[str, Any], stream: str) -> StreamConfig:
  """The stream's config from {"name", "weights", "trainable", and fields of that family}; None is "not given".

  A published network has the sizes of the table except for the fields, a family its defaults except for the fields. No
  weights are looked at: what lies beside them may tell other sizes, which `load_stream` follows.

  Raises:
    ConfigError: an unknown backbone, one of the other stream, an unknown field, or a family without weights.
  """
  values = {name: value for name, value in dict(values).items() if value is not None}
  where = f"config.model.{stream}"
  name, weights, trainable = values.pop("name", ""), values.pop("weights", None), values.pop("trainable", False)
  if name == GIVEN:
    require(
      weights is None and not trainable and not values,
      f"{where}.name = 'given' has no network, so it takes no {', '.join(values) or 'weights and does not train'}; "
      "leave its other fields at None, or name a backbone.",
    )
    return StreamConfig(GIVEN, None, False, None)
  families = [key for key, family in FAMILIES.items() if family.stream == stream]
  published = [key for key, backbone in BACKBONES.items() if backbone.family in families]
  require(
    name in published or name in families,
    f"{where}.name = {name!r} is no {stream} backbone; use one of {', '.join(published)}, or of the families "
    f"{', '.join(families)}; or 'given' for a data set of features.",
  )
  for field, value, kind in (("weights", weights, str), ("trainable", trainable, bool)):
    require(
      value is None or isinstance(value, kind),
      f"{where}.{field} = {value!r} is of type {type(value).__name__}; {kind.__name__} is needed.",
    )
  if name in published:
    network, given = BACKBONES[name].config, tuple(sorted(values))
  else:
    require(
      weights is not None,
      f"{where}.weights is not set, and no weights are published for {name!r} of any size; use 'random' with "
      "trainable = True to train it from scratch, a file of its weights, or the name of a published network.",
    )
    network = FAMILIES[name].config()
    given = tuple(field.name for field in dataclasses.fields(network))
  fields = {field.name: getattr(network, field.name) for field in dataclasses.fields(network)}
  network = parse(type(network), fields | values, where)
  require(
    not getattr(network, "classes", 0),
    f"{where}.classes = {getattr(network, 'classes', 0)}: the scores come from the fusion, a stream has no classifier "
    "of its own; leave it at 0.",
  )
  return StreamConfig(name, weights, trainable, network, given)


def load_stream(stream: StreamConfig, name: str) -> LoadedStream:
  """The weights of a stream that is not random; `name` is that of the stream, for the message.

  Raises:
    WeightsError: they can't be had or read, or are of another network.
  """
  options = {field: getattr(stream.network, field) for field in stream.given}
  if hasattr(stream.network, "classes"):
    options["classes"] = 0  # a classifier in the file is left out
  try:
    network = load(_published(stream), stream.weights, **options)
  except WeightsError as error:
    raise WeightsError(f"config.model.{name}.weights: {error}") from error
  config = dataclasses.replace(stream, network=network.config)
  return LoadedStream(config, jax.tree.map(np.asarray, network.variables), network.origin, network.fingerprint)


def _published(stream: StreamConfig) -> str:
  """The name for `features.load`. Of a family all fields are given, so any of its names does that the file can bear."""
  if stream.name in BACKBONES:
    return stream.name
  names = [name for name, backbone in BACKBONES.items() if backbone.family == stream.name]
  saved = find(stream.weights, BACKBONES[names[0]].source).metadata.get("name")
  return saved if saved in names else names[0]
