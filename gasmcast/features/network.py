"""A published network as one object: `net = features.load("r3d_18")`, then `net(frames)`."""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from gasmcast.core import rules
from gasmcast.core.config import parse, require, to_dict
from gasmcast.core.errors import ConfigError, DataError, WeightsError
from gasmcast.core.manifest import hash_arrays
from gasmcast.core.types import PyTree
from gasmcast.features.backbones import BACKBONES, FAMILIES
from gasmcast.features.conversion import CLASSIFIER, choose_layout, convert_tensors, count_named, is_ours, shape_for
from gasmcast.features.preprocessing import Normalisation, prepare, with_margin
from gasmcast.features.weights.sources import Found, find
from gasmcast.features.weights.tensor_files import write_tensors

RANDOM = "random"


class NetworkConfig(Protocol):
  """What every family's dataclass of sizes has beside them. One with the field `classes` can have a classifier.

  Attributes:
    image_size: side of the square frames that it sees.
    normalisation: of the frames it was trained on.
    margin: whether its authors resized frames to a short side of 8/7 of `image_size` before they took the centre.
    clip: frames of a clip that it can be tried on.
  """

  image_size: int
  normalisation: ClassVar[Normalisation]
  margin: ClassVar[bool]
  clip: ClassVar[int]

  def check_frames(self, time: int, height: int, width: int) -> None:
    """Raises DataError for a clip that the network can't take; the message names the rule and the remedy."""

  def with_hub_config(self, values: Mapping[str, Any]) -> "NetworkConfig":
    """The config with the sizes that a config.json of the Hugging Face Hub gives."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
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
  variables: PyTree
  origin: str

  def __call__(self, frames: UInt8[Array, "B T H W 3"]) -> dict[str, Float[Array, "B ..."]]:
    """Features of RGB frames of 0..255; they are scaled, resized and normalised here, as the authors evaluated it.

    The short side becomes 8/7 of `config.image_size` where `config.margin` says so, then the centre is taken; frames of
    exactly `config.image_size` squared are taken as they are.

    Raises:
      DataError: another type or shape, or a clip that the network can't take.
    """
    rule = "net(frames) takes uint8 RGB frames; frames already normalised go to net.forward"
    frames = _require_clip(frames, np.uint8, rule)
    size = self.config.image_size
    self.config.check_frames(frames.shape[1], size, size)
    return self._from_bytes(self._rounded, frames)

  def forward(self, x: Float[Array, "B T H W 3"]) -> dict[str, Float[Array, "B ..."]]:
    """Features of frames that are normalised as `config.normalisation` says, of any size that the network can take.

    It can stand inside jax.jit and jax.grad; the values of the frames are then not looked at.

    Raises:
      DataError: another type or shape, values that are not finite, or a clip that the network can't take.
    """
    rule = "net.forward(x) takes normalised floating point frames; uint8 frames go to net(frames)"
    x = _require_clip(x, np.floating, rule)
    self.config.check_frames(*x.shape[1:4])
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is told below
      x = x.astype(np.float32, copy=False)
    _require_finite(x)
    return self._forward(self._rounded, x)

  def __repr__(self) -> str:
    parameters = sum(leaf.size for leaf in jax.tree.leaves(self.variables.get("params", {})))
    return f"Network({self.name!r}, {self.dtype}, {parameters:,} parameters from {self.origin})"

  @property
  def module(self) -> nn.Module:
    return FAMILIES[BACKBONES[self.name].family].module(self.config, jnp.dtype(self.dtype))

  @functools.cached_property
  def fingerprint(self) -> str:
    """BLAKE3 of names, shapes and values of all variables, in whatever file they came."""
    return hash_arrays((name, np.asarray(leaf)) for name, leaf in rules.flatten(self.variables).items())

  def save(self, path: str | os.PathLike) -> None:
    """Writes weights, sizes and options as safetensors under our own names; `features.load(name, path)` reads them.

    Raises:
      WeightsError: the file can't be written.
    """
    metadata = {"name": self.name, "origin": self.origin, "config": json.dumps(to_dict(self.config))}
    try:
      write_tensors(path, {name: np.asarray(leaf) for name, leaf in rules.flatten(self.variables).items()}, metadata)
    except OSError as error:
      raise WeightsError(f"{path} can't be written: {error.strerror or error}.") from error

  @functools.cached_property
  def _rounded(self) -> PyTree:
    """The variables, with the kernels of matrix products in the type that the product takes: rounded once, not a call.

    Convolutions round for themselves, as it depends on the platform, and a classifier computes in float32.
    """
    flat = rules.flatten(self.variables)
    rounds = lambda name: name.endswith("kernel") and flat[name].ndim == 2 and not name.startswith(CLASSIFIER)
    return rules.unflatten(
      {name: jnp.asarray(leaf, self.dtype if rounds(name) else leaf.dtype) for name, leaf in flat.items()}
    )

  @functools.cached_property
  def _forward(self):
    module = self.module
    return jax.jit(lambda variables, x: module.apply(variables, x))

  @functools.cached_property
  def _from_bytes(self):
    module, config = self.module, self.config
    short_side = with_margin(config.image_size) if config.margin else config.image_size
    prepared = lambda frames: prepare(frames, config.image_size, config.normalisation, short_side)
    return jax.jit(lambda variables, frames: module.apply(variables, prepared(frames)))


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
  if isinstance(weights, str) and weights == RANDOM:
    config = _with_options(BACKBONES[name].config, options, name)
    rng = jax.random.key(0, impl="rbg")  # compiles five times faster than the default
    variables = jax.jit(lambda rng: _init(name, config, rng))(rng)
    return Network(name, config, dtype, variables, RANDOM)
  found = find(weights, BACKBONES[name].source)
  config, variables = _convert(name, found, options)
  return Network(name, config, dtype, jax.tree.map(jax.device_put, variables), found.origin)


def convert(name: str, tensors: Mapping[str, np.ndarray], **options: Any) -> PyTree:
  """The variables {"params": ..., "batch_stats": ...} of a network, from tensors under their published names.

  The tensors can be anything that np.asarray makes arrays of floating point numbers of. The variables are NumPy
  arrays of float32 that share no memory with them.

  Raises:
    ConfigError: an unknown name or option.
    WeightsError: a tensor or a variable is left over, or has another shape.
  """
  require(name in BACKBONES, f"{name!r} is no backbone; use one of {', '.join(BACKBONES)}.")
  if not isinstance(tensors, Mapping) or not all(isinstance(key, str) for key in tensors):
    raise WeightsError(
      f"features.convert takes a mapping from names to arrays, this is a {type(tensors).__name__}; files, folders and "
      "hub ids go to features.load."
    )
  return _convert(name, Found(tensors, None, "the mapping"), options)[1]


def _convert(name: str, found: Found, options: Mapping[str, Any]) -> tuple[Any, PyTree]:
  """(config, variables): sizes by name, then by what lies beside the tensors, then by the caller."""
  layout = choose_layout(list(found.tensors), FAMILIES[BACKBONES[name].family].layouts)
  config = _published_sizes(name, found)
  if hasattr(config, "classes"):
    shape = shape_for(f"{CLASSIFIER}bias", found.tensors, layout)
    config = dataclasses.replace(config, classes=shape[0] if shape else 0)
  config = _with_options(config, options, name)
  wanted = rules.flatten(jax.eval_shape(lambda rng: _init(name, config, rng), jax.random.key(0)))
  subject = f"{found.origin} does not fit {name}"
  flat = convert_tensors(found.tensors, layout, wanted, subject, lambda: _recognise(found.tensors, name))
  return config, rules.unflatten(flat)


def _published_sizes(name: str, found: Found) -> Any:
  """The config that a file of `Network.save` or a config.json of the Hub gives, otherwise that of the name."""
  config, saved = BACKBONES[name].config, found.metadata.get("name")
  if is_ours(found.tensors) and saved is not None:
    if saved != name:
      raise WeightsError(f"{found.origin} was saved from {saved}, not from {name}: use features.load({saved!r}, ...).")
    describe = lambda: parse(type(config), json.loads(found.metadata["config"]), name)
  elif found.config is not None:
    describe = lambda: _with_options(config.with_hub_config(found.config), {}, name)  # the types are checked once more
  else:
    return config
  try:
    return describe()
  except WeightsError as error:
    raise WeightsError(f"{found.origin}: {error}") from error
  except KeyError as error:
    raise WeightsError(f"{found.origin}: config.json has no {error}; get it again, or use other weights.") from error
  except (ConfigError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
    raise WeightsError(f"{found.origin}: its sizes are not those of a {name}: {error}") from error


def _recognise(tensors: Mapping[str, Any], name: str) -> str:
  """A remedy that names the network whose names, and as far as possible whose size, these tensors have; or ""."""
  if is_ours(tensors):
    return ""
  names = list(tensors)
  layouts = {key: choose_layout(names, family.layouts) for key, family in FAMILIES.items()}
  named = {key: count_named(names, layout) for key, layout in layouts.items()}
  family = max(named, key=lambda key: (named[key], key == BACKBONES[name].family))
  if named[family] < len(names) / 2:
    return ""
  others = [other for other, backbone in BACKBONES.items() if backbone.family == family]
  total = _count_parameters(tensors, layouts[family])
  nearest = min(others, key=lambda other: abs(BACKBONES[other].parameters - total), default=name)
  if nearest != name and abs(BACKBONES[nearest].parameters - total) < total / 200:
    return f"They are those of {nearest}: use features.load({nearest!r}, ...), or get the weights of {name}."
  if family != BACKBONES[name].family:
    return f"The names are those of {' or '.join(others)}: load it under its name, or get the weights of {name}."
  return ""


def _count_parameters(tensors: Mapping[str, Any], layout: Any) -> int:
  """The size of the tensors that become parameters, without a classifier."""
  is_counted = lambda path: path is not None and path.startswith("params/") and not path.startswith(CLASSIFIER)
  return sum(
    math.prod(np.shape(tensor) if not hasattr(tensor, "shape") else tensor.shape)
    for name, tensor in tensors.items()
    if any(is_counted(path) for rule in layout for path in rule.expand(name) or ())
  )


def _with_options(config: Any, options: Mapping[str, Any], name: str) -> Any:
  fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
  unknown = {key: value for key, value in options.items() if key not in fields}
  return parse(type(config), unknown or fields | dict(options), name)


def _init(name: str, config: Any, rng: Array) -> PyTree:
  module = FAMILIES[BACKBONES[name].family].module(config, jnp.float32)
  return module.init(rng, jnp.zeros((1, config.clip, config.image_size, config.image_size, 3)))


def _require_clip(frames: Any, dtype: type, rule: str) -> Any:
  """The frames as an array of jax or NumPy, of the type and rank that a network takes."""
  if not isinstance(frames, (jax.Array, np.ndarray)):
    if isinstance(frames, (list, tuple)) or not hasattr(frames, "__array__"):
      raise DataError(f"{rule}; this is a {type(frames).__name__}. Give an array [B, T, H, W, 3].")
    frames = np.asarray(frames)
  shape = frames.shape
  if not jnp.issubdtype(frames.dtype, dtype):
    raise DataError(f"{rule}; these are {frames.dtype}.")
  if len(shape) != 5 or shape[-1] != 3:
    raise DataError(f"frames have the shape [B, T, H, W, 3]; these have {list(shape)}.{_mend(shape)}")
  if 0 in shape:
    raise DataError(f"frames of the shape {list(shape)} hold nothing.")
  return frames


def _mend(shape: tuple[int, ...]) -> str:
  """What is probably wrong with a shape, and how it is mended."""
  if len(shape) == 4 and shape[-1] == 3:
    return " There is no axis for the clips: give frames[None]."
  channels = [axis for axis in (1, 2) if len(shape) == 5 and shape[axis] == 3]
  return f" The channels stand on axis {channels[0]}: give np.moveaxis(frames, {channels[0]}, -1)." if channels else ""


def _require_finite(x: Any) -> None:
  """Raises DataError for values that are NaN or infinite; says nothing of an array that is only traced."""
  if isinstance(x, jax.core.Tracer) or (np if isinstance(x, np.ndarray) else jnp).isfinite(x).all():
    return
  bad = np.argwhere(~np.isfinite(np.asarray(x)))
  count = "1 value that is" if len(bad) == 1 else f"{len(bad)} values that are"
  raise DataError(
    f"x holds {count} NaN or infinite, of {x.size}, the first in clip {bad[0][0]}, frame {bad[0][1]}; find where "
    f"{'it comes' if len(bad) == 1 else 'they come'} from."
  )
