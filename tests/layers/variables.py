"""Parameters for tests: drawn by numpy, because compiling the initialisers of a network takes longer than the test."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gasmcast.core.rules import flatten, unflatten


def drawn_variables(module: nn.Module, *inputs: Any, seed: int = 0) -> dict[str, Any]:
  """Variables of the module for these inputs, none of them at a special point such as zero.

  Normal with deviation 0.3 around 0, and around 1 for the scales of norms and the like.
  """
  generator = np.random.default_rng(seed)
  abstract = flatten(jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"])
  return {"params": unflatten({name: _draw(generator, name, leaf.shape) for name, leaf in abstract.items()})}


def _draw(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> jax.Array:
  centre = 1.0 if name.rsplit("/", 1)[-1] == "scale" else 0.0
  return jnp.asarray(generator.normal(centre, 0.3, shape), jnp.float32)
