"""What a run begins with. Whoever resumes or evaluates it makes the same, as the place for what a checkpoint holds."""

from collections.abc import Mapping

import jax
import optax
from jax.sharding import Mesh

from gasmcast.core.rng import stream_id
from gasmcast.core.types import Batch, PyTree, System
from gasmcast.training.config import TrainConfig
from gasmcast.training.optim import make_optimizer
from gasmcast.training.state import TrainState, create_state


def begin(
  system: System, config: TrainConfig, batch: Batch, mesh: Mesh, pretrained: Mapping[str, PyTree] | None = None
) -> tuple[TrainState, optax.GradientTransformation, optax.Schedule]:
  """(the state before the first step, its optimiser, the learning rate that this takes by step).

  Args:
    batch: any batch of the right shapes; its values are not used.
    pretrained: a part of the variables, see `create_state`.

  Raises:
    ConfigError, WeightsError: what `make_optimizer` and `create_state` refuse.
  """
  tx, schedule = make_optimizer(config.optim, config.steps)
  rng = jax.random.fold_in(jax.random.key(config.seed), stream_id("init"))
  average = config.average_decay > 0
  state = create_state(system, tx, rng, batch, mesh, config.sharding, pretrained, average, config.optim)
  return state, tx, schedule
