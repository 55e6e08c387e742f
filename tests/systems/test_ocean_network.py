"""The network of OCEAN: its table of layers, its formula for vectors and for tokens, and what it refuses."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.core.rules import flatten, partition
from gasmcast.datasets.first_impressions import TRAITS
from gasmcast.fusion.temporal import sinusoidal_codes
from gasmcast.systems.ocean_network import (
  CompletePersonalityModel,
  OceanConfig,
  abstract_variables,
  parse_model,
  trainable,
)
from tests.fusion.test_temporal import attend, dense, norm
from tests.layers.variables import drawn_variables

RANDOM = np.random.default_rng(0)
STATIC = RANDOM.normal(size=(4, 3, 6)).astype(np.float32)  # [B, Ns, static_dim]
DYNAMIC = RANDOM.normal(size=(4, 5, 7)).astype(np.float32)  # [B, Nd, dynamic_dim]
TINY = CompletePersonalityModel(6, 7, fusion_dim=8, num_heads=2, hidden_dim=5, dropout_rate=0.5)
LAYERS = {
  "cross_attention/static": 512 * 128 + 128,
  "cross_attention/dynamic": 256 * 128 + 128,
  "cross_attention/attention/query": 128 * 512 + 512,  # 4 heads of 128 each
  "cross_attention/attention/key": 128 * 512 + 512,
  "cross_attention/attention/value": 128 * 512 + 512,
  "cross_attention/attention/out": 512 * 128 + 128,
  "cross_attention/norm": 2 * 128,
  "fusion/norm": 2 * 128,
  "head/hidden": 128 * 64 + 64,
  "head/out": 64 * 5 + 5,
}


@pytest.fixture(scope="module")
def variables():
  """Drawn everywhere, the running statistics too."""
  drawn = drawn_variables(TINY, STATIC, DYNAMIC)
  statistics = {"mean": RANDOM.normal(size=8), "var": RANDOM.uniform(0.5, 2.0, 8)}
  return drawn | {"batch_stats": {"fusion": {"norm": jax.tree.map(jnp.float32, statistics)}}}


@pytest.fixture(scope="module")
def apply():
  """Inference with intermediates, compiled once for each shape."""
  return jax.jit(lambda variables, static, dynamic: TINY.apply(variables, static, dynamic, capture=True))


def layers(params):
  counted = {}
  for name, leaf in flatten(params).items():
    layer = name.rsplit("/", 1)[0]
    counted[layer] = counted.get(layer, 0) + math.prod(leaf.shape)
  return counted


class TestCounts:
  def test_layer_by_layer(self):
    variables = abstract_variables(OceanConfig())
    assert layers(variables["params"]) == LAYERS
    assert (LAYERS["cross_attention/static"], LAYERS["cross_attention/dynamic"]) == (65_664, 32_896)
    assert (LAYERS["cross_attention/attention/query"], LAYERS["cross_attention/attention/out"]) == (66_048, 65_664)
    assert (LAYERS["head/hidden"], LAYERS["head/out"]) == (8_256, 325)
    assert layers(variables["batch_stats"]) == {"fusion/norm": 256}
    assert sum(LAYERS.values()) == 371_461 and sum(LAYERS.values()) + 256 == 371_717

  def test_tokens_have_the_same_and_everything_is_trained(self):
    tokens = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 9, 512), (2, 30, 256))]
    variables = jax.eval_shape(CompletePersonalityModel().init, jax.random.key(0), *tokens)
    assert variables == abstract_variables(OceanConfig())
    trained, frozen = partition(variables["params"], trainable(OceanConfig()), "ocean")
    assert sum(math.prod(leaf.shape) for leaf in trained.values()) == 371_461 and not frozen

  def test_the_defaults_of_config_and_module_are_the_same(self):
    assert OceanConfig().build() == CompletePersonalityModel()
    assert OceanConfig(num_heads=2, dtype="bfloat16").build() == CompletePersonalityModel(
      num_heads=2, dtype=jnp.dtype("bfloat16")
    )


@pytest.mark.parametrize("static", ["vector", "tokens"])
@pytest.mark.parametrize("dynamic", ["vector", "tokens"])
def test_the_formula(variables, apply, static, dynamic):
  """Tokens have codes and are averaged after the norm; a vector is a token without a code."""
  s, d = STATIC[:, 0] if static == "vector" else STATIC, DYNAMIC[:, 0] if dynamic == "vector" else DYNAMIC
  outputs = apply(variables, s, d)
  p, statistics = jax.tree.map(np.asarray, (variables["params"], variables["batch_stats"]["fusion"]["norm"]))
  cross = p["cross_attention"]
  x, y = dense(s, cross["static"]), dense(d, cross["dynamic"])
  x = x[:, None] if static == "vector" else x + sinusoidal_codes(3, 8)
  y = y[:, None] if dynamic == "vector" else y + sinusoidal_codes(5, 8)
  x = norm(x + attend(x, y, cross["attention"], 2), cross["norm"]).mean(1)
  scale = p["fusion"]["norm"]["scale"] / np.sqrt(statistics["var"] + 1e-3)
  x = (x - statistics["mean"]) * scale + p["fusion"]["norm"]["bias"]
  expected = dense(np.maximum(dense(x, p["head"]["hidden"]), 0), p["head"]["out"])
  np.testing.assert_allclose(outputs["traits"], expected, atol=2e-5)

  keys = 1 if dynamic == "vector" else 5
  weights = outputs["intermediates"]["attention"]["cross_attention"]
  assert weights.shape == (4, 2, 1 if static == "vector" else 3, keys)
  np.testing.assert_array_equal(outputs["intermediates"]["degenerate"], [keys == 1] * 4)
  assert (weights == 1).all() == (keys == 1)


def test_five_traits_and_nothing_else_unless_asked(variables):
  outputs = jax.eval_shape(TINY.apply, variables, STATIC, DYNAMIC)
  assert set(outputs) == {"traits"} and outputs["traits"].shape == (4, len(TRAITS)) == (4, 5)


def test_a_vector_attends_to_nothing_but_its_value(variables, apply):
  """Queries and keys do not count with a single key."""
  other = flatten(drawn_variables(TINY, STATIC, DYNAMIC, seed=1)["params"])["cross_attention/attention/query/kernel"]
  changed = jax.tree.map(lambda leaf: leaf, variables)
  changed["params"]["cross_attention"]["attention"]["query"]["kernel"] = other
  vectors, tokens = (STATIC[:, 0], DYNAMIC[:, 0]), (STATIC, DYNAMIC)
  np.testing.assert_array_equal(apply(changed, *vectors)["traits"], apply(variables, *vectors)["traits"])
  assert np.abs(apply(changed, *tokens)["traits"] - apply(variables, *tokens)["traits"]).max() > 1e-3


@pytest.mark.parametrize("stream", ["static", "dynamic"])
def test_the_order_of_tokens_matters_by_the_codes_alone(variables, apply, stream, monkeypatch):
  turned = (STATIC[:, ::-1], DYNAMIC) if stream == "static" else (STATIC, DYNAMIC[:, ::-1])
  assert np.abs(apply(variables, *turned)["traits"] - apply(variables, STATIC, DYNAMIC)["traits"]).max() > 1e-3
  monkeypatch.setattr("gasmcast.systems.ocean_network.sinusoidal_codes", lambda time, width: np.zeros((time, width)))
  blind = jax.jit(lambda static, dynamic: TINY.apply(variables, static, dynamic)["traits"])
  np.testing.assert_allclose(blind(*turned), blind(STATIC, DYNAMIC), atol=2e-5)


@pytest.mark.parametrize("tokens", [True, False])
def test_gradients_reach_queries_and_keys_of_tokens_and_not_of_vectors(variables, tokens):
  s, d = (STATIC, DYNAMIC) if tokens else (STATIC[:, 0], DYNAMIC[:, 0])

  def loss(params):
    return (TINY.apply({**variables, "params": params}, s, d)["traits"] ** 2).sum()

  gradients = jax.jit(jax.grad(loss))(variables["params"])
  largest = {name: float(np.abs(leaf).max()) for name, leaf in flatten(gradients).items() if name.endswith("kernel")}
  for name in ("query", "key"):
    gradient = largest.pop(f"cross_attention/attention/{name}/kernel")
    assert gradient > 1e-4 if tokens else gradient == 0
  assert min(largest.values()) > 1e-4


def test_what_never_learns_with_one_key():
  assert LAYERS["cross_attention/attention/query"] + LAYERS["cross_attention/attention/key"] == 132_096


def test_dropout_and_batch_statistics_act_in_training_only(variables, apply):
  plain = dataclasses.replace(TINY, dropout_rate=0.0)
  assert str(jax.make_jaxpr(TINY.apply)(variables, STATIC, DYNAMIC)) == str(
    jax.make_jaxpr(plain.apply)(variables, STATIC, DYNAMIC)
  )

  @jax.jit
  def run(key):
    return TINY.apply(variables, STATIC, DYNAMIC, train=True, rngs={"dropout": key}, mutable=["batch_stats"])

  (first, updated), (second, _) = run(jax.random.key(0)), run(jax.random.key(1))
  assert np.abs(first["traits"] - second["traits"]).max() > 1e-3
  tokens = np.asarray(_fused(variables))
  for name, of_batch in (("mean", tokens.mean(0)), ("var", tokens.var(0))):
    before, after = (state["batch_stats"]["fusion"]["norm"][name] for state in (variables, updated))
    np.testing.assert_allclose(after, 0.99 * before + 0.01 * of_batch, rtol=1e-4, atol=1e-5)


def _fused(variables):
  """What enters the batch norm."""
  _, state = TINY.apply(variables, STATIC, DYNAMIC, mutable=["intermediates"], capture_intermediates=True)
  return state["intermediates"]["cross_attention"]["__call__"][0][0].mean(1)


def test_traits_are_float32_in_bfloat16(variables):
  half = dataclasses.replace(TINY, dtype=jnp.bfloat16)
  traits = jax.jit(half.apply)(variables, STATIC, DYNAMIC)["traits"]
  assert traits.dtype == jnp.float32
  np.testing.assert_allclose(traits, jax.jit(TINY.apply)(variables, STATIC, DYNAMIC)["traits"], atol=0.1)


@pytest.mark.parametrize(
  ("static", "dynamic", "message"),
  [
    ((4, 5), (4, 7), "static features [4, 5] are 5 wide and static_dim = 6; set static_dim = 5, or give the features"),
    ((4, 6), (4, 2, 9), "dynamic features [4, 2, 9] are 9 wide and dynamic_dim = 7; set dynamic_dim = 9"),
    ((6,), (7,), "static features have the shape [clips, 6] or [clips, tokens, 6]; these have [6]."),
    ((4, 6), (4, 0, 7), "dynamic features have the shape [clips, 7] or [clips, tokens, 7]; these have [4, 0, 7]."),
    ((4, 6), (3, 7), "static features of 4 clips and dynamic features of 3: row i of both must be of the same clip."),
  ],
)
def test_other_features_are_refused(static, dynamic, message):
  with pytest.raises(ConfigError, match=re.escape(message)):
    jax.eval_shape(TINY.init, jax.random.key(0), jnp.ones(static), jnp.ones(dynamic))


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"num_head": 4}, "config.model.num_head is not a field; did you mean 'num_heads'?"),
    ({"num_heads": 0}, "config.model: num_heads = 0: use 1 or more."),
    ({"static_dim": -512}, "config.model: static_dim = -512: use 1 or more."),
    ({"fusion_dim": 127}, "config.model: fusion_dim = 127 is odd: the time codes are pairs"),
    ({"dropout_rate": 1.0}, "config.model: dropout_rate = 1.0 is a probability; use a number from 0 to below 1."),
    ({"hidden_dim": "wide"}, "config.model.hidden_dim = 'wide' is of type str; int is needed."),
    ({"dtype": "float16"}, "config.model.dtype = 'float16' is not one of 'float32', 'bfloat16'."),
    ({"max_trainable": -1}, "config.model: max_trainable = -1 is negative; use 0 for no budget."),
  ],
)
def test_impossible_configurations_are_refused_in_one_line(fields, message):
  with pytest.raises(ConfigError, match=re.escape(message)) as raised:
    parse_model(fields)
  assert "\n" not in str(raised.value)


def test_the_module_refuses_impossible_sizes_too():
  with pytest.raises(ConfigError, match="num_heads = 0: use 1 or more."):
    jax.eval_shape(
      CompletePersonalityModel(num_heads=0).init, jax.random.key(0), jnp.ones((1, 512)), jnp.ones((1, 256))
    )
