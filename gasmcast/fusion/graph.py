"""Graph attention over the patches of a frame or the segments of a clip: one module for both streams.

For node i and head h, over its neighbours j:

    e_ij = q_i . k_j / sqrt(E) + bias_h[offset(i, j)] + g_h cos(x_i, x_j)        a_ij = softmax_j e_ij
    x <- x + ls1 * W_o concat_h sum_j a_ij v_j        x <- x + ls2 * FFN(LN(x))

Veličković et al., "Graph Attention Networks" (2018), with dot-product scores; score "gatv2" replaces the product by
a_h . LeakyReLU(q_i + k_j) of Brody et al., "How Attentive are Graph Attention Networks?" (2022), equation 7.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from gasmcast.fusion.config import FusionConfig
from gasmcast.fusion.metadata import table_size
from gasmcast.fusion.neighbours import Neighbourhood
from gasmcast.layers.attention import MultiHeadAttention, masked_softmax, merge_heads, split_heads
from gasmcast.layers.contract import contract
from gasmcast.layers.dense import Dense
from gasmcast.layers.drop_path import DropPath
from gasmcast.layers.layer_scale import LayerScale
from gasmcast.layers.mlp import MLP

_SLOPE = 0.2  # of the LeakyReLU, as published


def gather_nodes(x: Float[Array, "*batch N D"], index: Int[Array, "*batch N M"]) -> Float[Array, "*batch N M D"]:
  """The features of each node's neighbours."""
  flat = index.reshape(*index.shape[:-2], -1, 1)
  return jnp.take_along_axis(x, flat, axis=-2).reshape(*index.shape, x.shape[-1])


def scatter_weights(weights: Float[Array, "*batch K N M"], index: Int[Array, "*batch N M"]) -> Array:
  """Weights by neighbour [..., K, N, M] as weights by node [..., K, N, N], 0 where there is no edge."""
  nodes = index.shape[-2]
  chosen = index[..., None] == jnp.arange(nodes)  # a node may stand twice in a padded row, once with weight 0
  return jnp.einsum("...knm,...nmj->...knj", weights, chosen.astype(weights.dtype))


class GATv2Attention(nn.Module):
  """Attention with additive scores over gathered neighbours; the parameters of `MultiHeadAttention` and "score".

  Memory grows with N * M * D, M neighbours a node, and not with N * N * D.
  """

  heads: int
  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "*batch N D"], bias: Float[Array, "*batch K N M"], neighbours: Neighbourhood, capture: bool
  ) -> tuple[Float[Array, "*batch N D"], Float[Array, "*batch K N N"] | None]:
    def project(name: str) -> Array:
      return Dense(self.width, dtype=self.dtype, name=name)(x)

    query, key, value = project("query"), project("key"), project("value")
    score = self.param(
      "score", nn.initializers.lecun_normal(in_axis=1, out_axis=0), (self.heads, self.width // self.heads)
    )
    pairs = nn.leaky_relu(query[..., None, :] + gather_nodes(key, neighbours.index), _SLOPE)
    pairs = split_heads(pairs, self.heads)
    logits = contract("...nkme,ke->...knm", pairs, score.astype(self.dtype))
    weights = masked_softmax(logits + bias, neighbours.mask[..., None, :, :])
    values = split_heads(gather_nodes(value, neighbours.index), self.heads)
    z = contract("...knm,...nkme->...kne", weights.astype(self.dtype), values)
    out = Dense(x.shape[-1], dtype=self.dtype, name="out")(merge_heads(z))
    return out, scatter_weights(weights, neighbours.index) if capture else None


class GraphBlock(nn.Module):
  """Pre-norm graph attention and feed-forward part, each a residual branch with LayerScale, at the width of x.

  Attributes:
    config: the fields `graph_*`, `heads`, `relative_bias`, `bias_std`, `layer_scale` count here.
    sides: of the lattice on which the nodes stand, see `metadata.lattice`.
    drop_path: probability of dropping a branch in training.
    dtype: of the computation.
  """

  config: FusionConfig
  sides: tuple[int, ...]
  drop_path: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "B *batch N D"], neighbours: Neighbourhood, train: bool = False, capture: bool = False
  ) -> tuple[Float[Array, "B *batch N D"], Float[Array, "B *batch K N N"] | None]:
    """The refined nodes, and with `capture` the attention weights."""
    config, width = self.config, x.shape[-1]
    y, weights = self._attend(self._norm("norm", x), neighbours, capture)
    x = x + self._branch("attention", y, train)
    if config.graph_ffn_ratio:
      y = MLP(int(width * config.graph_ffn_ratio), self.dtype, name="ffn")(self._norm("ffn_norm", x))
      x = x + self._branch("ffn", y, train)
    return x, weights

  def _norm(self, name: str, x: Array) -> Array:
    return nn.LayerNorm(dtype=jnp.float32, name=name)(x)

  def _branch(self, name: str, y: Array, train: bool) -> Array:
    if self.config.layer_scale:
      y = LayerScale(self.config.layer_scale, name=f"{name}_scale")(y)
    return DropPath(self.drop_path, name=f"{name}_drop")(y, train)

  def _attend(self, x: Array, neighbours: Neighbourhood, capture: bool) -> tuple[Array, Array | None]:
    heads, width = self.config.heads, x.shape[-1]
    bias = self._bias(neighbours)
    if self.config.graph_score == "gatv2":
      return GATv2Attention(heads, width, self.dtype, name="attention")(x, bias, neighbours, capture)
    mask = neighbours.mask[..., None, :, :]
    return MultiHeadAttention(heads, width, width, self.dtype, name="attention")(x, x, bias, mask, capture)

  def _bias(self, neighbours: Neighbourhood) -> Float[Array, "*batch #K N M"]:
    """The terms of the logits by similarity and by offset, for all pairs or for the gathered ones."""
    config, normal = self.config, nn.initializers.normal(self.config.bias_std)
    bias = jnp.zeros_like(neighbours.similarity[..., None, :, :])
    if config.similarity_bias:
      scale = self.param("similarity_scale", normal, (config.heads,))
      bias = bias + scale[:, None, None] * neighbours.similarity[..., None, :, :]
    if config.relative_bias == "none":
      return bias
    size = table_size(self.sides, config.relative_bias)
    table = self.param("offset_bias", normal, (config.heads, size))
    return bias + jnp.moveaxis(table[:, neighbours.offset], 0, -3)


class BottleneckGraphBlock(nn.Module):
  """The same block at width `config.bottleneck`, between a projection down and a zero-initialised one up."""

  config: FusionConfig
  sides: tuple[int, ...]
  drop_path: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "B *batch N D"], neighbours: Neighbourhood, train: bool = False, capture: bool = False
  ) -> tuple[Float[Array, "B *batch N D"], Float[Array, "B *batch K N N"] | None]:
    y = nn.LayerNorm(dtype=jnp.float32, name="down_norm")(x)
    y = Dense(self.config.bottleneck, dtype=self.dtype, name="down")(y)
    y, weights = GraphBlock(self.config, self.sides, dtype=self.dtype, name="block")(y, neighbours, train, capture)
    y = Dense(x.shape[-1], dtype=self.dtype, kernel_init=nn.initializers.zeros, name="up")(y)
    return x + DropPath(self.drop_path, name="drop")(y, train), weights
