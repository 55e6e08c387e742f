"""Variants of stored features beside what they were made from: compressed, restored, compared clip by clip."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gasmcast.core.errors import ConfigError
from gasmcast.metrics.fidelity import Moments, cosines, lost_by_pooling, lost_by_storing, moments, spread
from gasmcast.store.compression import Pca, Variant, compress, decompress, nbytes, pool_features, stored_shape

Shapes = Mapping[str, tuple[int, ...]]


def name(variant: Variant) -> str:
  """ "all bfloat16", "49 int8", "pooled int8 pca256"."""
  tokens = {0: "all", 1: "pooled"}.get(variant.tokens, str(variant.tokens))
  return f"{tokens} {variant.precision}" + (f" pca{variant.pca}" if variant.pca else "")


def obstacle(shapes: Shapes, variant: Variant, fitting_clips: int) -> str | None:
  """Why features of these shapes can't have the form of the variant, in words; None where they can.

  Args:
    fitting_clips: on whose tokens principal components are fitted.
  """
  for stream, shape in shapes.items():
    try:
      tokens = math.prod(stored_shape(shape, Variant(variant.tokens))[:-1])
    except ConfigError as error:
      return f"the {stream} stream: {error}"
    if variant.pca > shape[-1]:
      return f"the {stream} stream is {shape[-1]} wide, which has no {variant.pca} components"
    if variant.pca and variant.pca >= tokens * fitting_clips:
      return (
        f"{variant.pca} components of the {stream} stream need more than {variant.pca} samples; {fitting_clips} clips "
        f"have {tokens * fitting_clips}"
      )
  return None


def bytes_of_clip(shapes: Shapes, variant: Variant) -> int:
  """Of all streams together, without the head of the record."""
  return sum(nbytes(shape, variant) for shape in shapes.values())


class Comparison:
  """One variant of all streams; clips are added one by one.

  Args:
    components: of each stream, where the variant keeps principal components.
  """

  def __init__(self, variant: Variant, shapes: Shapes, components: Mapping[str, Pca]):
    pooled = Variant(variant.tokens)  # what is restored has all dimensions again
    self.variant, self.shapes = variant, {name: stored_shape(shape, pooled) for name, shape in shapes.items()}
    self._components = components
    self._streams = {name: _Stream() for name in shapes}

  def add(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compares a clip's features; returns what a reader of the store restores of them, float32.

    Raises:
      DataError: values that are not finite or too large for the precision.
    """
    restored = {}
    for name, stream in self._streams.items():
      pca = self._components.get(name)
      x = decompress(compress(features[name], self.variant, pca))
      restored[name] = x if pca is None else pca.restore(x)
      stream.add(features[name], pool_features(features[name], self.variant.tokens), restored[name])
    return restored

  def numbers(self) -> dict[str, Any]:
    """Stream -> {"shape" that is restored, "cosine", "lost_by_pooling", "lost_by_storing", "explained"}; a share is
    None where the variant has no part in it.
    """
    return {
      name: {
        "shape": list(self.shapes[name]),
        **stream.numbers(),
        "explained": self._components[name].explained if name in self._components else None,
      }
      for name, stream in self._streams.items()
    }


class _Stream:
  """The sums of one stream."""

  def __init__(self):
    self._cosines: list[np.ndarray] = []
    self._tokens: Moments | None = None
    self._pooled: Moments | None = None
    self._error = 0.0

  def add(self, reference: np.ndarray, pooled: np.ndarray, restored: np.ndarray) -> None:
    """All tokens, the same averaged, and what the variant makes of those."""
    self._cosines.append(cosines(pooled, restored))
    tokens, groups = moments(reference), moments(pooled)
    self._tokens = tokens if self._tokens is None else self._tokens + tokens
    self._pooled = groups if self._pooled is None else self._pooled + groups
    self._error += float(np.square(pooled.astype(np.float64) - restored).sum())

  def numbers(self) -> dict[str, Any]:
    return {
      "cosine": spread(np.concatenate(self._cosines)),
      "lost_by_pooling": lost_by_pooling(self._tokens, self._pooled),
      "lost_by_storing": lost_by_storing(self._error, self._pooled),
    }
