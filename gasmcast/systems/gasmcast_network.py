"""The network of GASM-CAST, from frames to class scores, and the weights that its backbones begin with.

    frames [B, 16, H, W, 3] --every second frame--> semantic backbone --> tokens [B, 8, N, D] --+
                            |                                                                   +--> fusion --> logits
                            +--all frames---------> motion backbone ----> segments [B, 8, E] ---+

Frame s * stride of the clip (stride = 2) and motion segment s show the same moment. Widths, grids and times are those
of the features.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, UInt8

from gasmcast.core.config import require
from gasmcast.core.types import Batch, PyTree
from gasmcast.features.compressed import expand
from gasmcast.features.preprocessing import prepare
from gasmcast.features.streams import StreamConfig, load_stream
from gasmcast.systems.fusion_classifier import FusionClassifier
from gasmcast.systems.gasmcast_config import GasmCastConfig


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """The weights with which the backbones of a model begin.

  Attributes:
    model: the config, with the sizes of these weights.
    variables: the part of the system's variables that they are, {"params": {"semantic": ...}, ...}; empty without any.
    streams: stream -> what its weights are, as JSON: "name" and "origin", and unless they are random "fingerprint",
      "image_size", "mean" and "std".
  """

  model: GasmCastConfig
  variables: PyTree = dataclasses.field(repr=False)
  streams: Mapping[str, Mapping[str, Any]]

  def identity(self) -> dict[str, str]:
    """What tells these weights from others, by stream, wherever they lie."""
    return {f"weights.{name}": stream.get("fingerprint", stream["origin"]) for name, stream in self.streams.items()}


def load_pretrained(model: GasmCastConfig) -> Pretrained:
  """Reads the weights of the streams that the fusion uses, except where they are "random".

  Raises:
    WeightsError: weights that can't be had or read, or that are of another network.
  """
  variables: dict[str, dict[str, PyTree]] = {}
  streams: dict[str, dict[str, Any]] = {}
  for name, stream in model.streams().items():
    streams[name] = {"name": stream.name, "origin": "random"}
    if stream.random:
      continue
    loaded = load_stream(stream, name)
    network = loaded.config.network
    model = dataclasses.replace(model, **{name: loaded.config})
    for collection, tree in loaded.variables.items():
      variables.setdefault(collection, {})[name] = tree
    normalisation = {"mean": list(network.normalisation.mean), "std": list(network.normalisation.std)}
    streams[name] |= {"origin": loaded.origin, "fingerprint": loaded.fingerprint}
    streams[name] |= {"image_size": network.image_size, **normalisation}
  return Pretrained(model, variables, streams)


class Backbones(nn.Module):
  """Frames -> features of the streams that the fusion uses; only their backbones are there.

  Returns {"semantic" [B, T, N, D], "motion" [B, T, E], or [B, T, M, E] with `config.motion_tokens` "grid"}.
  """

  config: GasmCastConfig

  @nn.compact
  def __call__(self, frames: UInt8[Array, "B T H W 3"], train: bool = False) -> dict[str, Array]:
    config, features = self.config, {}
    for name in config.streams():
      if name == "semantic":
        features[name] = self._run(config.semantic, frames[:, :: config.stride], train, name)["tokens"]
      else:
        features[name] = self._run(config.motion, frames, train, name)[config.motion_tokens]
        if config.motion_tokens == "grid":
          features[name] = features[name].reshape(*features[name].shape[:2], -1, features[name].shape[-1])
    return features

  def _run(self, stream: StreamConfig, frames: Array, train: bool, name: str) -> dict[str, Array]:
    network = stream.network
    x = prepare(frames, network.image_size, network.normalisation)
    features = stream.build(jnp.dtype(self.config.dtype), name)(x, train and stream.trainable)
    return features if stream.trainable else jax.tree.map(jax.lax.stop_gradient, features)


def feature_function(model: GasmCastConfig, variables: PyTree) -> Callable[[Array], dict[str, Array]]:
  """frames [B, T, H, W, 3] -> what `Backbones` makes of them with these weights, compiled; it may still be under way
  when the function returns.
  """
  net, placed = Backbones(model), jax.device_put(variables)
  step = jax.jit(lambda variables, frames: net.apply(variables, frames))
  return lambda frames: step(placed, frames)


def select_tokens(config: GasmCastConfig, features: Mapping[str, Array]) -> dict[str, Array]:
  """The features that the fusion sees, as `semantic_tokens` and `repeat_motion` have it, by stream.

  Raises:
    ConfigError: the segments of motion can't be shared out evenly among the frames.
  """
  selected = dict(features)
  if "semantic" in selected:
    x = selected["semantic"]
    if config.semantic_tokens == "middle":
      middle = x.shape[1] // 2
      selected["semantic"] = jnp.broadcast_to(x[:, middle : middle + 1], x.shape)
    elif config.semantic_tokens == "pooled":
      selected["semantic"] = x.mean(2, keepdims=True)
  if config.repeat_motion and len(selected) == 2:
    frames, segments = selected["semantic"].shape[1], selected["motion"].shape[1]
    require(
      frames % segments == 0,
      f"config.model.repeat_motion: {segments} segments can't be repeated evenly for {frames} frames; choose "
      "config.data.frames and config.model.stride so that they can.",
    )
    selected["motion"] = jnp.repeat(selected["motion"], frames // segments, axis=1)
  return selected


class Network(nn.Module):
  """Everything with parameters: a batch -> outputs of `FusionClassifier`, from its frames or from stored features."""

  config: GasmCastConfig
  classes: int

  @nn.compact
  def __call__(self, batch: Mapping[str, Array], train: bool, capture: bool) -> dict[str, Any]:
    config, dtype = self.config, jnp.dtype(self.config.dtype)
    if "frames" in batch:
      backbones = Backbones(config)
      nn.share_scope(self, backbones)  # they are named beside the fusion
      features = backbones(batch["frames"], train)
    else:
      features = {name: expand(batch, name) for name in config.streams()}
    features = select_tokens(config, features)
    semantic, motion = features.get("semantic"), features.get("motion")
    if semantic is not None and motion is not None:
      require(
        semantic.shape[1] == motion.shape[1],
        f"the semantic stream has {semantic.shape[1]} frames and the motion stream {motion.shape[1]} segments; "
        "choose config.data.frames, config.model.stride and config.model.motion.mode so that they agree (16, 2 and "
        "'atrous' give 8 and 8), or set config.model.repeat_motion.",
      )
    fusion = FusionClassifier(config.fusion, self.classes, dtype, name="fusion")
    return fusion(semantic, motion, train, capture)


def abstract_variables(network: Network, batch: Batch) -> PyTree:
  """Names, shapes and types of all variables for such batches; nothing is allocated."""
  return _abstract_variables(network, tuple((name, np.shape(leaf), leaf.dtype) for name, leaf in inputs(batch).items()))


@functools.lru_cache(maxsize=8)  # tracing takes seconds, and every job asks for the same
def _abstract_variables(network: Network, shapes: tuple[tuple[str, tuple[int, ...], np.dtype], ...]) -> PyTree:
  batch = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape, dtype in shapes}
  return jax.eval_shape(lambda rng, batch: network.init(rng, batch, False, False), jax.random.key(0), batch)


def inputs(batch: Batch) -> dict[str, Array]:
  """What the network reads; the rest of a batch need not be of a type that a device can hold."""
  return {name: leaf for name, leaf in batch.items() if name == "frames" or name.startswith(("semantic", "motion"))}
