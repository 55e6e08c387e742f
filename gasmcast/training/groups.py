"""Norms of gradients, parameters and updates by module group, from one pass over the trainable parameters.

A group is what the first two levels of a parameter's path name: "fusion/bcast_1/attention/out/kernel" belongs to
"fusion/bcast_1", "head/kernel" to "head". The step returns vectors in the order of `group_names`; what they are called
is known to the host alone.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

LEVELS = 2


def group_of(name: str) -> str:
  """The group of a parameter; a parameter outside of every module is a group of its own."""
  return "/".join(name.split("/")[:-1][:LEVELS]) or name


def group_names(names: Sequence[str]) -> tuple[str, ...]:
  """The groups of these parameters, sorted."""
  return tuple(sorted({group_of(name) for name in names}))


def squares(parameters: Mapping[str, Array]) -> Float[Array, "P"]:
  """The sum of squares of each parameter in float32, in the order of sorted names."""
  return jnp.stack([jnp.sum(jnp.square(parameters[name].astype(jnp.float32))) for name in sorted(parameters)])


def group_norms(squared: Float[Array, "P"], names: Sequence[str]) -> Float[Array, "G"]:
  """The norm of each group from the `squares` of parameters of these names, in the order of `group_names`."""
  members: dict[str, list[Array]] = {}
  for position, name in enumerate(sorted(names)):
    members.setdefault(group_of(name), []).append(squared[position])
  return jnp.sqrt(jnp.stack([sum(members[group]) for group in sorted(members)]))
