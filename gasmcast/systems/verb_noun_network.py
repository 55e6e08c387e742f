"""The network of the verb-noun system: a verb and a noun for a clip, with or without attention between the two tasks.

    frames [B, T, H, W, 3] --ResNet-50, mean over cells--> [B, T, D] --temporal transformer--> [B, T, D]
       --verb branch--> [B, T, E] --+                         +--> mean over T --classifier--> verbs [B, 97]
                                    +--cross-task attention --+
       --noun branch--> [B, T, E] --+                         +--> mean over T --classifier--> nouns [B, 300]

To compare with: "independent" has a classifier a task on the mean over T behind the transformer, "baseline" on that
behind the backbone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from gasmcast.core.config import parse, require
from gasmcast.core.rules import Rules
from gasmcast.core.types import PyTree
from gasmcast.features.preprocessing import prepare
from gasmcast.features.streams import StreamConfig, parse_stream
from gasmcast.fusion.temporal import TemporalTransformer
from gasmcast.heads.verb_noun import TASKS, CrossTaskAttention, TaskBranch, TaskClassifier

_SIZES = ("frames", "verbs", "nouns", "temporal_layers", "temporal_hidden", "heads", "width", "cross_hidden", "hidden")


@dataclasses.dataclass(frozen=True)
class VerbNounConfig:
  """The network; the defaults are those of EPIC-KITCHENS-100.

  Attributes:
    semantic: the backbone of the frames. One that is trained may keep its first stages as they are (`frozen_stages`).
    tokens: "frames": clips are frames, of which the backbone makes a vector each; "none": clips are such vectors
      already, [B, T, D], and there is no backbone.
    variant: "cross_task" attention between the tasks, "independent" tasks behind the transformer, or the "baseline"
      without the transformer too.
    frames: T.
    verbs, nouns: classes.
    temporal_layers, temporal_hidden: of the transformer; width inside its feed-forward parts.
    heads: K, of all attention.
    width: E, of the branches; inside the classifiers of "independent".
    cross_hidden: width inside the feed-forward parts of the cross-task attention.
    hidden: inside the classifiers of the others.
    dropout: at the end of the branches and inside the classifiers, in training.
    temporal_dropout: inside the transformer; 0.1 as published, a residual stream of two layers stands no 0.5.
    drop_path: probability of dropping a residual branch of a clip, in the transformer and between the tasks.
    dtype: of the arithmetic; parameters, softmax, norms and logits are float32.
    max_trainable: budget of trainable parameters; 0 is none.
  """

  semantic: StreamConfig
  tokens: Literal["frames", "none"] = "frames"
  variant: Literal["cross_task", "independent", "baseline"] = "cross_task"
  frames: int = 8
  verbs: int = 97
  nouns: int = 300
  temporal_layers: int = 2
  temporal_hidden: int = 8192
  heads: int = 8
  width: int = 1024
  cross_hidden: int = 2048
  hidden: int = 512
  dropout: float = 0.5
  temporal_dropout: float = 0.1
  drop_path: float = 0.1
  dtype: Literal["float32", "bfloat16"] = "float32"
  max_trainable: int = 0

  def __post_init__(self):
    for name in _SIZES:
      require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)}: use 1 or more.")
    require(
      self.frames >= 2 or self.variant == "baseline",
      "frames = 1: attention over one frame has a single key, its softmax is 1 and queries and keys never learn; use 2 "
      "or more.",
    )
    require(
      self.width % self.heads == 0 or self.variant != "cross_task",
      f"heads = {self.heads} does not divide the width {self.width} of the branches; choose a divisor of it.",
    )
    for name in ("dropout", "temporal_dropout", "drop_path"):
      rate = getattr(self, name)
      require(0 <= rate < 1, f"{name} = {rate} is a probability; use a number from 0 to below 1.")
    require(self.max_trainable >= 0, f"max_trainable = {self.max_trainable} is negative; use 0 for no budget.")

  def classes(self, task: str) -> int:
    """C of a task."""
    return {"verb": self.verbs, "noun": self.nouns}[task]


class CrossAttentionActionModel(nn.Module):
  """Clips -> logits of both tasks."""

  config: VerbNounConfig

  @nn.compact
  def __call__(
    self, clips: UInt8[Array, "B T H W 3"] | Float[Array, "B T D"], train: bool = False, capture: bool = False
  ) -> dict[str, Any]:
    """The outputs by name.

    Args:
      clips: frames, or with `config.tokens` "none" a vector a frame.
      train: whether dropout and stochastic depth act (random stream "dropout"), and the batch norms of the backbone
        that are not frozen take and update the statistics of the batch.
      capture: whether "intermediates" are wanted.

    Returns:
      "verb" float32 [B, 97], "noun" float32 [B, 300]; "intermediates" on request: "attention" (weights by name of the
      module, as in the parameter tree: "temporal" {"layer_0": [B, K, T, T], ...}, "cross_task" {"verb", "noun"}) and
      "tokens" ("frames": of the backbone [B, T, D], "verb", "noun": of the branches as refined [B, T, E]).

    Raises:
      ConfigError: clips of another shape than configured, or heads that do not divide the width of the frames.
    """
    config = self.config
    _require_clips(clips, config)
    x = clips if config.tokens == "none" else self._see(clips, train)
    tokens, attention = {"frames": x}, {}
    if config.variant != "baseline":
      x, attention["temporal"] = self._order(x, train, capture)
    states = dict.fromkeys(TASKS, x)
    if config.variant == "cross_task":
      states, attention["cross_task"] = self._relate(x, train, capture)
      tokens |= states
    outputs = {task: self._classify(task, states[task], train) for task in TASKS}
    return outputs | ({"intermediates": {"attention": attention, "tokens": tokens}} if capture else {})

  def _see(self, frames: Array, train: bool) -> Float[Array, "B T D"]:
    """The mean over the tokens that the backbone makes of each frame."""
    stream = self.config.semantic
    x = prepare(frames, stream.network.image_size, stream.network.normalisation)
    backbone = stream.build(jnp.dtype(self.config.dtype), "semantic")
    x = backbone(x, train and stream.trainable)["tokens"].astype(jnp.float32).mean(2)
    return x if stream.trainable else jax.lax.stop_gradient(x)

  def _order(self, x: Float[Array, "B T D"], train: bool, capture: bool) -> tuple[Array, dict[str, Array]]:
    """Every frame in the light of all others and of when it was."""
    config, dtype = self.config, jnp.dtype(self.config.dtype)
    sizes = (config.temporal_layers, config.heads, config.temporal_hidden)
    rates = (config.temporal_dropout, config.drop_path)
    return TemporalTransformer(*sizes, *rates, dtype, name="temporal")(x, train, capture)

  def _relate(
    self, x: Float[Array, "B T D"], train: bool, capture: bool
  ) -> tuple[dict[str, Float[Array, "B T E"]], dict[str, Array]]:
    """The frames of each task, refined by those of the other."""
    config, dtype = self.config, jnp.dtype(self.config.dtype)
    branches = [TaskBranch(config.width, config.dropout, dtype, name=f"{task}_branch") for task in TASKS]
    verb, noun = (branch(x, train) for branch in branches)
    cross = CrossTaskAttention(config.heads, config.cross_hidden, config.drop_path, dtype, name="cross_task")
    verb, noun, weights = cross(verb, noun, train, capture)
    return {"verb": verb, "noun": noun}, weights

  def _classify(self, task: str, x: Float[Array, "B T E"], train: bool) -> Float[Array, "B C"]:
    """The scores of the mean over T."""
    config = self.config
    hidden = config.width if config.variant == "independent" else config.hidden
    classifier = TaskClassifier(
      config.classes(task), hidden, config.dropout, jnp.dtype(config.dtype), name=f"{task}_classifier"
    )
    return classifier(x.astype(jnp.float32).mean(1), train)


def _require_clips(clips: Array, config: VerbNounConfig) -> None:
  shape, rank = list(clips.shape), 3 if config.tokens == "none" else 5
  wanted = "vectors [B, T, D]" if config.tokens == "none" else "frames [B, T, H, W, 3]"
  require(len(shape) == rank, f"tokens = {config.tokens!r} takes {wanted}; these clips have the shape {shape}.")
  require(
    shape[1] == config.frames,
    f"clips of {shape[1]} frames and config.model.frames = {config.frames}: there is one learned position a frame; "
    "choose them alike.",
  )


def parse_model(values: Mapping[str, Any]) -> VerbNounConfig:
  """The config from its fields, "semantic" as `parse_stream` takes it.

  Raises:
    ConfigError: an unknown field, or values that are impossible together.
  """
  semantic = parse_stream(values.get("semantic", {}), "semantic")
  return parse(VerbNounConfig, {**values, "semantic": semantic}, "config.model")


def abstract_variables(config: VerbNounConfig) -> PyTree:
  """Names, shapes and types of all variables; nothing is allocated."""
  side, rows = config.semantic.network.image_size, (1, config.frames)
  if config.tokens == "none":
    clips = jax.ShapeDtypeStruct((*rows, _feature_width(config.semantic)), jnp.float32)
  else:
    clips = jax.ShapeDtypeStruct((*rows, side, side, 3), jnp.uint8)
  return jax.eval_shape(CrossAttentionActionModel(config).init, jax.random.key(0), clips)


def _feature_width(stream: StreamConfig) -> int:
  """D of the vectors that the backbone makes of frames."""
  network = stream.network
  frames = jax.ShapeDtypeStruct((1, network.clip, network.image_size, network.image_size, 3), jnp.float32)
  outputs, _ = jax.eval_shape(stream.build(jnp.float32, "semantic").init_with_output, jax.random.key(0), frames)
  return outputs["tokens"].shape[-1]


def trainable(config: VerbNounConfig) -> Rules:
  """The backbone as configured, its first stages frozen where it says so; everything else."""
  stream = config.semantic
  freezing_rules = getattr(stream.network, "freezing_rules", lambda prefix: ())
  return (*freezing_rules("semantic/"), ("^semantic/", stream.trainable), (".*", True))
