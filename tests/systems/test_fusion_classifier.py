import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.core.rules import flatten
from gasmcast.fusion.config import VARIANTS, FusionConfig
from gasmcast.systems.fusion_classifier import FusionClassifier, count_parameters, require_trainable
from tests.layers.variables import drawn_variables

TINY = FusionConfig(
  heads=2, bottleneck=8, windows=(1, 3), motion_window=1, semantic_nearest=3, motion_nearest=1, bcast_ffn_ratio=2.0
)
SEMANTIC = np.random.default_rng(0).normal(size=(2, 4, 16, 12)).astype(np.float32)  # [B, T, N, D]
MOTION = np.random.default_rng(1).normal(size=(2, 4, 10)).astype(np.float32)  # [B, T, E]


def network_of(dtype=jnp.float32, **changes):
  return FusionClassifier(dataclasses.replace(TINY, **changes), classes=5, dtype=dtype)


def abstract(network, semantic=SEMANTIC, motion=MOTION, **options):
  """Shapes and dtypes of the outputs and of the parameters."""
  outputs, variables = jax.eval_shape(
    lambda s, m: network.init_with_output(jax.random.key(0), s, m, **options), semantic, motion
  )
  return outputs, variables["params"]


def refused(message, network, semantic=SEMANTIC, motion=MOTION):
  with pytest.raises(ConfigError, match=re.escape(message)):
    abstract(network, semantic, motion)


class TestCounts:
  @staticmethod
  def parts(config, motion_width=512, classes=174):
    features = jnp.ones((1, 8, 196, 768)), jnp.ones((1, 8, motion_width))
    return count_parameters(abstract(FusionClassifier(config, classes), *features)[1])

  @pytest.mark.parametrize(
    ("variant", "total"),
    [("literal", 7_208_910), ("small", 7_625_294), ("large", 17_879_198), ("efficient", 9_079_886)],
  )
  def test_variants(self, variant, total):
    assert sum(self.parts(VARIANTS[variant]).values()) == total

  def test_base_by_part_and_its_auxiliary_heads(self):
    parts = self.parts(dataclasses.replace(VARIANTS["base"], auxiliary=True))
    auxiliary = {part: parts.pop(part) for part in list(parts) if part.startswith("auxiliary")}
    assert auxiliary == {f"auxiliary_{depth}": 225_454 for depth in range(3)}  # LN(1280) and 1280 -> 174
    assert parts == {
      "semantic_graph_0": 4_734_416,
      "motion_graph_0": 2_103_936,
      "bcast_1": 2_291_696,
      "merge_2": 2_304,
      "bcast_2": 2_254_064,
      "bcast_3": 2_254_064,
      "pool_semantic": 198_720,
      "pool_motion": 132_672,
      "output_norm": 2_560,
      "head": 222_894,
    }
    assert sum(parts.values()) == 14_197_326

  def test_a_semantic_graph_block_by_part(self):
    features = jnp.ones((1, 8, 196, 768)), jnp.ones((1, 8, 512))
    _, params = abstract(FusionClassifier(VARIANTS["base"], 174), *features)
    assert count_parameters(params["semantic_graph_0"]) == {
      "attention": 2_362_368,
      "ffn": 2_361_600,
      "norm": 1_536,
      "ffn_norm": 1_536,
      "offset_bias": 5_832,
      "similarity_scale": 8,
      "attention_scale": 768,
      "ffn_scale": 768,
    }

  def test_a_narrow_semantic_graph_by_hand(self):
    """LN and down to 256; Q, K, V, O; FFN to 512 and back; two LN, two LayerScales; biases; up to 768."""
    inner = 4 * (256 * 256 + 256) + (256 * 512 + 512 + 512 * 256 + 256) + 2 * 512 + 2 * 256 + 8 * 729 + 8
    expected = 2 * 768 + (768 * 256 + 256) + inner + (256 * 768 + 768)
    assert self.parts(VARIANTS["efficient"])["semantic_graph_0"] == expected == 929_232

  def test_the_limit_counts_no_auxiliary_heads_and_names_the_parts(self):
    base = dataclasses.replace(VARIANTS["base"], auxiliary=True)
    features = jnp.ones((1, 8, 196, 768)), jnp.ones((1, 8, 512))
    _, params = abstract(FusionClassifier(base, 174), *features)
    assert require_trainable(params, 14_197_326) == count_parameters(params)
    with pytest.raises(ConfigError) as raised:
      require_trainable(params, 14_197_325)
    message = str(raised.value)
    assert message.startswith("model.max_trainable = 14,197,325: 14,197,326 parameters would be trained")
    assert re.search(r"\n  semantic_graph_0 +4,734,416$", message)
    assert re.search(r"\n  auxiliary_0 +225,454\n", message)

  def test_wide_motion_features_exceed_twenty_million_in_base_only(self):
    assert round(sum(self.parts(VARIANTS["base"], motion_width=1024).values()) / 1e6, 1) == 21.5
    assert sum(self.parts(VARIANTS["efficient"], motion_width=1024).values()) < 20e6


