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
from gasmcast.fusion.vanilla import VanillaLayer

EXCHANGES = {"bcast": BCastLayer, "vanilla": VanillaLayer}  # a kind of layer by its name in `FusionConfig.exchange`
State = tuple[Float[Array, "B T N D"] | None, Float[Array, "B T M E"] | None]


class ProgressiveFusion(nn.Module):
  """Layers "bcast_1", "bcast_2", ... (or "vanilla_1", ...) with merges "merge_2", ... before some of them.

  A stream that is None stays None: then nothing is exchanged, and the merges work as they do with both.

  Attributes:
    config: of the fusion.
    grid: rows and columns of the semantic tokens that come in.
    motion_grid: of the motion tokens.
    dtype: of the computation.
  """

  config: FusionConfig
  grid: tuple[int, int]
  motion_grid: tuple[int, int] = (1, 1)
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
    layer_class = EXCHANGES[config.exchange]
    layer_class = nn.remat(layer_class, static_argnums=(3, 4)) if config.remat else layer_class
    states, attention = [(semantic, motion)], {}
    for layer, window in enumerate(config.windows, 1):
      if semantic is not None and layer in config.merge_before:
        semantic, weights = TokenMerge((rows, columns), self.dtype, name=f"merge_{layer}")(semantic)
        rows, columns = rows // 2, columns // 2
        attention[f"merge_{layer}"] = weights
      if semantic is not None and motion is not None:
        name, grids = f"{config.exchange}_{layer}", ((rows, columns), self.motion_grid)
        exchange = layer_class(config, window, *grids, self.dtype, name=name)
        semantic, motion, attention[name] = exchange(semantic, motion, train, capture)
      states.append((semantic, motion))
    return tuple(states), attention if capture else {}
