"""The progressive layers: what is seen together gets coarser in space and wider in time from layer to layer.

layer  role                                        tokens a frame          window
1      patch type <-> motion type                  14 x 14                 1
2      shape <-> trajectory                        7 x 7 after a merge     3
3      semantic context and motion -> action       7 x 7                   7
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.fusion.bcast import BCastLayer
from gasmcast.fusion.config import FusionConfig
from gasmcast.fusion.merge import TokenMerge

State = tuple[Float[Array, "B T N D"] | None, Float[Array, "B T M E"] | None]


class ProgressiveFusion(nn.Module):
  """B-CAST layers "bcast_1", "bcast_2", ... with merges "merge_2", ... before some of them.

  A stream that is None stays None: then there is no B-CAST layer, and the merges work as they do with both.

  Attributes:
    config: of the fusion.
    grid: rows and columns of the semantic tokens that come in.
    dtype: of the computation.
  """

  config: FusionConfig
  grid: tuple[int, int]
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    semantic: Float[Array, "B T N D"] | None,
    motion: Float[Array, "B T M E"] | None,
    train: bool = False,
    capture: bool = False,
  ) -> tuple[tuple[State, ...], dict[str, Any]]:
    """The state at every depth (0: as it came in, d: after layer d), and with `capture` the weights by layer."""
    config, (rows, columns) = self.config, self.grid
    layer_class = nn.remat(BCastLayer, static_argnums=(3, 4)) if config.remat else BCastLayer
    states, attention = [(semantic, motion)], {}
    for layer, window in enumerate(config.windows, 1):
      if semantic is not None and layer in config.merge_before:
        semantic, weights = TokenMerge((rows, columns), self.dtype, name=f"merge_{layer}")(semantic)
        rows, columns = rows // 2, columns // 2
        attention[f"merge_{layer}"] = weights
      if semantic is not None and motion is not None:
        bcast = layer_class(config, window, self.dtype, name=f"bcast_{layer}")
        semantic, motion, weights = bcast(semantic, motion, train, capture)
        attention[f"bcast_{layer}"] = weights
      states.append((semantic, motion))
    return tuple(states), attention if capture else {}