class TestOutputs:
  def test_names_and_shapes(self):
    outputs, _ = abstract(network_of(auxiliary=True), capture=True)
    assert set(outputs) == {"logits", "auxiliary", "intermediates"}
    assert outputs["logits"].shape == (2, 5)
    assert [logits.shape for logits in outputs["auxiliary"]] == [(2, 5), (2, 5)]
    captured = {name: x.shape for name, x in flatten(outputs["intermediates"]).items()}
    assert captured == {
      "attention/semantic_graph_0": (2, 4, 2, 16, 16),
      "attention/motion_graph_0": (2, 2, 4, 4),
      "attention/bcast_1/motion_to_semantic": (2, 2, 64, 4),
      "attention/bcast_1/semantic_to_motion": (2, 2, 4, 64),
      "attention/merge_2": (2, 4, 4, 4),
      "attention/bcast_2/motion_to_semantic": (2, 2, 16, 4),
      "attention/bcast_2/semantic_to_motion": (2, 2, 4, 16),
      "attention/pool_semantic": (2, 2, 16),
      "attention/pool_motion": (2, 2, 4),
      "tokens/semantic_0": (2, 4, 16, 12),
      "tokens/motion_0": (2, 4, 1, 10),
      "tokens/semantic_1": (2, 4, 16, 12),
      "tokens/motion_1": (2, 4, 1, 10),
      "tokens/semantic_2": (2, 4, 4, 12),
      "tokens/motion_2": (2, 4, 1, 10),
      "pooled/semantic": (2, 12),
      "pooled/motion": (2, 10),
    }

  def test_nothing_but_logits_unless_asked(self):
    outputs, params = abstract(network_of())
    assert set(outputs) == {"logits"}
    assert not [name for name in params if name.startswith("auxiliary")]

  def test_motion_grids_and_flat_frames(self):
    network = FusionClassifier(TINY, 5, grid=(2, 8), motion_grid=(2, 3))
    outputs, params = abstract(network, motion=jnp.ones((2, 4, 6, 10)), capture=True)
    attention = outputs["intermediates"]["attention"]
    assert attention["motion_graph_0"].shape == (2, 2, 24, 24)
    assert attention["bcast_2"]["motion_to_semantic"].shape == (2, 2, 4 * 4, 24)
    assert params["motion_graph_0"]["offset_bias"].shape == (2, 7 * 3 * 5)
    assert params["semantic_graph_0"]["offset_bias"].shape == (2, 3 * 15)

  @pytest.mark.parametrize(("stream", "other"), [("semantic", "motion"), ("motion", "semantic")])
  def test_a_single_stream_has_the_same_parts_without_the_exchange(self, stream, other):
    features = {"semantic": SEMANTIC, "motion": MOTION} | {other: None}
    outputs, params = abstract(network_of(streams=stream), **features)
    _, both = abstract(network_of())
    assert outputs["logits"].shape == (2, 5)
    assert set(params) == {name for name in both if not name.startswith("bcast") and other not in name} - (
      {"merge_2"} if stream == "motion" else set()
    )
    same = [f"{stream}_graph_0", f"pool_{stream}"]
    for name in same:
      assert jax.tree.map(jnp.shape, params[name]) == jax.tree.map(jnp.shape, both[name])

  def test_late_fusion_has_no_layers(self):
    outputs, params = abstract(network_of(windows=(), merge_before=(), auxiliary=True))
    assert (outputs["logits"].shape, outputs["auxiliary"]) == ((2, 5), ())
    assert set(params) == {"semantic_graph_0", "motion_graph_0", "pool_semantic", "pool_motion", "output_norm", "head"}

  def test_switches_change_the_parameters_they_name(self):
    _, none = abstract(network_of(graph_neighbours="none"))
    assert not [name for name in none if "graph" in name]
    _, gatv2 = abstract(network_of(graph_score="gatv2"))
    assert gatv2["semantic_graph_0"]["attention"]["score"].shape == (2, 6)

  def test_impossible_features_are_refused(self):
    refused(
      "15 semantic tokens a frame are not a grid of 3 x 3; give the rows and columns",
      network_of(),
      jnp.ones((2, 4, 15, 12)),
    )
    refused("differ in time", network_of(), motion=jnp.ones((2, 3, 10)))
    refused("fusion.streams = 'both' needs motion features and there are none", network_of(), motion=None)
    refused("the 3 x 3 grid before layer 2 has no 2x2 merge", network_of(), jnp.ones((2, 4, 9, 12)))
    refused("fusion.heads = 2 does not divide the motion width 9", network_of(), motion=jnp.ones((2, 4, 9)))


