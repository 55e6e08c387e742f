"""Heads that attend to everything alike, or always to one token: from captured attention weights to names.

Only what a head looks at is judged. A head that looks at something and whose output the next layer ignores is not found
here; parameters without any gradient are (metrics/stability.py).
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gasmcast.core.rules import flatten

UNIFORM = 0.99  # lowest entropy, as a share of the largest possible, of a head that attends to everything alike
ONE_HOT = 0.99  # lowest largest weight of a head that always attends to one token


def summaries(attention: Mapping[str, Array | Mapping[str, Array]]) -> dict[str, Float[Array, "B K 2"]]:
  """Name of each attention (levels joined by "/") -> for each example and head the lowest entropy of a query's weights
  as a share of the largest possible, and the lowest of its largest weights.

  Args:
    attention: arrays [B, K, S] or [B, ..., K, Q, S] of weights that sum to 1 over S; a weight of exactly 0 is a token
      that may not be looked at. Queries that may look at one token alone say nothing.
  """
  return {name: _summary(weights.astype(jnp.float32)) for name, weights in flatten(attention).items()}


def _summary(weights: Float[Array, "B ..."]) -> Float[Array, "B K 2"]:
  weights = weights[:, :, None] if weights.ndim == 3 else weights
  allowed = (weights > 0).sum(-1)
  entropy = -jnp.sum(jnp.where(weights > 0, weights * jnp.log(jnp.where(weights > 0, weights, 1.0)), 0.0), -1)
  says = allowed > 1
  share = jnp.where(says, entropy / jnp.log(jnp.maximum(allowed, 2)), jnp.inf)
  peak = jnp.where(says, weights.max(-1), jnp.inf)
  found = jnp.stack([share, peak], -1)  # [B, ..., K, Q, 2]
  rows, heads = found.shape[0], found.shape[-3]
  return jnp.moveaxis(found, -3, 1).reshape(rows, heads, -1, 2).min(2)


def idle(found: Mapping[str, Float[np.ndarray, "B K 2"]]) -> tuple[str, ...]:
  """One sentence for each head that is uniform, or one-hot, for every query of all examples of `summaries`."""
  sentences: list[str] = []
  for name, numbers in found.items():
    share, peak = np.moveaxis(np.min(np.asarray(numbers, np.float64), axis=0), -1, 0)
    sentences += _named(name, (share >= UNIFORM) & np.isfinite(share), "attend to all tokens alike")
    sentences += _named(name, (peak >= ONE_HOT) & np.isfinite(peak), "attend to one token alone, whatever the query")
  return tuple(sentences)


def _named(name: str, those: np.ndarray, what: str) -> Sequence[str]:
  if not those.any():
    return []
  heads = ", ".join(str(head + 1) for head in np.flatnonzero(those))
  return [f"{name}: {those.sum()} of {len(those)} heads {what} ({heads})."]
