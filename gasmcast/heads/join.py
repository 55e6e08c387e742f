"""From one vector a stream to one vector a clip."""

from collections.abc import Mapping
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.layers.dense import Dense


class Join(nn.Module):
  """{stream: [..., D]} -> [..., F] in float32.

  "concat": one after the other in the order of the mapping, without parameters. "mlp": LayerNorm, linear and GELU on
  that. "product": each stream through LayerNorm and linear to one width, multiplied element by element (Kim et al.,
  "Hadamard Product for Low-rank Bilinear Pooling", 2017, equation 7, without its outer projection, which is the
  classifier's).

  Attributes:
    kind: see above.
    width: F of "mlp" and of "product".
  """

  kind: Literal["concat", "mlp", "product"]
  width: int = 512

  @nn.compact
  def __call__(self, vectors: Mapping[str, Float[Array, "*batch D"]]) -> Float[Array, "*batch F"]:
    if self.kind == "product":
      factors = [self._project(name, x) for name, x in vectors.items()]
      product = factors[0]
      for factor in factors[1:]:
        product = product * factor
      return product
    x = jnp.concatenate(list(vectors.values()), -1)
    return nn.gelu(self._project("hidden", x), approximate=False) if self.kind == "mlp" else x

  def _project(self, name: str, x: Array) -> Array:
    return Dense(self.width, name=name)(nn.LayerNorm(dtype=jnp.float32, name=f"{name}_norm")(x))
