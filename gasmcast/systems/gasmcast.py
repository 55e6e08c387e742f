"""The system of GASM-CAST: Graph-Aware Semantic-Motion Cross-Attention with Temporal Structure."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from gasmcast.core.rules import Rules
from gasmcast.core.types import Batch, PyTree
from gasmcast.features.compressed import expand
from gasmcast.metrics import classification
from gasmcast.systems.class_weights import class_weights
from gasmcast.systems.gasmcast_config import GasmCastConfig
from gasmcast.systems.gasmcast_network import Network, abstract_variables, inputs
from gasmcast.systems.mixing import Pairs, draw_plan, mix_features, mix_frames, mix_targets

LABEL = "action"
TARGET = "target"  # float32 [B, C] in a batch whose rows are mixed: the share of each class


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
    self._network = Network(config, len(class_names))

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
    return self._network.init(rng, inputs(batch), False, False)

  def abstract_variables(self, batch: Batch) -> PyTree:
    """What `init` gives for such batches, without the bytes."""
    return abstract_variables(self._network, batch)

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
    return self._network.apply(variables, inputs(batch), train, capture, rngs=rngs, mutable=collections)

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
      motion segments; "layer 1" [B, T, T], ...: from frames to segments, averaged over patches, of each exchange.
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
      weights = attention.get(f"{self.config.fusion.exchange}_{layer}", {}).get("motion_to_semantic")
      if weights is not None:
        explained[f"layer {layer}"] = weights.mean(1).reshape(batch, time, -1, time, cells).mean(2).sum(-1)
    return explained


def example_batch(frames: int, size: int, rows: int = 1) -> dict[str, np.ndarray]:
  """A batch of the right shapes and types, for `eval_shape`."""
  clip: Float[np.ndarray, "B T H W 3"] = np.zeros((rows, frames, size, size, 3), np.uint8)
  return {
    "frames": clip,
    "ok": np.ones(rows, bool),
    "index": np.zeros(rows, np.int32),
    LABEL: np.zeros(rows, np.int32),
  }
