"""States that hold nan or infinity are found before they are saved.

The train step applies no update that is not finite. What it does not look at can still go wrong: statistics of
BatchNorm, weights that were given. All arrays are read once more before each checkpoint, on the devices, which costs a
small part of writing them.
"""

import jax
import jax.numpy as jnp

from gasmcast.core import rules
from gasmcast.core.errors import TrainingError
from gasmcast.training.state import TrainState

_NAMED = 5  # arrays that a message names


class NonFinite(TrainingError):
  """A loss, a gradient or a state that is not finite, and the policy does not let it pass."""


def require_finite(state: TrainState) -> None:
  """Called on every process.

  Raises:
    NonFinite: a trainable parameter, its average or its moments, or a collection holds nan or infinity.
  """
  finite = jax.device_get(_all_finite(_arrays(state)))
  wrong = [name for name, value in finite.items() if not value]
  if wrong:
    named = ", ".join(wrong[:_NAMED]) + (", ..." if len(wrong) > _NAMED else "")
    raise NonFinite(
      f"{len(wrong)} of the {len(finite)} arrays of the state after step {int(state.step)} are not finite: {named}. It "
      "is not saved. Look at the weights and data that lead there, or lower config.optim.lr; "
      "config.train.non_finite = 'rollback' goes back to the checkpoint before."
    )


def _arrays(state: TrainState) -> dict[str, jax.Array]:
  """What must be finite, by name. Scalars of the optimiser are left out: one may begin at infinity."""
  moments = jax.tree_util.tree_leaves_with_path(state.opt_state)
  named = {f"optimizer{jax.tree_util.keystr(path)}": leaf for path, leaf in moments if leaf.ndim}
  named |= {f"{name} (average)": leaf for name, leaf in state.average.items()}
  named |= state.trainable | rules.flatten(state.collections)
  return {name: leaf for name, leaf in named.items() if jnp.issubdtype(leaf.dtype, jnp.inexact)}


@jax.jit
def _all_finite(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
  return {name: jnp.all(jnp.isfinite(leaf)) for name, leaf in arrays.items()}
