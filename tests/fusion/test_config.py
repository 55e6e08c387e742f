import dataclasses
import re

import pytest

from gasmcast.core.config import parse, to_dict
from gasmcast.core.errors import ConfigError
from gasmcast.fusion.config import (
  VARIANTS,
  FusionConfig,
  StreamGraph,
  StreamShapes,
  check_shapes,
  shapes_at,
  stream_graph,
)

SHAPES = StreamShapes()


def refused(message, shapes=None, **fields):
  with pytest.raises(ConfigError, match=re.escape(message)):
    check_shapes(FusionConfig(**fields), shapes or SHAPES)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants_fit_the_default_features_and_survive_json(config):
  check_shapes(config, SHAPES)
  assert parse(FusionConfig, to_dict(config)) == config


def test_values_out_of_range():
  refused("fusion.heads = 0: use 1 or more.", heads=0)
  refused("fusion.semantic_nearest = -1 is negative; use 0 or more.", semantic_nearest=-1)
  refused("fusion.drop_path = 1.0 is a probability; use a number from 0 to below 1.", drop_path=1.0)
  refused("fusion.bottleneck = 256 can't be cut into fusion.heads = 12 equal heads", heads=12)


def test_heads_divide_the_widths():
  refused("fusion.heads = 8 does not divide the motion width 500; choose a divisor", StreamShapes(motion_width=500))


def test_windows_of_one_segment_are_refused():
  refused("fusion.windows[0] = 0: every query must see at least two segments", windows=(0, 3, 7))


def test_merges_name_existing_layers():
  refused("fusion.merge_before = (4,): names layers of exchange, each once, counted from 1 to 3", merge_before=(4,))
  refused("fusion.merge_before = (2, 2)", merge_before=(2, 2))


def test_odd_grids_have_no_merge():
  refused(
    "the 7 x 7 grid before layer 3 has no 2x2 merge, both sides must be even; set merge_before = ()",
    merge_before=(2, 3),
  )
  refused("the 7 x 14 grid before layer 2", StreamShapes(grid=(7, 14)))
  check_shapes(FusionConfig(merge_before=()), StreamShapes(grid=(7, 14)))
  check_shapes(FusionConfig(streams="motion"), StreamShapes(grid=(7, 14)))


def test_single_keys_are_refused():
  pooled = StreamShapes(grid=(1, 1))
  refused(
    "a node of the semantic graph with sides (1, 1) sees only itself with graph_neighbours = 'both', semantic_radius "
    "= 1, semantic_nearest = 8",
    pooled,
    merge_before=(),
  )
  check_shapes(FusionConfig(merge_before=(), semantic_blocks=0), pooled)
  refused("motion_window = 0, motion_nearest = 2", graph_neighbours="structural", motion_window=0)
  refused("set motion_blocks = 0", graph_neighbours="similarity", motion_nearest=0)
  check_shapes(FusionConfig(graph_neighbours="both", motion_window=0), SHAPES)
  still = StreamShapes(time=1)
  refused("1 segment of 1 token is a single key for motion_to_semantic in layer 1", still, motion_blocks=0)
  check_shapes(FusionConfig(motion_blocks=0, direction="semantic_to_motion"), still)


def test_complete_gatv2_is_refused():
  refused("use graph_score = 'dot' or other graph_neighbours", graph_neighbours="complete", graph_score="gatv2")


def test_graphs_of_the_streams():
  assert stream_graph(FusionConfig(), SHAPES, "semantic") == StreamGraph(1, (14, 14), (1, 1), 8)
  assert stream_graph(FusionConfig(), SHAPES, "motion") == StreamGraph(1, (8,), (2,), 2)
  cells = StreamShapes(motion_grid=(7, 7))
  assert stream_graph(FusionConfig(), cells, "motion") == StreamGraph(1, (8, 7, 7), (2, 1, 1), 2)
  assert stream_graph(FusionConfig(graph_neighbours="none"), SHAPES, "semantic").blocks == 0


def test_tokens_by_depth():
  config = FusionConfig()
  assert [shapes_at(config, SHAPES, depth).tokens("semantic") for depth in range(4)] == [1568, 1568, 392, 392]
  assert SHAPES.tokens("motion") == 8


def test_base_is_the_default():
  assert VARIANTS["base"] == FusionConfig()
  assert dataclasses.replace(VARIANTS["efficient"], graph_width="full") == FusionConfig()