# One layer with everything that a layer can have, which compiles in a fraction of the time.
SHORT = {"windows": (1,), "merge_before": (1,)}
UP = ("semantic_up", "motion_up")


def zero_up(variables):
  """The variables with the up-projections of the first layer at zero, as they are initialised."""
  layer = variables["params"]["bcast_1"]
  layer = layer | {name: jax.tree.map(jnp.zeros_like, layer[name]) for name in UP}
  return {"params": variables["params"] | {"bcast_1": layer}}


@pytest.fixture(scope="module")
def variables():
  return drawn_variables(network_of(auxiliary=True, **SHORT), SEMANTIC, MOTION)


def loss_of(network):
  def loss(variables):
    outputs = network.apply(variables, SEMANTIC, MOTION)
    return sum((logits**2).sum() for logits in (outputs["logits"], *outputs.get("auxiliary", ())))

  return loss


@pytest.fixture(scope="module")
def loss_and_gradient():
  return jax.jit(jax.value_and_grad(loss_of(network_of(auxiliary=True, **SHORT))))


def test_up_projections_start_at_zero():
  network = network_of()
  init = jax.jit(lambda key: {n: network.init(key, SEMANTIC, MOTION)["params"]["bcast_2"][n] for n in UP})
  assert not any(leaf.any() for leaf in jax.tree.leaves(init(jax.random.key(0))))


@pytest.fixture(scope="module")
def forward():
  network = network_of(auxiliary=True, **SHORT)
  return jax.jit(lambda v, s, m: network.apply(v, s, m, capture=True))


def test_streams_are_independent_at_the_start(variables, forward):
  """With the up-projections at zero the pooled vector of a stream does not depend on the other stream."""

  def pooled(variables, semantic, motion):
    return forward(variables, semantic, motion)["intermediates"]["pooled"]

  start = zero_up(variables)
  reference = pooled(start, SEMANTIC, MOTION)
  other_motion, other_semantic = pooled(start, SEMANTIC, MOTION[::-1] * 3), pooled(start, SEMANTIC[::-1] * 3, MOTION)
  np.testing.assert_array_equal(reference["semantic"], other_motion["semantic"])
  np.testing.assert_array_equal(reference["motion"], other_semantic["motion"])
  later = pooled(variables, SEMANTIC, MOTION[::-1] * 3)["semantic"] - pooled(variables, SEMANTIC, MOTION)["semantic"]
  assert np.abs(later).max() > 1e-3


def test_normalised_input_makes_the_size_of_features_irrelevant():
  """Tokens at 3 times + 1 and 10 times their values; what is normalised has no parameter more."""
  changed = {}
  for norm in (False, True):
    network = network_of(input_norm=norm, **SHORT)
    variables = drawn_variables(network, SEMANTIC, MOTION)
    logits = jax.jit(lambda s, m, network=network, variables=variables: network.apply(variables, s, m)["logits"])
    changed[norm] = np.abs(logits(3 * SEMANTIC + 1, 10 * MOTION) - logits(SEMANTIC, MOTION)).max()
  assert changed[True] < 1e-4 < 1e-2 < changed[False]
  plain, normalised = (abstract(network_of(input_norm=norm, **SHORT))[1] for norm in (False, True))
  assert count_parameters(plain) == count_parameters(normalised)


SYMMETRIC = {"relative_bias": "absolute", "time_embedding": False, "pooling": "mean", "graph_ffn_ratio": 0.0}


@pytest.mark.parametrize(
  ("changes", "sees"), [(SYMMETRIC, False), (SYMMETRIC | {"relative_bias": "signed"}, True)], ids=["unsigned", "signed"]
)
def test_only_signed_time_tells_a_clip_from_its_reversal(changes, sees):
  network = network_of(**SHORT, **changes)
  variables = drawn_variables(network, SEMANTIC, MOTION)
  logits = jax.jit(lambda s, m: network.apply(variables, s, m)["logits"])
  difference = np.abs(logits(SEMANTIC, MOTION) - logits(SEMANTIC[:, ::-1], MOTION[:, ::-1])).max()
  assert difference > 1e-2 if sees else difference < 1e-5


