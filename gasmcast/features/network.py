"""A published network as one object: `net = features.load("r3d_18")`, then `net(frames)`."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from gasmcast.core import rules
from gasmcast.core.config import parse, require
from gasmcast.core.errors import DataError
from gasmcast.core.manifest import atomic_file, hash_arrays
from gasmcast.core.types import PyTree
from gasmcast.features.backbones import BACKBONES, FAMILIES
from gasmcast.features.conversion import choose_layout, convert_tensors, shape_for
from gasmcast.features.preprocessing import Normalisation, prepare
from gasmcast.features.weights import Found, find

_CLASSIFIER = "params/logits/bias"  # every network names its classifier so
RANDOM = "random"


class NetworkConfig(Protocol):
  """What every family's dataclass of sizes has beside them. One with the field `classes` can have a classifier."""

  image_size: int

  @property
  def normalisation(self) -> Normalisation:
    """What its frames were normalised by in training."""

  @property
  def clip(self) -> int:
    """Frames of a clip that it can be tried on."""

  def check_frames(self, time: int, height: int, width: int) -> None:
    """Raises DataError for a clip that the network can't take; the message names the rule and the remedy."""

  def with_hub_config(self, values: Mapping[str, Any]) -> "NetworkConfig":
    """The config with the sizes that a config.json of the Hugging Face Hub gives."""


@dataclasses.dataclass(frozen=True)
class Network:
  """A network with its weights.

  Attributes:
    name: key of `BACKBONES`.
    config: its sizes and options.
    dtype: of the arithmetic.
    variables: {"params": ..., "batch_stats": ...}.
    origin: where the weights came from, in words.
  """

  name: str
  config: Any
  dtype: str
  variables: PyTree = dataclasses.field(repr=False)
  origin: str

  def __call__(self, frames: UInt8[Array, "B T H W 3"]) -> dict[str, Float[Array, "B ..."]]:
    """Features of RGB frames of 0..255; they are scaled, resized (short side, then the centre) and normalised here.

    Raises:
      DataError: another type or shape, or a clip that the network can't take.
    """
    _require_clip(frames, np.uint8, "net(frames) takes uint8 RGB frames; frames already normalised go to net.forward")
    size = self.config.image_size
    self.config.check_frames(frames.shape[1], size, size)
    return self._from_bytes(self.variables, frames)

  def forward(self, x: Float[Array, "B T H W 3"]) -> dict[str, Float[Array, "B ..."]]:
    """Features of frames that are normalised as `config.normalisation` says, of any size that the network can take.

    Raises:
      DataError: another type or shape, values that are not finite, or a clip that the network can't take.
    """
    _require_clip(
      x, np.floating, "net.forward(x) takes normalised floating point frames; uint8 frames go to net(frames)"
    )
    self.config.check_frames(*x.shape[1:4])
    if bad := int(x.size - jnp.isfinite(x).sum()):
      raise DataError(f"x holds {bad} values that are NaN or infinite, of {x.size}; find where they come from.")
    return self._forward(self.variables, x)

  @property
  def module(self) -> nn.Module:
    return FAMILIES[BACKBONES[self.name].family].module(self.config, jnp.dtype(self.dtype))

  @functools.cached_property
  def fingerprint(self) -> str:
    """BLAKE3 of names, shapes and values of all variables, in whatever file they came."""
    return hash_arrays((name, np.asarray(leaf)) for name, leaf in rules.flatten(self.variables).items())

  def save(self, path: str | os.PathLike) -> None:
    """Writes the weights under our own names as safetensors; `features.load(name, path)` reads them."""
    flat = {name: np.ascontiguousarray(leaf) for name, leaf in rules.flatten(self.variables).items()}
    with atomic_file(path) as file:
      file.write(safetensors.numpy.save(flat, {"name": self.name, "origin": self.origin}))

  @functools.cached_property
  def _forward(self):
    module = self.module
    return jax.jit(lambda variables, x: module.apply(variables, x))

  @functools.cached_property
  def _from_bytes(self):
    module, config = self.module, self.config
    return jax.jit(
      lambda variables, frames: module.apply(variables, prepare(frames, config.image_size, config.normalisation))
    )


