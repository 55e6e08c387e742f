import jax
import jax.numpy as jnp
import numpy as np

from gasmcast.layers.contract import contract


def products(function, *operands):
  """(operand dtypes, result dtype) of every matrix product in the traced function."""
  equations = jax.make_jaxpr(function)(*operands).jaxpr.eqns
  dots = [equation for equation in equations if equation.primitive.name == "dot_general"]
  return [(*(str(v.aval.dtype) for v in dot.invars), str(dot.outvars[0].aval.dtype)) for dot in dots]


def test_bfloat16_sums_in_float32():
  """256 + 1 is not a bfloat16, 1 + ... + 1 (257 times) is exact in float32."""
  ones = jnp.ones(257, jnp.bfloat16)
  y = contract("i,i->", ones, ones)
  assert (y.dtype, float(y)) == (jnp.float32, 257.0)


def test_no_product_mixes_dtypes_backwards():
  a, b = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4), jnp.bfloat16)
  gradient = jax.grad(lambda a, b: contract("ij,jk->ik", a, b).sum(), argnums=(0, 1))
  dtypes = products(gradient, a, b)
  assert len(dtypes) >= 2
  assert {operands for pair in dtypes for operands in pair[:2]} == {"bfloat16"}


def test_gradient_by_hand():
  """d/da sum(a b) is the row sums of b, d/db the column sums of a; both have the operands' dtype."""
  for dtype in (jnp.float32, jnp.bfloat16):
    a = jnp.asarray([[1.0, 2.0], [3.0, 4.0]], dtype)
    b = jnp.asarray([[5.0, 6.0], [7.0, 8.0]], dtype)
    da, db = jax.grad(lambda a, b: contract("ij,jk->ik", a, b).sum(), argnums=(0, 1))(a, b)
    assert da.dtype == db.dtype == dtype
    np.testing.assert_array_equal(da.astype(np.float32), [[11, 15], [11, 15]])
    np.testing.assert_array_equal(db.astype(np.float32), [[4, 4], [6, 6]])
