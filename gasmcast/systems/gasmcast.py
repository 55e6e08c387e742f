"""GASM-CAST: Graph-Aware Semantic-Motion Cross-Attention with Temporal Structure, from frames to class scores.

    frames [B, 16, H, W, 3] --every second frame--> semantic backbone --> tokens [B, 8, N, D] --+
                            |                                                                   +--> fusion --> logits
                            +--all frames---------> motion backbone ----> segments [B, 8, E] ---+

Frame s * stride of the clip (stride = 2) and motion segment s show the same moment. Widths, grids and times are those
of the features.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from gasmcast.core.config import parse, require
from gasmcast.core.rules import Rules
from gasmcast.core.types import Batch, PyTree
from gasmcast.features.compressed import expand
from gasmcast.features.preprocessing import prepare
from gasmcast.features.streams import StreamConfig, load_stream, parse_stream
from gasmcast.fusion.config import VARIANTS, FusionConfig
from gasmcast.metrics import classification
from gasmcast.systems.class_weights import Kind, class_weights
from gasmcast.systems.fusion_classifier import FusionClassifier
from gasmcast.systems.mixing import MixingConfig, Pairs, draw_plan, mix_features, mix_frames, mix_targets

LABEL = "action"
TARGET = "target"  # float32 [B, C] in a batch whose rows are mixed: the share of each class


@dataclasses.dataclass(frozen=True)
class GasmCastConfig:
  """The model and its loss.

  Attributes:
    semantic, motion: the backbones.
    fusion: everything between their features and the scores.
    motion_tokens: "segments": one vector a segment, the mean over space; "grid": every cell of the last stage, so that
      the fusion sees where something moves.
    stride: frames of the clip for each frame that the semantic stream sees.
    dtype: of the arithmetic; parameters, softmax and norms are float32.
    label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016).
    class_weights: what the classes weigh in the loss, see `systems.class_weights`: "none", "inverse", "effective".
    class_weights_beta: beta of "effective".
    mixing: of training batches, see `systems.mixing`.
    auxiliary_weight: of the loss of each auxiliary head.
    max_trainable: budget of trainable parameters, auxiliary heads apart; 0 is none.
  """

  semantic: StreamConfig
  motion: StreamConfig
  fusion: FusionConfig
  motion_tokens: Literal["segments", "grid"] = "segments"
  stride: int = 2
  dtype: Literal["float32", "bfloat16"] = "float32"
  label_smoothing: float = 0.1
  class_weights: Kind = "none"
  class_weights_beta: float = 0.999
  mixing: MixingConfig = dataclasses.field(default_factory=MixingConfig)
  auxiliary_weight: float = 0.2
  max_trainable: int = 20_000_000

  def __post_init__(self):
    require(self.stride >= 1, f"config.model.stride = {self.stride}: it must be at least 1.")
    require(
      0 <= self.label_smoothing < 1,
      f"config.model.label_smoothing = {self.label_smoothing}: it is a share; use 0 to below 1.",
    )
    require(
      0 <= self.class_weights_beta < 1,
      f"config.model.class_weights_beta = {self.class_weights_beta}: use 0 (all classes weigh alike) to "
      "below 1 (the nearer, the more rare classes weigh).",
    )
    require(
      self.auxiliary_weight >= 0, f"config.model.auxiliary_weight = {self.auxiliary_weight} is negative; use 0 or more."
    )

  def streams(self) -> dict[str, StreamConfig]:
    """The streams that the fusion uses, by name."""
    used = {"both": ("semantic", "motion")}.get(self.fusion.streams, (self.fusion.streams,))
    return {name: getattr(self, name) for name in used}


def parse_model(values: Mapping[str, Any]) -> GasmCastConfig:
  """The config from {"variant", "fusion": {fields that differ from the variant; None: as the variant}, ...}.

  Raises:
    ConfigError: an unknown variant or field, or values that are impossible together.
  """
  values = dict(values)
  variant = values.pop("variant", "base")
  require(variant in VARIANTS, f"config.model.variant = {variant!r} is not one of {', '.join(VARIANTS)}.")
  changed = {name: value for name, value in dict(values.pop("fusion", {})).items() if value is not None}
  full = {field.name: getattr(VARIANTS[variant], field.name) for field in dataclasses.fields(FusionConfig)}
  unknown = {name: value for name, value in changed.items() if name not in full}
  fusion = parse(FusionConfig, unknown or full | changed, "config.model.fusion")
  streams = {name: parse_stream(values.pop(name, {}), name) for name in ("semantic", "motion")}
  return parse(GasmCastConfig, values | streams | {"fusion": fusion}, "config.model")


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


class _Network(nn.Module):
  """A batch -> outputs of `FusionClassifier`, from its frames or from stored features."""

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
    semantic, motion = features.get("semantic"), features.get("motion")
    if semantic is not None and motion is not None:
      require(
        semantic.shape[1] == motion.shape[1],
        f"the semantic stream has {semantic.shape[1]} frames and the motion stream {motion.shape[1]} segments; "
        "choose config.data.frames, config.model.stride and config.model.motion.mode so that they agree (16, 2 and "
        "'atrous' give 8 and 8).",
      )
    fusion = FusionClassifier(config.fusion, self.classes, dtype, name="fusion")
    return fusion(semantic, motion, train, capture)


class GasmCastSystem:
  """The `System` of GASM-CAST for a list of class names.

  Batches hold "frames", or what `Backbones` made of them, and the label "action".

  Args:
    counts: training examples of each class; the loss with `config.class_weights` needs them.
    apart: pairs of classes that differ in direction alone, which mixing keeps apart.
  """

  def __init__(
    self,
    config: GasmCastConfig,
    class_names: tuple[str, ...],
    counts: tuple[int, ...] = (),
    apart: Pairs = (),
  ):
    self.config = config
    self.class_names = class_names
    self._counts, self._apart = counts, apart
    self._network = _Network(config, len(class_names))

  @property
  def trainable(self) -> tuple[tuple[str, bool], ...]:
    """Backbones as configured (a trained one may keep its first stages as they are), everything else."""
    rules: Rules = ()
    for name in ("semantic", "motion"):
      stream = getattr(self.config, name)
      freezing_rules = getattr(stream.network, "freezing_rules", lambda prefix: ())
      rules += (*freezing_rules(f"{name}/"), (f"^{name}/", stream.trainable))
    return (*rules, (".*", True))

  @property
  def stride(self) -> int:
    """Frames of the clip for each frame of the semantic stream."""
    return self.config.stride

  def init(self, rng: Array, batch: Batch) -> PyTree:
    return self._network.init(rng, _inputs(batch), False, False)

  def apply(
    self,
    variables: PyTree,
    batch: Batch,
    *,
    train: bool,
    rngs: Mapping[str, Array] | None = None,
    capture: bool = False,
  ) -> tuple[dict[str, Any], dict[str, PyTree]]:
    """Outputs of `FusionClassifier`, and the updated "batch_stats" of backbones in training."""
    collections = [name for name in variables if name != "params"] if train else []
    return self._network.apply(variables, _inputs(batch), train, capture, rngs=rngs, mutable=collections)

  def mix(self, batch: Batch, rng: Array) -> Batch:
    """The batch with its clips, or their stored features in float32, mixed as configured, and "target" beside them."""
    config, labels = self.config.mixing, batch[LABEL]
    if not config.active:
      return batch
    frames = batch.get("frames")
    size = None if frames is None else frames.shape[2:4]
    plan = draw_plan(rng, labels, batch["ok"], config, self._apart, size)
    if frames is not None:
      mixed = {"frames": mix_frames(frames, plan)}
    else:
      mixed = {name: mix_features(expand(batch, name), plan) for name in self.config.streams()}
    return {**batch, **mixed, TARGET: mix_targets(labels, plan, len(self.class_names))}

  def loss(self, outputs: Mapping[str, Any], batch: Batch) -> tuple[Array, dict[str, Array]]:
    """Smoothed cross-entropy, and that of each auxiliary head times its weight: of training and evaluation alike.

    A row costs -sum_c w_c t_c log p_c with its target t, smoothed, and the weights w of the classes, as in PyTorch; the
    loss is the sum over the rows with ok, divided by their number. PyTorch's mean divides by the sum of the weights of
    the rows instead; w has mean 1 over the training set, so the two agree there and differ from batch to batch.
    """
    config, classes = self.config, len(self.class_names)
    target = batch[TARGET] if TARGET in batch else jax.nn.one_hot(batch[LABEL], classes)
    target = optax.smooth_labels(target, config.label_smoothing)
    weights = class_weights(self._counts, config.class_weights, config.class_weights_beta)
    target = target if weights is None else target * weights
    weight = batch["ok"] / jnp.maximum(batch["ok"].sum(), 1)
    mean = lambda logits: (optax.softmax_cross_entropy(logits.astype(jnp.float32), target) * weight).sum()
    parts = {"classification": mean(outputs["logits"])}
    for depth, logits in enumerate(outputs.get("auxiliary", ())):
      parts[f"auxiliary_{depth}"] = self.config.auxiliary_weight * mean(logits)
    return sum(parts.values()), parts

  def metrics(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, PyTree]:
    """Sums of `metrics.classification`, and the right answers of the auxiliary head of each depth.

    The label of a mixed row is the class with the larger share, the lower index of equals.
    """
    labels = batch[TARGET].argmax(-1) if TARGET in batch else batch[LABEL]
    sums = classification.sums(outputs["logits"], labels, batch["ok"])
    right = [
      ((logits.argmax(-1) == labels) & batch["ok"]).sum(dtype=jnp.float32) for logits in outputs.get("auxiliary", ())
    ]
    return {"classification": sums, "right_by_depth": right}

  def summarize(self, sums: Mapping[str, Any]) -> dict[str, float]:
    """examples, top1, top5, ... and top1_depth_0, top1_depth_1, ... of the auxiliary heads."""
    numbers = classification.summarize(sums["classification"])
    for depth, right in enumerate(sums["right_by_depth"]):
      numbers[f"top1_depth_{depth}"] = float(right / np.maximum(numbers["examples"], 1))
    return numbers

  def explain(self, outputs: Mapping[str, Any]) -> dict[str, Float[Array, "B ..."]]:
    """Where the model looked, averaged over heads, from outputs with "intermediates".

    Returns:
      "patches" [B, T, h, w]: pooling weights of the patches that are left after the merges; "segments" [B, T]: of the
      motion segments; "layer 1" [B, T, T], ...: from frames to segments, averaged over patches, of each B-CAST layer.
      Empty where a stream or the attentive pooling is missing.
    """
    attention = outputs["intermediates"]["attention"]
    if "pool_semantic" not in attention or "pool_motion" not in attention:
      return {}
    batch, time, cells = outputs["intermediates"]["tokens"]["motion_0"].shape[:3]
    motion = attention["pool_motion"].mean(1).reshape(batch, time, cells).sum(2)
    patches = attention["pool_semantic"].mean(1).reshape(batch, time, -1)
    side = math.isqrt(patches.shape[-1])  # `prepare` makes square frames
    explained = {"patches": patches.reshape(batch, time, side, side), "segments": motion}
    for layer in range(1, len(self.config.fusion.windows) + 1):
      weights = attention.get(f"bcast_{layer}", {}).get("motion_to_semantic")
      if weights is not None:
        explained[f"layer {layer}"] = weights.mean(1).reshape(batch, time, -1, time, cells).mean(2).sum(-1)
    return explained


def _inputs(batch: Batch) -> dict[str, Array]:
  """What the network reads; the rest of a batch need not be of a type that a device can hold."""
  return {name: leaf for name, leaf in batch.items() if name == "frames" or name.startswith(("semantic", "motion"))}


def example_batch(frames: int, size: int, rows: int = 1) -> dict[str, np.ndarray]:
  """A batch of the right shapes and types, for `eval_shape`."""
  clip: Float[np.ndarray, "B T H W 3"] = np.zeros((rows, frames, size, size, 3), np.uint8)
  return {
    "frames": clip,
    "ok": np.ones(rows, bool),
    "index": np.zeros(rows, np.int32),
    LABEL: np.zeros(rows, np.int32),
  }
