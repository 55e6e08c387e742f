import dataclasses
import math

import jax
import jax.extend
import jax.numpy as jnp
import pytest

from gasmcast.fusion.config import VARIANTS, FusionConfig, StreamShapes
from gasmcast.fusion.cost import fusion_macs, vanilla_macs
from gasmcast.systems.fusion_classifier import FusionClassifier

SHAPES = StreamShapes()  # 1568 x 8 tokens of 768 and 512
FLAT = FusionConfig(windows=(7,), merge_before=())


def layers(config):
  return sum(macs for part, macs in fusion_macs(config, SHAPES, 174).items() if part.startswith("bcast"))


def graphs_and_layers(config):
  macs = fusion_macs(config, SHAPES, 174)
  return sum(macs[part] for part in macs if any(word in part for word in ("graph", "similarity", "bcast")))


def test_vanilla_by_hand():
  """Queries and output, keys and values, scores and sum: for the patches at 768, for the segments at 512."""
  patches = 2 * 1568 * 768**2 + 2 * 8 * 512 * 768 + 2 * 1568 * 8 * 768
  segments = 2 * 8 * 512**2 + 2 * 1568 * 768 * 512 + 2 * 8 * 1568 * 512
  assert vanilla_macs(SHAPES) == patches + segments
  assert vanilla_macs(SHAPES) / 1e6 == pytest.approx(3125.4, abs=0.05)


def test_one_layer():
  without, with_ffn = (layers(dataclasses.replace(FLAT, bcast_ffn_ratio=ratio)) for ratio in (0.0, 4.0))
  assert without / 1e6 == pytest.approx(1044.6, abs=0.05)
  assert 1 - without / vanilla_macs(SHAPES) == pytest.approx(0.666, abs=5e-4)
  assert with_ffn - without == 2 * (1568 + 8) * 256 * 1024
  assert 1 - with_ffn / vanilla_macs(SHAPES) == pytest.approx(0.401, abs=5e-4)


def test_three_layers_with_a_merge():
  vanilla = 3 * vanilla_macs(SHAPES)
  small, base = layers(VARIANTS["small"]), layers(VARIANTS["base"])
  assert vanilla / 1e9 == pytest.approx(9.376, abs=5e-4)
  assert small / 1e9 == pytest.approx(1.573, abs=5e-4)
  assert 1 - small / vanilla == pytest.approx(0.832, abs=5e-4)
  assert base / 1e9 == pytest.approx(2.819, abs=5e-4)
  assert 1 - base / vanilla == pytest.approx(0.699, abs=5e-4)


def test_half_of_vanilla_with_the_graphs_included_needs_bottleneck_graphs():
  vanilla = 3 * vanilla_macs(SHAPES)
  ratios = {name: graphs_and_layers(config) / vanilla for name, config in VARIANTS.items()}
  assert ratios["efficient"] == pytest.approx(0.497, abs=5e-4)
  assert ratios["base"] == pytest.approx(1.167, abs=5e-4)
  assert ratios["small"] == pytest.approx(0.639, abs=5e-4)


def matrix_products(jaxpr):
  """Multiply-accumulates of all matrix products of a traced function and what it calls."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      left = equation.invars[0].aval.shape
      total += equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    times = equation.params["length"] if equation.primitive.name == "scan" else 1
    total += times * sum(matrix_products(inner) for inner in jax.extend.core.jaxprs_in_params(equation.params))
  return total


TINY = FusionConfig(heads=2, bottleneck=6, semantic_nearest=3, motion_nearest=1, windows=(1, 3))
NARROW = dataclasses.replace(TINY, graph_width="bottleneck", semantic_blocks=2, bcast_ffn_ratio=0.0)
ONE_WAY = dataclasses.replace(TINY, direction="semantic_to_motion", merge_before=(1, 2), graph_ffn_ratio=0.0)
CASES = {
  "base": (TINY, (1, 1)),
  "motion grid": (TINY, (2, 3)),
  "narrow graphs": (NARROW, (1, 1)),
  "one direction": (ONE_WAY, (1, 1)),
  "semantic alone": (dataclasses.replace(TINY, streams="semantic"), (1, 1)),
  "no graph, mean": (dataclasses.replace(TINY, streams="motion", graph_neighbours="none", pooling="mean"), (1, 1)),
  "vanilla": (dataclasses.replace(TINY, exchange="vanilla", merge_before=()), (2, 3)),
  "vanilla, one direction": (dataclasses.replace(ONE_WAY, exchange="vanilla"), (1, 1)),
  "flat, hidden layer": (dataclasses.replace(TINY, pooling="flat", join="mlp", join_width=7), (1, 1)),
  "LSTM": (dataclasses.replace(TINY, windows=(), merge_before=(), pooling="lstm", lstm_width=5), (1, 1)),
  "scores of a product": (dataclasses.replace(TINY, pooling="scores", join="product", join_width=3), (2, 3)),
}


@pytest.mark.parametrize(("config", "cells"), CASES.values(), ids=CASES.keys())
def test_formula_counts_every_matrix_product_of_the_network(config, cells):
  shapes = StreamShapes(time=4, grid=(4, 8), semantic_width=16, motion_width=10, motion_grid=cells)
  network = FusionClassifier(config, classes=5, grid=(4, 8), motion_grid=cells)
  semantic, motion = jnp.ones((1, 4, 32, 16)), jnp.ones((1, 4, math.prod(cells), 10))
  traced = jax.make_jaxpr(lambda key: network.init_with_output(key, semantic, motion)[0]["logits"])(jax.random.key(0))
  assert matrix_products(traced.jaxpr) == sum(fusion_macs(config, shapes, 5).values())


def test_formula_counts_gathered_neighbours():
  """gatv2 keeps Q, K, V, O and replaces N * N pairs by N * 17."""
  config = FusionConfig(graph_ffn_ratio=0.0)
  dot, gathered = (
    fusion_macs(dataclasses.replace(config, graph_score=score), SHAPES, 174)["semantic_graph_0"]
    for score in ("dot", "gatv2")
  )
  assert dot - gathered == 2 * 1568 * (196 - 17) * 768
