import jax
import jax.numpy as jnp
import numpy as np

from gasmcast.heads.pooling import AttentivePooling, RecurrentPooling, frame_means, mean_pool
from tests.layers.variables import drawn_variables

X = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float32)  # [B, T, N, D]


def apply(pool, variables, x):
  return jax.jit(pool.apply)(variables, x)


def test_mean():
  np.testing.assert_allclose(mean_pool(X), np.asarray(X).reshape(2, 12, 6).mean(1), atol=1e-6)


def test_each_query_weighs_its_own_channels():
  pool = AttentivePooling(heads=2, key_width=4)
  pooled, weights = apply(pool, drawn_variables(pool, X), X)
  assert weights.shape == (2, 2, 12)
  np.testing.assert_allclose(weights.sum(-1), np.ones((2, 2)), atol=1e-6)
  flat = np.asarray(X).reshape(2, 12, 6)
  expected = [np.einsum("bn,bnd->bd", weights[:, k], flat[..., 3 * k : 3 * k + 3]) for k in range(2)]
  np.testing.assert_allclose(pooled, np.concatenate(expected, -1), atol=1e-6)


def test_time_bias_by_hand():
  """Without a query only the bias counts: log 3 on the first of two frames gives it 3/4 of the weight."""
  pool = AttentivePooling(heads=1, key_width=2)
  x = jnp.asarray([[[[4.0]], [[8.0]]]])
  variables = drawn_variables(pool, x)
  variables["params"] |= {"query": jnp.zeros((1, 2)), "time_bias": jnp.log(jnp.asarray([[3.0, 1.0]]))}
  pooled, weights = apply(pool, variables, x)
  np.testing.assert_allclose(weights, [[[3 / 4, 1 / 4]]], atol=1e-6)
  np.testing.assert_allclose(pooled, [[5]], atol=1e-5)


def test_order_of_frames_is_seen_through_the_time_bias_only():
  for time_bias in (False, True):
    pool = AttentivePooling(heads=2, key_width=4, time_bias=time_bias)
    variables = drawn_variables(pool, X)
    forward, backward = (apply(pool, variables, x)[0] for x in (X, X[:, ::-1]))
    assert (np.abs(forward - backward).max() > 1e-2) == time_bias


def test_time_bias_starts_with_the_deviation_asked_for():
  x = jnp.ones((1, 100, 1, 16))
  init = jax.jit(lambda key: AttentivePooling(8, 8, bias_std=0.5).init(key, x)["params"]["time_bias"])
  bias = init(jax.random.key(0))
  assert bias.shape == (8, 100)
  assert 0.45 < float(bias.std()) < 0.55


def test_sums_in_float32():
  pool = AttentivePooling(heads=2, key_width=4, dtype=jnp.bfloat16)
  (pooled, weights), _ = jax.eval_shape(pool.init_with_output, jax.random.key(0), X.astype(jnp.bfloat16))
  assert pooled.dtype == weights.dtype == jnp.float32


def test_the_mean_of_each_frame():
  np.testing.assert_allclose(frame_means(X), np.asarray(X).mean(2), atol=1e-6)


def test_an_lstm_by_hand():
  """Two frames through the gates of Hochreiter and Schmidhuber with a forget gate, in numpy."""
  frames = np.asarray(X).mean(2)[:, :2]  # [B, T, D]
  pool = RecurrentPooling(width=3)
  variables = drawn_variables(pool, frames)
  params = variables["params"]
  x = (frames - frames.mean(-1, keepdims=True)) / np.sqrt(frames.var(-1, keepdims=True) + 1e-6)
  x = x * params["norm"]["scale"] + params["norm"]["bias"]
  (cell,) = [tree for name, tree in params.items() if name != "norm"]
  cell = next(iter(cell.values())) if "ii" not in cell else cell
  sigmoid = lambda a: 1 / (1 + np.exp(-a))
  state, memory = np.zeros((2, 3)), np.zeros((2, 3))
  for t in range(2):
    gate = {
      k: x[:, t] @ cell[f"i{k}"]["kernel"] + state @ cell[f"h{k}"]["kernel"] + cell[f"h{k}"]["bias"] for k in "ifgo"
    }
    memory = sigmoid(gate["f"]) * memory + sigmoid(gate["i"]) * np.tanh(gate["g"])
    state = sigmoid(gate["o"]) * np.tanh(memory)
  np.testing.assert_allclose(apply(pool, variables, frames), state, atol=1e-5)
