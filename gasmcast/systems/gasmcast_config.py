"""The fields of GASM-CAST: its two backbones, the fusion, and the loss."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from gasmcast.core.config import parse, require
from gasmcast.features.streams import StreamConfig, parse_stream
from gasmcast.fusion.config import VARIANTS, FusionConfig
from gasmcast.systems.class_weights import Kind
from gasmcast.systems.mixing import MixingConfig


@dataclasses.dataclass(frozen=True)
class GasmCastConfig:
  """The model and its loss.

  Attributes:
    semantic, motion: the backbones.
    fusion: everything between their features and the scores.
    semantic_tokens: "patches" of every frame; or, to see what they are worth, those of the "middle" frame in the place
      of all, or their mean: one "pooled" token a frame.
    motion_tokens: "segments": one vector a segment, the mean over space; "grid": every cell of the last stage, so that
      the fusion sees where something moves.
    repeat_motion: whether a segment is repeated for each of the frames that it spans, where a network gives fewer
      segments than the semantic stream has frames (R3D-18 as published: 2).
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
  semantic_tokens: Literal["patches", "middle", "pooled"] = "patches"
  motion_tokens: Literal["segments", "grid"] = "segments"
  repeat_motion: bool = False
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
