"""Muon: the momentum of a matrix, made orthogonal (Jordan et al. 2024, "Muon: an optimizer for hidden layers").

A kernel is seen as one matrix or several, of inputs and outputs, each made orthogonal on its own:

  "matrix"  [..., O]: all axes but the last are the input, as in dense layers and convolutions.
  "qkv"     [D, 3 E]: the kernels of query, key and value side by side.
  "heads"   [D, K, E]: one matrix a head; the kernel of the output, [K, E, D], is a "matrix".
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Float

from gasmcast.core.config import require

Kind = Literal["matrix", "qkv", "heads"]
KINDS: tuple[Kind, ...] = ("matrix", "qkv", "heads")
ADAM = "adam"  # in a rule table: no matrix, Adam moves it
_NEEDED = {"matrix": "two axes or more", "qkv": "two axes, the last of three equal parts", "heads": "three axes"}
# Entries of an orthogonal [I, O] have the root mean square 1 / sqrt(max(I, O)); those of Adam's updates about this.
_ADAM_RMS = 0.2


def orthogonalized_momentum(momentum: float, nesterov: bool, eps: float, kind: Kind) -> optax.GradientTransformation:
  """Gradients by name -> orthogonalised momentum, each matrix [I, O] times 0.2 sqrt(max(I, O)).

  The factor (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2) gives updates the size of Adam's, so
  that a learning rate and a decay for AdamW serve here. The sum of past gradients stands for their running mean: only
  its direction matters.

  Raises:
    ConfigError: when it is initialised, for a kernel of a shape that its kind does not have.
  """

  def check(parameters):
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
      _require_kind(leaf.shape, kind, path[-1].key)
    return optax.EmptyState()

  def orthogonalize(updates, state, parameters=None):
    return jax.tree.map(lambda update: _orthogonal(update, kind, eps), updates), state

  return optax.chain(optax.trace(momentum, nesterov), optax.GradientTransformation(check, orthogonalize))


def _require_kind(shape: tuple[int, ...], kind: Kind, name: str) -> None:
  rank = len(shape)
  fits = {"matrix": rank >= 2, "qkv": rank == 2 and shape[-1] % 3 == 0, "heads": rank == 3}[kind]
  require(
    fits,
    f"config.optim.muon_rules: {name!r} of the shape {shape} is not of the kind {kind!r}, which has {_NEEDED[kind]}; "
    f"give it {ADAM!r} by a rule before.",
  )


def _orthogonal(update: Float[Array, "..."], kind: Kind, eps: float) -> Float[Array, "..."]:
  matrices = _to_matrices(update, kind)
  numbers = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
  # Without a momentum of its own it has nothing to keep from one step to the next.
  newton_schulz = optax.contrib.scale_by_muon(beta=0.0, nesterov=False, eps=eps, weight_dimension_numbers=numbers)
  orthogonal, _ = newton_schulz.update(matrices, newton_schulz.init(matrices))
  scale = _ADAM_RMS * math.sqrt(max(matrices.shape[1:]))
  return _from_matrices(scale * orthogonal, kind, update.shape)


def _to_matrices(kernel: Float[Array, "..."], kind: Kind) -> Float[Array, "M I O"]:
  if kind == "matrix":
    return kernel.reshape(1, -1, kernel.shape[-1])
  parts = kernel.reshape(kernel.shape[0], 3, -1) if kind == "qkv" else kernel
  return jnp.swapaxes(parts, 0, 1)


def _from_matrices(matrices: Float[Array, "M I O"], kind: Kind, shape: tuple[int, ...]) -> Float[Array, "..."]:
  return (matrices if kind == "matrix" else jnp.swapaxes(matrices, 0, 1)).reshape(shape)
