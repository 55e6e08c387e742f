"""Going back to an earlier checkpoint after a row of steps that were not finite, and past the data that led there.

No update of such a row is applied, but the parameters and moments before it may be what is wrong: a spike leaves
moments from which the run does not recover. So all arrays are taken from the last checkpoint that was saved outside of
such a row, and the run goes on behind the row's last batch (Chowdhery et al. 2022, PaLM, section 5.1). The step, which
is the position in the data, never goes back; the batches in between count as skipped, and the schedule goes on from
the updates that the restored parameters have had.

The new state is saved at once, and which checkpoints one goes back to does not depend on where a run was interrupted:
a resumed run goes back where the uninterrupted one does.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from gasmcast.core.errors import TrainingError, WorkdirError
from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.finite import NonFinite
from gasmcast.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Recovery:
  """What a run knows of going back. Travels in every checkpoint.

  Attributes:
    good_step: the last step that was saved for a regular reason and outside of a non-finite row; None before any.
    rollbacks: done so far.
  """

  good_step: int | None = None
  rollbacks: int = 0


def roll_back(
  error: NonFinite,
  state: TrainState,
  step: int,
  recovery: Recovery,
  limit: int,
  checkpoints: Checkpoints,
  identity: Mapping[str, Any],
) -> tuple[TrainState, Recovery, str]:
  """The state to go on with after `step`, not yet saved; what the run knows then; and a sentence about it.

  With several processes it is called on each.

  Args:
    error: why.
    state: any of the run: it says where the arrays live, and has the frozen parameters and the scale of the learning
      rate, which is a result of validations and is kept.
    step: the last of the row.
    limit: rollbacks allowed.

  Raises:
    TrainingError: there were as many already, or there is no checkpoint to go back to.
  """
  if recovery.rollbacks >= limit:
    raise TrainingError(
      f"{error} The run has gone back {recovery.rollbacks} time(s), as often as config.train.max_rollbacks = {limit} "
      "allows."
    ) from error
  try:
    if recovery.good_step is None:
      raise WorkdirError("None was saved yet.")
    good = checkpoints.restore(state, identity, recovery.good_step).state
  except WorkdirError as missing:
    raise TrainingError(f"{error} There is no checkpoint to go back to. {missing}") from error
  behind = step - recovery.good_step
  ahead = jax.jit(lambda count: count + behind, out_shardings=good.step.sharding)
  good = good.replace(step=ahead(good.step), skipped=ahead(good.skipped), lr_scale=state.lr_scale)
  after = Recovery(good_step=step, rollbacks=recovery.rollbacks + 1)
  note = (
    f"Step {step}: back to the parameters of step {recovery.good_step}, and on behind the {behind} batches since then. "
    f"Rollback {after.rollbacks} of at most {limit}."
  )
  return good, after, note
