"""Mixup and CutMix: rows of a batch that are partly other rows, and targets that say in which shares.

Mixup adds two clips with weights lambda and 1 - lambda (Zhang et al., "mixup: Beyond Empirical Risk Minimization",
2018). CutMix puts a rectangle of another clip into a clip (Yun et al., "CutMix", 2019), here the same one in all
frames, a tube (Yun et al., "VideoMix", 2020), so time stays intact. Lambda is drawn from Beta(alpha, alpha).

Every row has draws of its own: whether it is mixed, how, lambda, the partner and the rectangle. What is drawn depends
on the key and on the labels and "ok" of the whole batch alone, and so not on how the rows lie on devices. Three rules:

- A clip is never mixed with one of the class that differs from its own in direction alone. Half "left to right" and
  half "right to left" is evidence for neither.
- A row that is not ok is neither mixed nor mixed into others. A row that has no partner stays as it is.
- Lambda of a CutMix is the share of the pixels that are left, counted after the rectangle is rounded and cut at the
  edges.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gasmcast.core.config import require
from gasmcast.core.rng import stream_id

Pairs = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class MixingConfig:
  """How the rows of training batches are mixed.

  Attributes:
    mixup: alpha of mixup's lambda; 0 is off. 0.2 to 0.8 are usual, a larger one mixes more evenly.
    cutmix: alpha of CutMix's lambda; 0 is off. 1, which makes all shares equally likely, is usual.
    probability: that a row is mixed.
    switch: share of CutMix among the mixed rows where both are on.
  """

  mixup: float = 0.0
  cutmix: float = 0.0
  probability: float = 1.0
  switch: float = 0.5

  def __post_init__(self):
    for name in ("mixup", "cutmix"):
      alpha = getattr(self, name)
      require(
        0 <= alpha < math.inf,
        f"config.model.mixing.{name} = {alpha}: it is the alpha of a Beta distribution; use a number above 0, or 0 for "
        "none.",
      )
    for name in ("probability", "switch"):
      value = getattr(self, name)
      require(0 <= value <= 1, f"config.model.mixing.{name} = {value}: it is a probability; use 0 to 1.")

  @property
  def active(self) -> bool:
    """Whether any row can be mixed."""
    return self.probability > 0 and (self.mixup > 0 or self.cutmix > 0)


class Plan(NamedTuple):
  """What becomes of each row.

  Attributes:
    partner: the row that is mixed in; the row itself where nothing is.
    share: lambda, the row's own share, 1 where nothing is mixed in.
    weight: of the row's own values, [B, H, W] for frames: 0 inside the rectangle of a CutMix, 1 around it, lambda
      everywhere in a mixup. None where there are no frames, which is `share`.
  """

  partner: Int[Array, "B"]
  share: Float[Array, "B"]
  weight: Float[Array, "B H W"] | None


def draw_plan(
  key: Array,
  labels: Int[Array, "B"],
  ok: Bool[Array, "B"],
  config: MixingConfig,
  apart: Pairs = (),
  size: tuple[int, int] | None = None,
) -> Plan:
  """The plan for a batch.

  Args:
    key: of this step.
    labels: classes of the clips as they are now (a flip has exchanged left and right).
    ok: rows that could be read.
    apart: pairs of classes that are not mixed with each other.
    size: H, W of the frames; None for features.

  Raises:
    ConfigError: CutMix without frames.
  """
  require(
    size is not None or config.cutmix == 0,
    f"config.model.mixing.cutmix = {config.cutmix} and the batch holds stored features, which have no pixels: what a "
    "backbone makes of a clip with a rectangle of another can't be had from what it made of the two. Set it to 0 and "
    "use config.model.mixing.mixup, or set config.data.store to None to train on videos.",
  )
  rows = labels.shape[0]
  keys = {name: jax.random.fold_in(key, stream_id(name)) for name in _DRAWS}
  partner, found = choose_partners(keys["partner"], labels, ok, apart)
  mixed = found & jax.random.bernoulli(keys["probability"], config.probability, (rows,))
  cut, share = _draw_shares(keys, rows, config)
  weight = None
  if size is not None:
    weight = jnp.broadcast_to(jnp.where(mixed, share, 1.0)[:, None, None], (rows, *size))
  if config.cutmix and size is not None:
    inside, left = cut_rectangles(keys["place"], share, size)
    share = jnp.where(cut, left, share)
    weight = jnp.where((mixed & cut)[:, None, None], 1.0 - inside, weight)
  share = jnp.where(mixed, share, 1.0)
  return Plan(jnp.where(mixed, partner, jnp.arange(rows)), share, weight)


_DRAWS = ("partner", "probability", "switch", "mixup", "cutmix", "place")


def _draw_shares(
  keys: Mapping[str, Array], rows: int, config: MixingConfig
) -> tuple[Bool[Array, "B"], Float[Array, "B"]]:
  """(whether a row is cut rather than blended, lambda as drawn)."""
  cut = jnp.full(rows, config.cutmix > 0)
  if config.mixup and config.cutmix:
    cut = jax.random.bernoulli(keys["switch"], config.switch, (rows,))
  share = jnp.ones(rows)
  for name, chosen in (("mixup", ~cut), ("cutmix", cut)):
    alpha = getattr(config, name)
    if alpha:
      share = jnp.where(chosen, jax.random.beta(keys[name], alpha, alpha, (rows,)), share)
  return cut, share


def choose_partners(
  key: Array, labels: Int[Array, "B"], ok: Bool[Array, "B"], apart: Pairs
) -> tuple[Int[Array, "B"], Bool[Array, "B"]]:
  """For each row another one that it may be mixed with, each equally likely: (its number, whether there is one)."""
  rows = labels.shape[0]
  pairs = jnp.asarray(np.asarray(apart, np.int32).reshape(-1, 2))
  first, second = (labels[:, None] == pairs[:, side] for side in (0, 1))  # [B, pairs]
  opposite = (first[:, None] & second[None]).any(-1)
  allowed = ok[:, None] & ok[None] & ~(opposite | opposite.T) & ~jnp.eye(rows, dtype=bool)
  scores = jnp.where(allowed, jax.random.uniform(key, (rows, rows)), -1.0)
  return scores.argmax(1), allowed.any(1)


def cut_rectangles(
  key: Array, share: Float[Array, "B"], size: tuple[int, int]
) -> tuple[Bool[Array, "B H W"], Float[Array, "B"]]:
  """A rectangle a row, of the frame's shape and 1 - `share` of its area, its centre anywhere, cut at the edges.

  Returns:
    (whether a pixel lies inside, the exact share of the pixels outside)
  """
  inside, counts = [], []
  for axis, length in enumerate(size):
    side = jnp.floor(length * jnp.sqrt(1.0 - share)).astype(jnp.int32)
    start = jax.random.randint(jax.random.fold_in(key, axis), share.shape, 0, length) - side // 2
    positions = jnp.arange(length)
    within = (positions >= start[:, None]) & (positions < (start + side)[:, None])
    inside.append(within)
    counts.append(within.sum(1))
  area = size[0] * size[1]
  rectangle = inside[0][:, :, None] & inside[1][:, None, :]
  return rectangle, (area - counts[0] * counts[1]) / area


def mix_frames(frames: Array, plan: Plan) -> Array:
  """Frames uint8 [B, T, H, W, 3] by the plan, rounded to uint8 again: at most half a grey level from the exact mix."""
  weight = plan.weight[:, None, :, :, None]
  mixed = weight * frames.astype(jnp.float32) + (1.0 - weight) * frames[plan.partner].astype(jnp.float32)
  return jnp.round(mixed).astype(frames.dtype)


def mix_features(features: Float[Array, "B *rest"], plan: Plan) -> Float[Array, "B *rest"]:
  """Features float32 by the plan: what a linear layer would make of the mix of two clips."""
  share = plan.share.reshape(-1, *(1,) * (features.ndim - 1))
  return share * features + (1.0 - share) * features[plan.partner]


def mix_targets(labels: Int[Array, "B"], plan: Plan, classes: int) -> Float[Array, "B C"]:
  """lambda for the row's own class and 1 - lambda for the partner's; they add up where it is the same."""
  own, other = jax.nn.one_hot(labels, classes), jax.nn.one_hot(labels[plan.partner], classes)
  return plan.share[:, None] * own + (1.0 - plan.share)[:, None] * other