def test_recomputing_layers_changes_no_value_and_no_gradient():
  few = {"graph_ffn_ratio": 0.0, "bcast_ffn_ratio": 0.0, "pooling": "mean", "windows": (1,), "merge_before": ()}
  few |= {"motion_blocks": 0, "layer_scale": 0.0}
  plain, recomputing = (loss_of(network_of(remat=remat, **few)) for remat in (False, True))
  variables = drawn_variables(network_of(**few), SEMANTIC, MOTION)
  equations = jax.make_jaxpr(recomputing)(variables).jaxpr.eqns
  recomputed = [equation for equation in equations if "prevent_cse" in equation.params]
  assert len(recomputed) == 2  # a graph block and a B-CAST layer
  expected, actual = (jax.jit(jax.value_and_grad(loss))(variables) for loss in (plain, recomputing))
  for name, value in flatten({"loss": expected[0], **expected[1]}).items():
    other = flatten({"loss": actual[0], **actual[1]})[name]
    np.testing.assert_allclose(other, value, rtol=1e-4, atol=1e-5 * float(jnp.abs(value).max()) + 1e-5)


# Added to all logits of a row of a softmax alike, so that they cancel: a bias of the keys, and the bias of the norm
# before the keys of a pool or the scores of a merge.
CANCELLED = re.compile(r"key/bias|(pool_\w+|merge_\d)/norm/bias")


def test_every_parameter_learns_unless_it_cancels_in_a_softmax(variables, loss_and_gradient):
  gradient = flatten(loss_and_gradient(variables)[1]["params"])
  largest = {name: float(jnp.abs(g).max()) for name, g in gradient.items()}
  still = {name for name, size in largest.items() if size < 1e-6 * max(largest.values())}
  assert still == {name for name in gradient if CANCELLED.search(name)}


def test_zero_initialised_layers_learn_after_one_step(variables, loss_and_gradient):
  """At step 0 only the up-projections of a B-CAST layer have a gradient, after one step all of it has."""

  def learning(variables):
    _, gradient = loss_and_gradient(variables)
    flat = flatten(gradient["params"]["bcast_1"])
    return {name for name, g in flat.items() if float(jnp.abs(g).max()) > 0 and not CANCELLED.search(name)}, gradient

  start = zero_up(variables)
  names, gradient = learning(start)
  assert names == {f"{name}/{leaf}" for name in UP for leaf in ("kernel", "bias")}
  names, _ = learning(jax.tree.map(lambda p, g: p - 1e-3 * g, start, gradient))
  assert names == {name for name in flatten(start["params"]["bcast_1"]) if not CANCELLED.search(name)}


def test_compute_dtype_leaves_parameters_softmax_and_logits_in_float32():
  outputs, params = abstract(network_of(jnp.bfloat16, auxiliary=True), capture=True)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
  dtypes = {name: str(x.dtype) for name, x in flatten(outputs["intermediates"]).items()}
  assert {dtypes[name] for name in dtypes if name.startswith("tokens")} == {"bfloat16"}
  assert {dtypes[name] for name in dtypes if not name.startswith("tokens")} == {"float32"}
  assert outputs["logits"].dtype == outputs["auxiliary"][0].dtype == jnp.float32


def test_bfloat16_computes_the_same_up_to_rounding(variables, forward):
  network = network_of(jnp.bfloat16, auxiliary=True, **SHORT)
  rounded = jax.jit(lambda v: network.apply(v, SEMANTIC, MOTION)["logits"])(variables)
  exact = forward(variables, SEMANTIC, MOTION)["logits"]
  assert 0 < np.abs(rounded - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
  "changes",
  [
    {"dropout": 0.5, "streams": "semantic"},
    {"drop_path": 0.5, "graph_neighbours": "none"},
    {"drop_path": 0.5, "streams": "motion"},
  ],
  ids=["dropout", "B-CAST drop path", "graph drop path"],
)
def test_training_draws_and_evaluation_does_not(changes):
  network = network_of(pooling="mean", **SHORT, **changes)
  variables = drawn_variables(network, SEMANTIC, MOTION)
  train = jax.jit(lambda key: network.apply(variables, SEMANTIC, MOTION, train=True, rngs={"dropout": key})["logits"])
  draws = np.stack([train(jax.random.key(seed)) for seed in range(8)])
  assert draws.std(0).max() > 1e-3
  np.testing.assert_array_equal(train(jax.random.key(0)), draws[0])
  jax.eval_shape(network.apply, variables, SEMANTIC, MOTION)  # needs no random stream


LATE = {"graph_neighbours": "none", "windows": (), "merge_before": ()}


