"""The gradient of one batch, taken whole or in several parts one after the other.

Parts need the memory of one part and give the gradient of the whole batch: every row weighs the same in both, so what a
system normalises over the rows of a batch (batch statistics of a backbone that is trained) is all that differs.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gasmcast.core.types import PyTree, System
from gasmcast.training.state import TrainState, variables

DeviceBatch = Mapping[str, Array]


class Gradients(NamedTuple):
  """What one batch says.

  Attributes:
    loss, parts: means over the rows that are ok.
    gradients: of `loss`, by name of the trainable parameter.
    collections: as after the batch.
    sums: `system.metrics` of the training outputs.
  """

  loss: Array
  parts: dict[str, Array]
  gradients: dict[str, Array]
  collections: dict[str, PyTree]
  sums: PyTree


def whole(state: TrainState, batch: DeviceBatch, system: System, rngs: Mapping[str, Array]) -> Gradients:
  """The gradient of all rows at once."""

  def objective(trainable):
    outputs, updated = system.apply(variables(state.replace(trainable=trainable)), batch, train=True, rngs=rngs)
    loss, parts = system.loss(outputs, batch)
    return loss, (dict(parts), {**state.collections, **updated}, system.metrics(outputs, batch))

  (loss, (parts, collections, sums)), gradients = jax.value_and_grad(objective, has_aux=True)(state.trainable)
  return Gradients(loss, parts, gradients, collections, sums)


def in_parts(state: TrainState, batch: DeviceBatch, system: System, rngs: Mapping[str, Array], parts: int) -> Gradients:
  """The same from `parts` equal parts of the rows. Part i draws its random numbers from the key folded with i.

  Part i holds the rows i, i + parts, i + 2 parts, ..., so that every device has its share of each and no row moves.
  """
  cut = lambda leaf: leaf.reshape(leaf.shape[0] // parts, parts, *leaf.shape[1:]).swapaxes(0, 1)
  cuts = {name: cut(leaf) for name, leaf in batch.items()}

  def one(collections, part, number):
    own = {name: jax.random.fold_in(key, number) for name, key in rngs.items()}
    found = whole(state.replace(collections=collections), part, system, own)
    rows = part["ok"].sum().astype(jnp.float32)
    # The mean over no row may be 0 / 0 and must not spoil the rest.
    weigh = lambda leaf: jnp.where(rows > 0, leaf * rows, 0.0).astype(leaf.dtype)
    means = jax.tree.map(weigh, (found.loss, found.parts, found.gradients))
    keep = lambda new, old: jnp.where(rows > 0, new, old)
    return jax.tree.map(keep, found.collections, collections), (means, found.sums)

  def step(carry, given):
    collections, total = carry
    collections, found = one(collections, *given)
    return (collections, jax.tree.map(jnp.add, total, found)), None

  given = (cuts, jnp.arange(parts))
  first = jax.tree.map(lambda leaf: leaf[0], given)
  empty = jax.tree.map(jnp.zeros_like, jax.eval_shape(one, state.collections, *first)[1])
  (collections, ((loss, means, gradients), sums)), _ = jax.lax.scan(step, (state.collections, empty), given)
  rows = jnp.maximum(batch["ok"].sum(), 1)
  loss, means, gradients = jax.tree.map(lambda leaf: (leaf / rows).astype(leaf.dtype), (loss, means, gradients))
  return Gradients(loss, means, gradients, collections, sums)
