"""The network of OCEAN: five personality traits from a face (static) and its motion (dynamic).

    static  [B, Ns, 512] --Linear--> s: queries -----------+
                                                           +--> LN(s + attended) --mean over Ns--> [B, 128]
    dynamic [B, Nd, 256] --Linear--> d: keys and values ---+
    [B, 128] --BatchNorm, dropout--> --Linear, ReLU, Linear--> traits [B, 5]

One vector a clip, [B, 512] or [B, 256], will do for either; with a single dynamic vector the attention has one key, its
softmax is 1 and it can't choose, so such weights are called degenerate.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.core.config import parse, require
from gasmcast.core.rules import Rules
from gasmcast.core.types import PyTree
from gasmcast.datasets.first_impressions import TRAITS
from gasmcast.fusion.temporal import sinusoidal_codes
from gasmcast.heads.regress import Regressor
from gasmcast.layers.attention import MultiHeadAttention
from gasmcast.layers.dense import Dense

_BATCH_NORM = {"momentum": 0.99, "epsilon": 1e-3}  # the defaults of Keras, which the design counts on
_SIZES = ("static_dim", "dynamic_dim", "fusion_dim", "num_heads", "hidden_dim")


@dataclasses.dataclass(frozen=True)
class OceanConfig:
  """The sizes of the network.

  Attributes:
    static_dim, dynamic_dim: widths of the features that come in.
    fusion_dim: width of everything between them and the head, and of each attention head; even, for the time codes.
    num_heads: attention heads, each of the full `fusion_dim`.
    hidden_dim: width inside the head.
    dropout_rate: before the head, in training.
    dtype: of the arithmetic; parameters, softmax, norms and traits are float32.
    max_trainable: budget of trainable parameters; 0 is none.
  """

  static_dim: int = 512
  dynamic_dim: int = 256
  fusion_dim: int = 128
  num_heads: int = 4
  hidden_dim: int = 64
  dropout_rate: float = 0.3
  dtype: Literal["float32", "bfloat16"] = "float32"
  max_trainable: int = 0

  def __post_init__(self):
    for name in _SIZES:
      require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)}: use 1 or more.")
    require(
      self.fusion_dim % 2 == 0,
      f"fusion_dim = {self.fusion_dim} is odd: the time codes are pairs of a sine and a cosine; use an even width.",
    )
    rate = self.dropout_rate
    require(0 <= rate < 1, f"dropout_rate = {rate} is a probability; use a number from 0 to below 1.")
    require(self.max_trainable >= 0, f"max_trainable = {self.max_trainable} is negative; use 0 for no budget.")

  def build(self) -> "CompletePersonalityModel":
    """The module of these sizes."""
    sizes = {name: getattr(self, name) for name in _SIZES}
    return CompletePersonalityModel(**sizes, dropout_rate=self.dropout_rate, dtype=jnp.dtype(self.dtype))


class CrossAttention(nn.Module):
  """Static tokens look at dynamic tokens: LN(s + attend(queries s, sources d)) with both projected to `width`.

  Attributes:
    width: of the projections, of each head and of what comes out.
    heads: K.
    dtype: of the computation; the norm is float32.
  """

  width: int
  heads: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, static: Float[Array, "B *Ns D"], dynamic: Float[Array, "B *Nd E"], capture: bool = False
  ) -> tuple[Float[Array, "B Ns F"], Float[Array, "B K Ns Nd"] | None]:
    """The refined static tokens in float32, and with `capture` the weights; a vector is a single token."""
    s, d = self._project("static", static), self._project("dynamic", dynamic)
    attention = MultiHeadAttention(self.heads, self.heads * self.width, self.width, self.dtype, name="attention")
    attended, weights = attention(s, d, capture=capture)
    return nn.LayerNorm(epsilon=1e-6, dtype=jnp.float32, name="norm")(s + attended), weights

  def _project(self, stream: str, x: Array) -> Float[Array, "B N F"]:
    """The tokens at the common width; those of a sequence know their place in time by a code that is added."""
    y = Dense(self.width, dtype=self.dtype, name=stream)(x)
    return y[:, None] if y.ndim == 2 else y + sinusoidal_codes(y.shape[1], self.width).astype(y.dtype)


class FeatureFusion(nn.Module):
  """The mean over the tokens, batch norm, dropout: [B, Ns, D] -> [B, D] in float32, ready for the head."""

  dropout_rate: float

  @nn.compact
  def __call__(self, x: Float[Array, "B Ns D"], train: bool = False) -> Float[Array, "B D"]:
    x = x.astype(jnp.float32).mean(1)
    x = nn.BatchNorm(not train, **_BATCH_NORM, dtype=jnp.float32, name="norm")(x)
    return nn.Dropout(self.dropout_rate, name="drop")(x, deterministic=not train)


class CompletePersonalityModel(nn.Module):
  """Static and dynamic features -> the traits, in three parts: cross-attention, fusion, head.

  Attributes: see `OceanConfig`.
  """

  static_dim: int = OceanConfig.static_dim
  dynamic_dim: int = OceanConfig.dynamic_dim
  fusion_dim: int = OceanConfig.fusion_dim
  num_heads: int = OceanConfig.num_heads
  hidden_dim: int = OceanConfig.hidden_dim
  dropout_rate: float = OceanConfig.dropout_rate
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    static: Float[Array, "B *Ns D"],
    dynamic: Float[Array, "B *Nd E"],
    train: bool = False,
    capture: bool = False,
  ) -> dict[str, Any]:
    """The outputs by name.

    Args:
      static: of the face, tokens over time [B, Ns, static_dim] or one vector [B, static_dim].
      dynamic: of the motion, [B, Nd, dynamic_dim] or [B, dynamic_dim].
      train: whether dropout acts (random stream "dropout") and batch norm takes the statistics of the batch, with which
        it updates the running ones.
      capture: whether "intermediates" are wanted.

    Returns:
      "traits" float32 [B, 5], the columns in the order of `TRAITS`; "intermediates" on request: "attention"
      {"cross_attention": weights [B, K, Ns, Nd]} and "degenerate" bool [B]: whether a single key made them all 1.

    Raises:
      ConfigError: impossible sizes, or features of another width or shape.
    """
    OceanConfig(
      **{name: getattr(self, name) for name in _SIZES}, dropout_rate=self.dropout_rate
    )  # refuses what can't be
    _require_features("static", static, self.static_dim)
    _require_features("dynamic", dynamic, self.dynamic_dim)
    require(
      static.shape[0] == dynamic.shape[0],
      f"static features of {static.shape[0]} clips and dynamic features of {dynamic.shape[0]}: row i of both must be "
      "of the same clip.",
    )
    cross_attention = CrossAttention(self.fusion_dim, self.num_heads, self.dtype, name="cross_attention")
    tokens, weights = cross_attention(static, dynamic, capture)
    fused = FeatureFusion(self.dropout_rate, name="fusion")(tokens, train)
    outputs = {"traits": Regressor(len(TRAITS), self.hidden_dim, self.dtype, name="head")(fused)}
    if capture:
      degenerate = jnp.full(static.shape[0], weights.shape[-1] == 1)
      outputs["intermediates"] = {"attention": {"cross_attention": weights}, "degenerate": degenerate}
    return outputs


def _require_features(stream: str, x: Array, width: int) -> None:
  shape = list(x.shape)
  require(
    len(shape) in (2, 3) and 0 not in shape,
    f"{stream} features have the shape [clips, {width}] or [clips, tokens, {width}]; these have {shape}.",
  )
  require(
    shape[-1] == width,
    f"{stream} features {shape} are {shape[-1]} wide and {stream}_dim = {width}; set {stream}_dim = {shape[-1]}, or "
    "give the features that it was meant for.",
  )


def parse_model(values: Mapping[str, Any]) -> OceanConfig:
  """The config from its fields. Raises ConfigError for what is unknown or impossible."""
  return parse(OceanConfig, values, "config.model")


def abstract_variables(config: OceanConfig) -> PyTree:
  """Names, shapes and types of all variables, whatever the number of tokens; nothing is allocated."""
  features = [jax.ShapeDtypeStruct((1, width), jnp.float32) for width in (config.static_dim, config.dynamic_dim)]
  return jax.eval_shape(config.build().init, jax.random.key(0), *features)


def trainable(config: OceanConfig) -> Rules:
  """Everything: the features come from extractors that are not part of it."""
  return ((".*", True),)
