"""Weights of small networks for tests: random numbers in the right shapes, without compiling anything."""

import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from gasmcast.core import rules
from gasmcast.features.backbones import FAMILIES


def random_variables(family: str, fields: dict[str, Any], seed: int = 0) -> tuple[Any, dict[str, Any]]:
  """(config, variables) of a network of the family, every variable drawn from the normal distribution."""
  config = FAMILIES[family].config(**fields)
  clip = jnp.zeros((1, config.clip, config.image_size, config.image_size, 3))
  shapes = jax.eval_shape(FAMILIES[family].module(config, jnp.float32).init, jax.random.key(0), clip)
  generator = np.random.default_rng(seed)
  return config, jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape, np.float32), shapes)


def save_variables(path: str | os.PathLike, variables: dict[str, Any], name: str = "", config: Any = None) -> str:
  """Writes variables under our own names; with a name, as `Network.save` would. The path as text."""
  metadata = {"name": name, "config": json.dumps(vars(config))} if name else None
  safetensors.numpy.save_file(rules.flatten(variables), path, metadata)
  return str(path)
