import jax
import jax.numpy as jnp

from gasmcast.core.rules import flatten
from gasmcast.fusion.config import FusionConfig
from gasmcast.fusion.progressive import ProgressiveFusion

CONFIG = FusionConfig(heads=2, bottleneck=4, windows=(1, 3, 3), merge_before=(2, 3))
SEMANTIC, MOTION = jnp.ones((2, 4, 32, 6)), jnp.ones((2, 4, 1, 8))


def shapes(semantic, motion, capture=True):
  module = ProgressiveFusion(CONFIG, grid=(4, 8))
  (states, attention), variables = jax.eval_shape(
    lambda s, m: module.init_with_output(jax.random.key(0), s, m, capture=capture), semantic, motion
  )
  return states, {name: weights.shape for name, weights in flatten(attention).items()}, set(variables.get("params", {}))


def test_states_by_depth_and_named_weights():
  states, attention, names = shapes(SEMANTIC, MOTION)
  assert [semantic.shape[2] for semantic, _ in states] == [32, 32, 8, 2]  # 4 x 8, merged to 2 x 4, to 1 x 2
  assert all(motion.shape == MOTION.shape for _, motion in states)
  assert names == {"bcast_1", "merge_2", "bcast_2", "merge_3", "bcast_3"}
  assert attention == {
    "bcast_1/motion_to_semantic": (2, 2, 4 * 32, 4),
    "bcast_1/semantic_to_motion": (2, 2, 4, 4 * 32),
    "merge_2": (2, 4, 8, 4),
    "bcast_2/motion_to_semantic": (2, 2, 4 * 8, 4),
    "bcast_2/semantic_to_motion": (2, 2, 4, 4 * 8),
    "merge_3": (2, 4, 2, 4),
    "bcast_3/motion_to_semantic": (2, 2, 4 * 2, 4),
    "bcast_3/semantic_to_motion": (2, 2, 4, 4 * 2),
  }


def test_no_weights_unless_asked():
  assert shapes(SEMANTIC, MOTION, capture=False)[1] == {}


def test_single_streams_keep_the_merges_and_exchange_nothing():
  states, _, names = shapes(SEMANTIC, None)
  assert names == {"merge_2", "merge_3"}
  assert [semantic.shape[2] for semantic, _ in states] == [32, 32, 8, 2]
  states, attention, names = shapes(None, MOTION)
  assert (names, attention) == (set(), {})
  assert len(states) == 4
