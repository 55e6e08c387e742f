import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.layers.attention import MultiHeadAttention, attend, masked_softmax, merge_heads, split_heads
from tests.layers.variables import drawn_variables

RANDOM = np.random.default_rng(0)

# two keys whose logits for the one query are log 3 and 0: weights 3/4 and 1/4
QUERY = jnp.asarray([[[1.0]]])  # [K, Q, E]
KEY = jnp.log(jnp.asarray([[[3.0], [1.0]]]))  # [K, S, E]
VALUE = jnp.asarray([[[4.0, 0.0], [0.0, 8.0]]])  # [K, S, F]


def test_fractions_by_hand():
  out, weights = attend(QUERY, KEY, VALUE)
  np.testing.assert_allclose(weights, [[[3 / 4, 1 / 4]]], atol=1e-6)
  np.testing.assert_allclose(out, [[[3, 2]]], atol=1e-5)


def test_bias_is_added_to_the_logits():
  """log 3 more on the second key makes both equal."""
  _, weights = attend(QUERY, KEY, VALUE, bias=jnp.log(jnp.asarray([1.0, 3.0])))
  np.testing.assert_allclose(weights, [[[1 / 2, 1 / 2]]], atol=1e-6)


def test_logits_are_divided_by_the_root_of_the_width():
  """Four equal channels: the dot product is four times, the root of the width two times that of one channel."""
  wide = (jnp.repeat(QUERY, 4, -1), jnp.repeat(KEY, 4, -1), VALUE)
  np.testing.assert_allclose(attend(*wide)[1], [[[9 / 10, 1 / 10]]], atol=1e-6)  # 3^2 : 1


def test_masked_keys_weigh_exactly_nothing():
  mask = jnp.asarray([[True, False, True], [False, False, True]])
  weights = masked_softmax(jnp.asarray([[0.0, 1e4, 0.0], [5.0, 5.0, -1e4]]), mask)
  np.testing.assert_array_equal(weights, [[0.5, 0, 0.5], [0, 0, 1]])


def test_softmax_is_float32_and_the_output_has_the_dtype_of_the_values():
  half = [x.astype(jnp.bfloat16) for x in (QUERY, KEY, VALUE)]
  out, weights = jax.eval_shape(attend, *half)
  assert (out.dtype, weights.dtype) == (jnp.bfloat16, jnp.float32)


def test_heads_are_split_in_order_and_merged_again():
  x = jnp.arange(12.0).reshape(2, 6)  # [T, D]
  heads = split_heads(x, 3)  # [K, T, E]
  np.testing.assert_array_equal(heads[1], [[2, 3], [8, 9]])
  np.testing.assert_array_equal(merge_heads(heads), x)


def test_module_is_the_formula():
  attention = MultiHeadAttention(heads=2, width=6, out_width=5)
  q, s = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=(7, 8))
  variables = drawn_variables(attention, q, s)
  out, weights = jax.jit(lambda v: attention.apply(v, q, s, capture=True))(variables)
  p = jax.tree.map(np.asarray, variables["params"])
  query, key, value = (x @ p[name]["kernel"] + p[name]["bias"] for name, x in (("query", q), ("key", s), ("value", s)))
  z = []
  for head in (slice(0, 3), slice(3, 6)):
    e = np.exp(np.asarray(query[:, head] @ key[:, head].T) / np.sqrt(3))
    z.append(e / e.sum(-1, keepdims=True) @ value[:, head])
  expected = np.concatenate(z, -1) @ p["out"]["kernel"] + p["out"]["bias"]
  np.testing.assert_allclose(out, expected, atol=1e-5)
  assert weights.shape == (2, 3, 7)


def test_switches():
  attention = MultiHeadAttention(2, 6, 5, key_bias=False, out_kernel_init=jax.nn.initializers.zeros)
  x = jnp.ones((3, 4))
  (_, weights), variables = jax.eval_shape(attention.init_with_output, jax.random.key(0), x, x)
  assert weights is None
  has_bias = {name: "bias" in part for name, part in variables["params"].items()}
  assert has_bias == {"query": True, "key": False, "value": True, "out": True}
  out_kernel = jax.jit(lambda: attention.init(jax.random.key(0), x, x)["params"]["out"]["kernel"])()
  np.testing.assert_array_equal(out_kernel, np.zeros((6, 5)))


def test_one_key_gives_queries_and_keys_no_gradient():
  """Why the fusion refuses single keys."""
  attention = MultiHeadAttention(2, 6, 4)
  q, s = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=(1, 4))
  variables = drawn_variables(attention, q, s)
  gradient = jax.jit(jax.grad(lambda v: (attention.apply(v, q, s)[0] ** 2).sum()))(variables)["params"]
  largest = {name: float(jnp.abs(part["kernel"]).max()) for name, part in gradient.items()}
  assert largest["query"] == largest["key"] == 0
  assert min(largest["value"], largest["out"]) > 0


def test_uneven_heads_are_refused():
  with pytest.raises(ConfigError, match=r"width 6 can't be cut into 4 equal heads; choose a divisor of the width"):
    MultiHeadAttention(4, 6, 6).init(jax.random.key(0), jnp.ones((2, 6)), jnp.ones((2, 6)))
