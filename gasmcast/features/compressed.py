"""Stored features in a batch, in whatever form, as the float32 arrays that a model works on. Inside jit: what was
stored small crosses to the device small."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from gasmcast.core.config import require
from gasmcast.core.types import PyTree
from gasmcast.store.compression import PRECISIONS, SCALE


def expand(batch: Mapping[str, PyTree], name: str) -> Float[Array, "B T *N D"]:
  """The features of stream `name`, from float32, bfloat16, or int8 with batch["<name>_scale"] [B, T, (N,) 1].

  Raises:
    ConfigError: the batch lacks the stream or its scales, or holds it in another type.
  """
  scale = f"{name}_{SCALE}"
  require(
    name in batch,
    f"the batch holds no features {name!r} but {', '.join(sorted(batch))}; use a store that was extracted with them.",
  )
  x = batch[name]
  require(
    x.dtype in PRECISIONS.values(),
    f"features {name!r} are of type {x.dtype}; {', '.join(PRECISIONS)} are understood. Extract them anew.",
  )
  if x.dtype != jnp.int8:
    return x.astype(jnp.float32)
  require(scale in batch, f"features {name!r} are int8 and the batch holds no {scale!r}; extract them anew.")
  return x.astype(jnp.float32) * batch[scale].astype(jnp.float32)
