"""What is bfloat16 and what is not in a training step of the real system, read from its program without running it."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from gasmcast.core import rules
from gasmcast.systems.gasmcast import GasmCastSystem, example_batch
from gasmcast.systems.gasmcast_config import parse_model
from gasmcast.training.optim import OptimConfig, make_optimizer

CLASSES = ("up", "down", "left", "right")
EXACT = (
  "exp",
  "log",
  "rsqrt",
  "sqrt",
  "erf",
  "tanh",
  "logistic",
  "div",
  "reduce_max",
  "argmax",
)  # of softmax and norms


def traced(dtype):
  """(shapes of the state, its gradient's program) of the tiny quickstart in this dtype; nothing is allocated."""
  model = quickstart.get_config("runlocal").model.to_dict() | {"dtype": dtype}
  system = GasmCastSystem(parse_model(model), CLASSES)
  batch = example_batch(16, 32, 2) | {"action": np.zeros(2, np.int32)}
  fresh = jax.eval_shape(system.init, jax.random.key(0), batch)
  tx, _ = make_optimizer(OptimConfig(), steps=4000)

  def objective(params, collections):
    outputs, _ = system.apply({"params": params, **collections}, batch, train=True, rngs={"dropout": jax.random.key(0)})
    return system.loss(outputs, batch)[0]

  collections = {name: leaf for name, leaf in fresh.items() if name != "params"}
  program = jax.make_jaxpr(jax.value_and_grad(objective))(fresh["params"], collections)
  gradients = rules.flatten(jax.eval_shape(jax.grad(objective), fresh["params"], collections))
  updates = jax.eval_shape(tx.update, gradients, jax.eval_shape(tx.init, gradients), gradients)
  return fresh, gradients, updates, program


def equations(program):
  """Every equation of a program and of those inside its equations."""
  for equation in program.eqns:
    yield equation
    for value in equation.params.values():
      for inner in value if isinstance(value, (tuple, list)) else (value,):
        inner = getattr(inner, "jaxpr", inner)  # a closed one
        if hasattr(inner, "eqns"):
          yield from equations(inner)


@pytest.fixture(scope="module")
def half():
  return traced("bfloat16")


def test_parameters_gradients_statistics_and_optimiser_state_are_float32(half):
  fresh, gradients, updates, _ = half
  assert {leaf.dtype for leaf in jax.tree.leaves((fresh, gradients))} == {jnp.dtype("float32")}
  assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32"), jnp.dtype("int32")}  # and counts


def test_products_are_of_bfloat16_and_none_mixes_widths(half):
  products = collections.Counter()
  for equation in equations(half[3].jaxpr):
    if equation.primitive.name in ("dot_general", "conv_general_dilated"):
      a, b = (operand.aval.dtype.name for operand in equation.invars)
      assert a == b, equation
      products[a] += 1
  # Score of the token merge, logits and pooling weights are float32 by design; the backbones and blocks are not.
  assert products["bfloat16"] > 0.8 * sum(products.values()), products


def test_softmax_norms_and_the_loss_are_computed_in_float32(half):
  found, narrow = collections.Counter(), collections.Counter()
  for equation in equations(half[3].jaxpr):
    kinds = {variable.aval.dtype.name for variable in equation.invars if hasattr(variable, "aval")}
    (narrow if "bfloat16" in kinds else found)[equation.primitive.name] += 1
  assert {"exp", "rsqrt", "log", "reduce_max", "div"} <= set(found)
  assert not {"rsqrt", "sqrt", "log", "reduce_max", "div", "logistic", "tanh"} & set(narrow)
  assert narrow["exp"] == narrow["erfc"] > 0  # of the slope of GELU, an activation, and of no softmax


def test_with_float32_nothing_is_bfloat16():
  _, _, _, program = traced("float32")
  kinds = {str(variable.aval.dtype) for equation in equations(program.jaxpr) for variable in equation.outvars}
  assert "bfloat16" not in kinds and "float32" in kinds