class TestBaselines:
  """Late fusion and what is pooled otherwise, as switches of the same network."""

  @staticmethod
  def logits(semantic=SEMANTIC, motion=MOTION, **changes):
    network = network_of(**changes)
    return np.asarray(jax.jit(network.apply)(drawn_variables(network, SEMANTIC, MOTION), semantic, motion)["logits"])

  def shuffled(self, x, axis):
    return np.take(x, np.random.default_rng(0).permutation(x.shape[axis]), axis)

  def test_the_mean_is_blind_to_the_order_of_frames_and_tokens(self):
    base = self.logits(**LATE, pooling="mean")
    for semantic in (self.shuffled(SEMANTIC, 1), self.shuffled(SEMANTIC, 2)):
      np.testing.assert_allclose(self.logits(semantic, **LATE, pooling="mean"), base, atol=1e-5)

  @pytest.mark.parametrize("pooling", ["flat", "lstm", "scores"])
  def test_what_keeps_frames_is_blind_to_the_order_of_their_tokens(self, pooling):
    changes = {**LATE, "pooling": pooling, "lstm_width": 6}
    base = self.logits(**changes)
    np.testing.assert_allclose(self.logits(self.shuffled(SEMANTIC, 2), **changes), base, atol=1e-5)

  def test_scores_of_frames_are_blind_to_the_order_of_pairs_of_frame_and_segment_and_the_others_are_not(self):
    def moved(pooling):
      changes = {**LATE, "pooling": pooling, "lstm_width": 6}
      return np.abs(self.logits(SEMANTIC[:, ::-1], MOTION[:, ::-1], **changes) - self.logits(**changes)).max()

    assert moved("scores") < 1e-5 and moved("flat") > 0.1 and moved("lstm") > 0.01

  def test_scores_are_the_mean_of_what_each_frame_alone_gets(self):
    changes = {**LATE, "pooling": "scores"}
    network = network_of(**changes)
    variables = drawn_variables(network, SEMANTIC, MOTION)
    each = [jax.jit(network.apply)(variables, SEMANTIC[:, t : t + 1], MOTION[:, t : t + 1])["logits"] for t in range(4)]
    np.testing.assert_allclose(self.logits(**changes), np.mean(each, 0), atol=1e-5)

  @pytest.mark.parametrize(
    ("changes", "parts"),
    [
      # Norm of 12 + 10 channels and a classifier of 5 on them.
      ({"pooling": "mean"}, {"output_norm": 44, "head": 22 * 5 + 5}),
      ({"pooling": "flat"}, {"output_norm": 2 * 88, "head": 88 * 5 + 5}),
      ({"pooling": "scores"}, {"output_norm": 44, "head": 22 * 5 + 5}),
      # 4 gates of 6 from 22 inputs and 6 states, with one bias each; norms before and after.
      (
        {"pooling": "lstm", "lstm_width": 6},
        {"pool_frames": 44 + 4 * (22 * 6 + 6 * 6 + 6), "output_norm": 12, "head": 6 * 5 + 5},
      ),
      (
        {"pooling": "mean", "join": "mlp", "join_width": 7},
        {"join": 44 + 22 * 7 + 7, "output_norm": 14, "head": 7 * 5 + 5},
      ),
      (
        {"pooling": "mean", "join": "product", "join_width": 7},
        {"join": 24 + 20 + 12 * 7 + 7 + 10 * 7 + 7, "output_norm": 14, "head": 7 * 5 + 5},
      ),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if "pooling" in value else "",
  )
  def test_parameters_by_hand(self, changes, parts):
    assert count_parameters(abstract(network_of(**LATE, **changes))[1]) == parts

  def test_vanilla_layers_stand_where_those_of_b_cast_stood(self):
    outputs, params = abstract(network_of(exchange="vanilla"), capture=True)
    assert {name for name in params if "graph" not in name} == {
      *("vanilla_1", "vanilla_2", "merge_2", "pool_semantic", "pool_motion", "output_norm", "head"),
    }
    assert set(outputs["intermediates"]["attention"]["vanilla_1"]) == {"motion_to_semantic", "semantic_to_motion"}

  def test_auxiliary_heads_and_single_streams_go_with_every_pooling(self):
    for pooling in ("mean", "flat", "lstm", "scores"):
      outputs, _ = abstract(network_of(pooling=pooling, lstm_width=6, auxiliary=True))
      assert [x.shape for x in outputs["auxiliary"]] == [(2, 5), (2, 5)] and outputs["logits"].shape == (2, 5)
      alone, _ = abstract(network_of(pooling=pooling, lstm_width=6, streams="motion", join="product"), None)
      assert alone["logits"].shape == (2, 5)