def load(name: str, weights: str | os.PathLike | None = None, *, dtype: str = "float32", **options: Any) -> Network:
  """A published network with its weights.

  Args:
    name: key of `BACKBONES`.
    weights: a .safetensors file, a folder with model.safetensors (and config.json, which then decides the sizes), a
      Hugging Face id, "random" for a network drawn at random, or None for the published default.
    dtype: of the arithmetic, "float32" or "bfloat16".
    **options: fields of the family's config, for example mode="native" for R3D-18.

  Raises:
    ConfigError: an unknown name or option.
    WeightsError: weights that can't be had or read, or that are of another network.
  """
  require(name in BACKBONES, f"{name!r} is no backbone; use one of {', '.join(BACKBONES)}.")
  require(dtype in ("float32", "bfloat16"), f"dtype = {dtype!r}: use 'float32' or 'bfloat16'.")
  if weights == RANDOM:
    config = _with_options(BACKBONES[name].config, options, name)
    variables = jax.jit(lambda rng: _init(name, config, rng))(jax.random.key(0))
    return Network(name, config, dtype, variables, RANDOM)
  found = find(weights, BACKBONES[name].source)
  config, variables = _convert(name, found, options)
  return Network(name, config, dtype, jax.tree.map(jnp.asarray, variables), found.origin)


def convert(name: str, tensors: Mapping[str, np.ndarray], **options: Any) -> PyTree:
  """The variables {"params": ..., "batch_stats": ...} of a network, from tensors under their published names.

  Raises:
    ConfigError: an unknown name or option.
    WeightsError: a tensor or a variable is left over, or has another shape.
  """
  require(name in BACKBONES, f"{name!r} is no backbone; use one of {', '.join(BACKBONES)}.")
  return _convert(name, Found(tensors, None, "the tensors"), options)[1]


def _convert(name: str, found: Found, options: Mapping[str, Any]) -> tuple[Any, PyTree]:
  """(config, variables): sizes by name, then by config.json, then by the classifier in the file, then by the caller."""
  backbone, family = BACKBONES[name], FAMILIES[BACKBONES[name].family]
  layout = choose_layout(list(found.tensors), family.layouts)
  config = backbone.config if found.config is None else backbone.config.with_hub_config(found.config)
  if hasattr(config, "classes"):
    shape = shape_for(_CLASSIFIER, found.tensors, layout)
    config = dataclasses.replace(config, classes=shape[0] if shape else 0)
  config = _with_options(config, options, name)
  wanted = rules.flatten(jax.eval_shape(lambda rng: _init(name, config, rng), jax.random.key(0)))
  flat = convert_tensors(found.tensors, layout, wanted, f"{found.origin} does not fit {name}")
  return config, rules.unflatten(flat)


def _with_options(config: Any, options: Mapping[str, Any], name: str) -> Any:
  fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
  unknown = {key: value for key, value in options.items() if key not in fields}
  return parse(type(config), unknown or fields | dict(options), name)


def _init(name: str, config: Any, rng: Array) -> PyTree:
  module = FAMILIES[BACKBONES[name].family].module(config, jnp.float32)
  return module.init(rng, jnp.zeros((1, config.clip, config.image_size, config.image_size, 3)))


def _require_clip(frames: Any, dtype: type, rule: str) -> None:
  shape = getattr(frames, "shape", None)
  if shape is None:
    raise DataError(f"{rule}; this is a {type(frames).__name__}. Give an array [B, T, H, W, 3].")
  if not jnp.issubdtype(frames.dtype, dtype):
    raise DataError(f"{rule}; these are {frames.dtype}.")
  if len(shape) != 5 or shape[-1] != 3:
    first = " The channels stand before the image: move them to the end." if len(shape) > 2 and shape[-3] == 3 else ""
    raise DataError(f"frames have the shape [B, T, H, W, 3]; these have {list(shape)}.{first}")
  if 0 in shape:
    raise DataError(f"frames of the shape {list(shape)} hold nothing.")
