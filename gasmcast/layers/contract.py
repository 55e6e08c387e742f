"""The one matrix product of the library: operands in the compute dtype, sums in float32, forwards and backwards."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def contract(equation: str, a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
  """`jnp.einsum(equation, a, b)` of two arrays of one dtype, as float32.

  Asking an einsum of bfloat16 operands for a float32 result makes its gradient a product of a float32 with a
  bfloat16 array, which the compiler widens to float32 at half the speed or less. So the gradient is rounded to the
  operands' dtype before its two products (which sum in float32 again).
  """
  if a.dtype == b.dtype == jnp.float32:
    return jnp.einsum(equation, a, b)
  return _contract(equation, a, b)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _contract(equation: str, a: Array, b: Array) -> Array:
  return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def _forward(equation: str, a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
  return _contract(equation, a, b), (a, b)


def _backward(equation: str, operands: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
  _, pullback = jax.vjp(functools.partial(jnp.einsum, equation), *operands)
  return pullback(gradient.astype(operands[0].dtype))


_contract.defvjp(_forward, _backward)
